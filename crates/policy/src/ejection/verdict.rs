//! Who of a fleet does far worse than the others.

use std::collections::HashMap;

use inferring_types::{EjectionReason, ModelName, ModelVersion};

use super::{DEVIATIONS, EjectionConfig, MeanTime, Worker};

/// The share of refusals of the median worker from which on refusals tell nothing of a worker.
const CROWDED: f64 = 0.1;

/// By how much a normal distribution's standard deviation exceeds its median absolute deviation.
const DEVIATION_OF_MEDIAN: f64 = 1.4826;

/// The fleet's measures, and who is held to them.
pub(super) struct Judge<'a> {
    config: &'a EjectionConfig,
    fleet: &'a [Worker<'a>],
    refusals_count: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(config: &'a EjectionConfig, fleet: &'a [Worker<'a>]) -> Self {
        let refused = |worker: &Worker<'_>| {
            let all = worker.tally.all();
            (all >= config.samples_min.max(1))
                .then(|| f64::from(worker.tally.refusals) / f64::from(all))
        };
        let typical = lower_median(fleet.iter().filter_map(refused).collect());
        Self { config, fleet, refusals_count: typical.is_some_and(|share| share < CROWDED) }
    }

    /// The outliers by their place in the fleet, those that fail before those that are slow, the
    /// worst of each first.
    pub(super) fn verdicts(&self) -> Vec<(usize, EjectionReason)> {
        let mut verdicts = self.failing();
        verdicts.extend(self.slow());
        verdicts
    }

    fn failing(&self) -> Vec<(usize, EjectionReason)> {
        let rates: Vec<_> = self.fleet.iter().map(|worker| self.success_rate(worker)).collect();
        let known: Vec<f64> = rates.iter().copied().flatten().collect();
        if known.len() < 2 {
            return Vec::new();
        }
        // Of an even number the better of the two in the middle: of two workers, the better one.
        let Some(typical) = upper_median(known.clone()) else { return Vec::new() };
        let deviations = known.iter().map(|rate| (rate - typical).abs()).collect();
        let spread = DEVIATION_OF_MEDIAN * lower_median(deviations).unwrap_or(0.0);
        let bound = typical - self.config.margin.max(DEVIATIONS * spread);
        let mut outliers: Vec<_> = rates
            .into_iter()
            .enumerate()
            .filter_map(|(place, rate)| Some((place, rate?)))
            .filter(|(_, rate)| *rate < bound)
            .collect();
        outliers.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        let reason = |success_rate| EjectionReason::Failing { success_rate, typical };
        outliers.into_iter().map(|(place, rate)| (place, reason(rate))).collect()
    }

    /// `None` where there were too few requests to speak of a rate.
    fn success_rate(&self, worker: &Worker<'_>) -> Option<f64> {
        let tally = worker.tally;
        let of = if self.refusals_count { tally.all() } else { tally.attempted() };
        let rate = || f64::from(tally.successes) / f64::from(of);
        (of >= self.config.samples_min.max(1)).then(rate)
    }

    fn slow(&self) -> Vec<(usize, EjectionReason)> {
        let factor = self.config.slow_factor;
        if factor.is_nan() || factor <= 1.0 {
            return Vec::new();
        }
        let typical = self.typical_times();
        let slowness = |worker: &Worker<'_>| {
            let compared = worker
                .times
                .iter()
                .filter_map(|time| Some((time, *typical.get(&(&time.model, &time.version))?)));
            let mut sums = (0.0, 0.0, 0.0);
            for (time, typical) in compared {
                let answers = f64::from(time.answers);
                sums.0 += answers;
                sums.1 += answers * (time.mean_ln - typical);
                sums.2 += answers * (time.mean_ln.exp() - typical.exp());
            }
            let (answers, ratio, excess) = sums;
            let enough = answers >= f64::from(self.config.samples_min.max(1));
            let factor = (ratio / answers).exp();
            let late = excess / answers >= self.config.slow_excess.as_secs_f64();
            (enough && late && factor >= self.config.slow_factor).then_some(factor)
        };
        let mut outliers: Vec<_> = self
            .fleet
            .iter()
            .enumerate()
            .filter_map(|(place, worker)| Some((place, slowness(worker)?)))
            .collect();
        outliers.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let reason = |factor| EjectionReason::Slow { factor };
        outliers.into_iter().map(|(place, factor)| (place, reason(factor))).collect()
    }

    /// By model, the median over the workers that answered enough of it; models that fewer than
    /// two answered are compared with nothing.
    fn typical_times(&self) -> HashMap<(&'a ModelName, &'a ModelVersion), f64> {
        let mut times = HashMap::<_, Vec<f64>>::new();
        let enough = |time: &&MeanTime| time.answers >= self.config.samples_min.max(1);
        for time in self.fleet.iter().flat_map(|worker| worker.times.iter().filter(enough)) {
            times.entry((&time.model, &time.version)).or_default().push(time.mean_ln);
        }
        times
            .into_iter()
            .filter(|(_, means)| means.len() >= 2)
            .filter_map(|(model, means)| Some((model, lower_median(means)?)))
            .collect()
    }
}

fn upper_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}
