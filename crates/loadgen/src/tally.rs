//! Counts and latencies, gathered while a run goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::answer::Answer;
use crate::failure::{Failure, FailureKind};

/// What has been measured so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Requests begun, those of the kind [`FailureKind::Unsent`] included.
    pub(crate) begun: u64,
    /// Requests answered well.
    pub(crate) succeeded: u64,
    /// Of these, from a cache.
    pub(crate) cached: u64,
    /// Connections opened beyond the first ones.
    pub(crate) reconnects: u64,
    /// Of good answers, from the intended start.
    pub(crate) latency: Latencies,
    /// From the intended start to the moment of sending; of an open loop only.
    pub(crate) lateness: Latencies,
    /// Requests of an open loop that were due while every connection was busy.
    pub(crate) backlogged: u64,
    /// Requests that the server was too busy for, by how long it took to say so.
    pub(crate) refusals: Latencies,
    /// What it said to the first of them.
    pub(crate) refusal_sample: Option<String>,
    /// What went wrong.
    pub(crate) failures: BTreeMap<FailureKind, FailureTally>,
    /// Good answers by the worker that gave them.
    pub(crate) workers: BTreeMap<String, WorkerTally>,
    /// The good answers' outputs by the request's index, where they are wanted.
    pub(crate) outputs: Option<BTreeMap<u64, Bytes>>,
}

/// Failures of one kind.
#[derive(Debug)]
pub(crate) struct FailureTally {
    pub(crate) count: u64,
    /// The message of the first.
    pub(crate) sample: String,
}

/// Good answers of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerTally {
    pub(crate) answers: u64,
    pub(crate) cached: u64,
    /// Sum of what the worker says each took.
    pub(crate) inference_time: Duration,
}

impl Tally {
    /// Nothing yet; `keep_outputs` says whether outputs are wanted.
    pub(crate) fn new(keep_outputs: bool) -> Self {
        Self {
            begun: 0,
            succeeded: 0,
            cached: 0,
            reconnects: 0,
            latency: Latencies::default(),
            lateness: Latencies::default(),
            backlogged: 0,
            refusals: Latencies::default(),
            refusal_sample: None,
            failures: BTreeMap::new(),
            workers: BTreeMap::new(),
            outputs: keep_outputs.then(BTreeMap::new),
        }
    }

    pub(crate) fn record_success(&mut self, latency: Duration, answer: &Answer<'_>) {
        self.succeeded += 1;
        self.cached += u64::from(answer.cached);
        self.latency.record(latency);
        let worker = match self.workers.get_mut(&*answer.node_id) {
            Some(worker) => worker,
            None => self.workers.entry(answer.node_id.clone().into_owned()).or_default(),
        };
        worker.answers += 1;
        worker.cached += u64::from(answer.cached);
        worker.inference_time += Duration::from_micros(answer.inference_time_us);
    }

    /// Counts a request that the server was too busy for: nothing went wrong.
    pub(crate) fn record_refusal(&mut self, latency: Duration, refusal: Failure) {
        self.refusals.record(latency);
        self.refusal_sample.get_or_insert(refusal.message);
    }

    pub(crate) fn record_failure(&mut self, failure: Failure) {
        self.failures
            .entry(failure.kind)
            .or_insert(FailureTally { count: 0, sample: failure.message })
            .count += 1;
    }

    /// Requests that had no good answer, other than those that were refused.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// Requests that are over, well or not.
    pub(crate) fn done(&self) -> u64 {
        self.succeeded + self.refusals.count() + self.failed()
    }
}

/// A distribution of durations: exact least, greatest and mean; quantiles to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    /// In nanoseconds.
    histogram: Histogram<u64>,
    min: Duration,
    max: Duration,
    sum: Duration,
}

impl Latencies {
    /// Longer ones count as this long in quantiles.
    const LONGEST: Duration = Duration::from_secs(3600);

    pub(crate) fn record(&mut self, duration: Duration) {
        let nanoseconds = duration.min(Self::LONGEST).as_nanos();
        self.histogram.saturating_record(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
        self.sum += duration;
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many do not exceed `limit`, to three digits.
    pub(crate) fn count_within(&self, limit: Duration) -> u64 {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.count_between(0, nanoseconds)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    pub(crate) fn min(&self) -> Duration {
        if self.is_empty() { Duration::ZERO } else { self.min }
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// Zero where nothing is recorded.
    pub(crate) fn mean(&self) -> Duration {
        let count = self.histogram.len().max(1);
        Duration::from_secs_f64(self.sum.as_secs_f64() / count as f64)
    }

    /// The least duration that at least this share (0 to 1) of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let nanoseconds = self.histogram.value_at_quantile(share);
        // A bucket answers with its upper edge.
        Duration::from_nanos(nanoseconds).clamp(self.min(), self.max)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let longest = u64::try_from(Self::LONGEST.as_nanos()).expect("an hour fits");
        Self {
            histogram: Histogram::new_with_max(longest, 3).expect("the bounds are valid"),
            min: Duration::MAX,
            max: Duration::ZERO,
            sum: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_known_latencies_are_right_to_three_digits() {
        let mut latencies = Latencies::default();
        for microseconds in (1..=100_000).rev() {
            latencies.record(Duration::from_micros(microseconds));
        }
        for (share, expected) in
            [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (0.999, 99_900.0)]
        {
            let measured = latencies.quantile(share).as_secs_f64() * 1e6;
            assert!((measured / expected - 1.0).abs() < 1e-3, "{share}: {measured}");
        }
        for (limit, expected) in [(0, 0.0), (20_000, 20_000.0), (1_000_000, 100_000.0)] {
            let counted = latencies.count_within(Duration::from_micros(limit)) as f64;
            assert!((counted - expected).abs() <= expected * 1e-3, "{limit}: {counted}");
        }
        assert_eq!(latencies.min(), Duration::from_micros(1));
        assert_eq!(latencies.max(), Duration::from_millis(100));
        assert_eq!(latencies.mean(), Duration::from_nanos(50_000_500));
    }

    #[test]
    fn one_sample_is_all_its_quantiles_and_none_is_zero() {
        let mut latencies = Latencies::default();
        assert!(latencies.is_empty());
        assert_eq!((latencies.min(), latencies.quantile(0.99)), (Duration::ZERO, Duration::ZERO));
        let day = Duration::from_secs(86_400);
        latencies.record(day);
        assert_eq!((latencies.min(), latencies.max(), latencies.mean()), (day, day, day));
        latencies.record(Duration::from_nanos(1));
        assert_eq!(latencies.quantile(0.5), Duration::from_nanos(1));
    }

    #[test]
    fn failures_are_counted_by_kind_with_the_first_message() {
        let mut tally = Tally::new(false);
        for message in ["first", "second"] {
            tally.record_failure(Failure::malformed(message));
        }
        tally.record_failure(Failure::timeout(Duration::from_secs(1)));
        let malformed = &tally.failures[&FailureKind::Malformed];
        assert_eq!((malformed.count, &*malformed.sample), (2, "first"));
        assert_eq!((tally.failed(), tally.done()), (3, 3));
    }
}
