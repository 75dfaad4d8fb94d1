//! How long a worker's answers took in the last ten seconds, model by model.
//!
//! What is kept is the mean of the logarithm, so the mean is the geometric one. A request that
//! met a pause of five seconds among twenty of a millisecond makes the arithmetic mean 250 times
//! as long, and the geometric one one and a half times; twenty answers a hundred times as slow make
//! it a hundred times as long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use inferring_types::{ModelName, ModelVersion};

use crate::circuit_breaker::MEMORY;

/// The buckets of a window. A second each, as a breaker's.
const BUCKETS: usize = MEMORY.as_secs() as usize;

/// How long answers of one model took.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanTime {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// How many answers.
    pub answers: u32,
    /// The mean of the natural logarithm of the time of each, in seconds.
    pub mean_ln: f64,
}

/// The answer times of one worker.
#[derive(Debug)]
pub struct ModelTimes {
    /// Requests that began earlier are of a past that has been judged.
    since: Instant,
    /// Ordered, so that equal histories give sums that are equal to the last bit.
    models: BTreeMap<ModelName, Vec<(ModelVersion, Window)>>,
}

impl ModelTimes {
    /// Nothing observed; what began before `now` will not be.
    pub fn new(now: Instant) -> Self {
        Self { since: now, models: BTreeMap::new() }
    }

    /// An answer came at `now` that took `time`.
    pub fn observe(&mut self, model: (&ModelName, &ModelVersion), time: Duration, now: Instant) {
        if let Some(second) = self.second(time, now) {
            self.window(model, second).observe(time, second);
        }
    }

    /// A try was given up at `now` after `lasted`, as another worker had answered. It counts as the
    /// latest witness took, or for as long as it lasted where there is none.
    pub fn outrun(&mut self, model: (&ModelName, &ModelVersion), lasted: Duration, now: Instant) {
        if let Some(second) = self.second(lasted, now) {
            let window = self.window(model, second);
            let time = window.witness(second).unwrap_or(lasted);
            window.observe(time, second);
        }
    }

    /// A try that was outrun and not given up has an answer at `now`, which took `time`.
    pub fn witnessed(&mut self, model: (&ModelName, &ModelVersion), time: Duration, now: Instant) {
        if let Some(second) = self.second(time, now) {
            self.window(model, second).witness = Some((time, second));
        }
    }

    /// The second that what took so long until `now` is counted in; `None` for what is of the past.
    fn second(&self, took: Duration, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.since);
        (took <= since).then_some(since.as_secs())
    }

    fn window(
        &mut self,
        (model, version): (&ModelName, &ModelVersion),
        second: u64,
    ) -> &mut Window {
        if !self.models.contains_key(model) {
            self.models.insert(model.clone(), Vec::new());
        }
        let versions = self.models.get_mut(model).expect("it is there now");
        let known = versions.iter().position(|(known, _)| known == version);
        let place = known.unwrap_or_else(|| {
            versions.push((version.clone(), Window::new(second)));
            versions.len() - 1
        });
        &mut versions[place].1
    }

    /// The means of the last ten seconds; models without an answer in them are forgotten.
    pub fn means(&mut self, now: Instant) -> Vec<MeanTime> {
        let second = now.saturating_duration_since(self.since).as_secs();
        let mut means = Vec::new();
        self.models.retain(|model, versions| {
            versions.retain(|(version, window)| {
                let Sum { answers, ln } = window.sum(second);
                if answers > 0 {
                    let (model, version) = (model.clone(), version.clone());
                    let mean_ln = ln / f64::from(answers);
                    means.push(MeanTime { model, version, answers, mean_ln });
                }
                answers > 0
            });
            !versions.is_empty()
        });
        means
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    answers: u32,
    ln: f64,
}

#[derive(Debug)]
struct Window {
    latest: u64,
    buckets: [Sum; BUCKETS],
    /// What the latest witness took, and when it told.
    witness: Option<(Duration, u64)>,
}

impl Window {
    fn new(second: u64) -> Self {
        Self { latest: second, buckets: [Sum::default(); BUCKETS], witness: None }
    }

    /// What the latest witness of the last ten seconds took.
    fn witness(&self, second: u64) -> Option<Duration> {
        let (time, told) = self.witness?;
        (second < told + BUCKETS as u64).then_some(time)
    }

