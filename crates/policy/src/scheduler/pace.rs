//! What can be sustained: the size of batch that gets most answers out in time, and whether that
//! is enough for all that comes.
//!
//! The size with the best throughput is of no use if nobody can wait for it. A request that comes
//! while an instance runs waits for that run and then for its own; of two runs of `l` seconds it
//! must be allowed to take between one and two, as luck has it. So of the requests that come, a
//! share of `(allowance - l) / l`, at least 0 and at most 1, is in time with batches of that size,
//! and what gets out in time is the lesser of what is done and of that share of what comes.

use crate::arrivals::Arrivals;
use crate::cost::{Costs, Seconds};

use super::SchedulerConfig;

/// How a model is best driven, as things are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pace {
    /// Rows of a run.
    pub(super) rows: usize,
    /// Rows per second of one instance, with such runs.
    pub(super) throughput: f64,
    /// How long a request may take, on average.
    pub(super) allowance: Seconds,
}

impl Pace {
    pub(super) fn of(
        config: &SchedulerConfig,
        costs: Costs<'_>,
        arrivals: &Arrivals,
        rate: f64,
    ) -> Self {
        let instances = config.instances.max(1) as f64;
        let allowances = arrivals.allowances();
        let count = allowances.len().max(1) as f64;
        let mut best =
            Self { allowance: allowances.clone().sum::<Seconds>() / count, ..Self::default() };
        let mut most = f64::NEG_INFINITY;
        for rows in config.sizes(config.rows_max()) {
            let time = costs.expected(config.run_rows(rows)).max(1e-12);
            let throughput = rows as f64 / time;
            let in_time =
                |allowance: Seconds| ((allowance - time) / (time / instances)).clamp(0.0, 1.0);
            let share = allowances.clone().map(in_time).sum::<f64>() / count;
            let done = throughput.min(rate / instances * share);
            // What does not pay is not worth waiting for.
            if done > most * 1.005 || (done >= most * 0.999 && throughput > best.throughput * 1.01)
            {
                most = most.max(done);
                best = Self { rows, throughput, ..best };
            }
        }
        best
    }
}