    fn observe(&mut self, time: Duration, second: u64) {
        let second = second.max(self.latest);
        for forgotten in (self.latest + 1..=second).take(BUCKETS) {
            self.buckets[bucket(forgotten)] = Sum::default();
        }
        self.latest = second;
        let sum = &mut self.buckets[bucket(second)];
        sum.answers = sum.answers.saturating_add(1);
        // The logarithm of nothing is no number.
        sum.ln += time.max(Duration::from_nanos(1)).as_secs_f64().ln();
    }

    fn sum(&self, second: u64) -> Sum {
        let first = |second: u64| (second + 1).saturating_sub(BUCKETS as u64);
        (first(second).max(first(self.latest))..=self.latest)
            .map(|second| self.buckets[bucket(second)])
            .fold(Sum::default(), |all, one| Sum {
                answers: all.answers.saturating_add(one.answers),
                ln: all.ln + one.ln,
            })
    }
}

fn bucket(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn means_are_geometric_and_of_each_model_alone() {
        let start = clock::start();
        let now = start + MEMORY;
        let mut times = ModelTimes::new(start);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (one, two) = (ModelVersion::first(), "2".parse().unwrap());
        for _ in 0..19 {
            times.observe((&a, &one), MS, now);
        }
        times.observe((&a, &one), MS * 5000, now);
        times.observe((&a, &two), MS * 7, now);
        times.observe((&b, &one), MS * 9, now);
        let mut means = times.means(now);
        means.sort_by(|x, y| x.answers.cmp(&y.answers).then(x.mean_ln.total_cmp(&y.mean_ln)));
        let seen: Vec<_> = means
            .iter()
            .map(|mean| {
                (mean.model.as_str(), mean.version.as_str(), mean.answers, mean.mean_ln.exp())
            })
            .collect();
        let close = |got: f64, expected: f64| (got / expected - 1.0).abs() < 1e-9;
        assert!(matches!(seen[0], ("a", "2", 1, time) if close(time, 0.007)), "{seen:?}");
        assert!(matches!(seen[1], ("b", "1", 1, time) if close(time, 0.009)), "{seen:?}");
        let expected = 0.001 * 5000_f64.powf(0.05);
        assert!(matches!(seen[2], ("a", "1", 20, time) if close(time, expected)), "{seen:?}");
        assert_eq!(times.means(now + MEMORY), []);
        assert!(times.models.is_empty(), "what is not used costs nothing");
    }

    #[test]
    fn a_witness_speaks_for_those_that_were_outrun_for_ten_seconds() {
        let start = clock::start();
        let mut times = ModelTimes::new(start);
        let (name, version) = ("m".parse().unwrap(), ModelVersion::first());
        let model = (&name, &version);
        let mean = |times: &mut ModelTimes, now| {
            let means = times.means(now);
            let [MeanTime { answers, mean_ln, .. }] = means[..] else { panic!("{means:?}") };
            (answers, (mean_ln.exp() * 1e3).round())
        };
        let second = start + MEMORY;
        times.outrun(model, 20 * MS, second);
        assert_eq!(mean(&mut times, second), (1, 20.0), "there is no witness yet");
        times.witnessed(model, 5000 * MS, second);
        times.outrun(model, 20 * MS, second);
        assert_eq!(mean(&mut times, second), (2, (20.0_f64 * 5000.0).sqrt().round()));
        // It may have been slower than those that were given up: they waited in a queue.
        times.witnessed(model, 10 * MS, second + MEMORY);
        for later in [2 * MEMORY - SECOND, 2 * MEMORY] {
            times.outrun(model, 40 * MS, second + later);
        }
        assert_eq!(mean(&mut times, second + 2 * MEMORY), (2, 20.0), "10 ms, and then 40 again");
    }

    #[test]
    fn what_began_earlier_is_not_observed() {
        let start = clock::start();
        let mut times = ModelTimes::new(start);
        let (model, version) = ("m".parse().unwrap(), ModelVersion::first());
        times.observe((&model, &version), MS * 2, start + MS);
        assert_eq!(times.means(start + MS), []);
        times.observe((&model, &version), MS, start + MS);
        assert_eq!(times.means(start + MS).len(), 1);
    }
}
