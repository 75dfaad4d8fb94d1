//! What can be sustained: the size of batch that gets most answers out in time, and how long a
//! queue takes to be worked off.
//!
//! The size with the best throughput is of no use if nobody can wait for it. A request that comes
//! while an instance runs waits for that run and then for its own; of two runs of `l` seconds it
//! must be allowed to take between one and two, as luck has it. So of the requests that come, a
//! share of `(allowance - l) / l`, at least 0 and at most 1, is in time with batches of that size,
//! and what gets out in time is the lesser of what is done and of that share of what comes.
//!
//! A queue of `x` rows is worked off, in batches of `b` rows that take `l` seconds each, while `r`
//! rows per second come: that takes `x / (b/l - r)` seconds. Until the end of its batch everybody
//! waits, so `(x + b) / 2` rows wait on average, of which `g` would wait even if there had been
//! no queue. The sum of all waiting for it is `x ((x + b) / 2 - g) / (b/l - r)`, for the `b` with
//! which it is least. To choose each batch by its own waiting plus this of what it leaves behind
//! is within a few percent of the optimal policy, which would have to be found by dynamic
//! programming over queue lengths for each curve and rate.

use smallvec::SmallVec;

use crate::arrivals::Arrivals;
use crate::cost::{Costs, Seconds};

use super::SchedulerConfig;

/// The part of capacity that arrivals are reckoned to need at most: a queue whose end is not in
/// sight would justify any batch, and a rate is not known exactly.
const LOAD_MAX: f64 = 0.9;

/// By how much, in terms of what can be done, there must be more to do for it to be certain that
/// requests will be lost: a burst may end.
const PRESSURE_RANGE: f64 = 0.8;

/// How a model is best driven, as things are. All is about one instance and its share.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pace {
    /// Rows of a run.
    pub(super) rows: usize,
    /// Rows per second with such runs.
    pub(super) throughput: f64,
    /// How long a request may take, on average.
    pub(super) allowance: Seconds,
    /// Rows per second that come, as far as they can be served.
    pub(super) rate: f64,
    /// Rows that wait or run in calm weather: what is there on average if no queue has formed.
    pub(super) calm: f64,
    /// Sizes of batch with which a queue gets shorter, and the seconds per row by which it does.
    drains: SmallVec<[(f64, Seconds); 8]>,
}

impl Pace {
    /// `rate` rows per second come, to all instances.
    pub(super) fn of(
        config: &SchedulerConfig,
        costs: Costs<'_>,
        arrivals: &Arrivals,
        rate: f64,
    ) -> Self {
        let time = |rows| costs.expected(config.run_rows(rows)).max(1e-12);
        let rate = rate / config.instances.max(1) as f64;
        let rows_max = config.rows_within_limit(costs, config.rows_max());
        let (rows, throughput) = sustainable(config, rows_max, time, arrivals, rate);
        let allowances = arrivals.allowances();
        let count = allowances.len().max(1) as f64;
        let rate = rate.min(LOAD_MAX * throughput);
        let sizes = std::iter::successors(Some(1), |size| Some(size * 2));
        let sizes = sizes.take_while(|&size| size < rows_max);
        let drain = |size: usize| {
            let faster = size as f64 / time(size) - rate;
            (faster > 0.0).then(|| (size as f64, faster.recip()))
        };
        Self {
            rows,
            throughput,
            allowance: allowances.sum::<Seconds>() / count,
            rate,
            calm: calm(config, rows_max, time, rate),
            drains: sizes.chain([rows, rows_max]).filter_map(drain).collect(),
        }
    }

    /// How much more there is to do than can be done: 0 with capacity to spare, 1 with none.
    pub(super) fn pressure(&self, instances: usize, waiting: usize, rate: f64) -> f64 {
        let capacity = self.throughput * instances.max(1) as f64;
        let load = (waiting as f64 / self.allowance.max(1e-9) + rate) / capacity;
        ((load - 1.0) / PRESSURE_RANGE).clamp(0.0, 1.0)
    }

    /// How long all wait, in sum, because there is a queue of that many rows.
    pub(super) fn drain(&self, queue: f64, time: impl Fn(usize) -> Seconds) -> Seconds {
        if queue <= 0.0 {
            return 0.0;
        }
        let with = |size: f64, seconds_per_row: Seconds| {
            ((queue + size) / 2.0 - self.calm) * seconds_per_row
        };
        let sizes = self.drains.iter().filter(|(size, _)| *size <= queue.max(1.0));
        let least = sizes.map(|&(size, per_row)| with(size, per_row)).fold(f64::INFINITY, f64::min);
        // All at once.
        let rows = queue.ceil();
        let faster = rows / time(rows as usize) - self.rate;
        let at_once = if faster > 0.0 { with(rows, faster.recip()) } else { f64::INFINITY };
        let least = least.min(at_once);
        // No batch that can be formed now keeps up: the queue will first become longer.
        let least = if least.is_finite() {
            least
        } else {
            let sizes = self.drains.iter().map(|&(size, per_row)| with(size, per_row));
            sizes.fold(f64::INFINITY, f64::min)
        };
        queue * least
    }
}

/// The size of run that gets most requests done in time, and its throughput.
fn sustainable(
    config: &SchedulerConfig,
    rows_max: usize,
    time: impl Fn(usize) -> Seconds,
    arrivals: &Arrivals,
    rate: f64,
) -> (usize, f64) {
    let instances = config.instances.max(1) as f64;
    let allowances = arrivals.allowances();
    let count = allowances.len().max(1) as f64;
    let (mut most, mut best) = (f64::NEG_INFINITY, (1, 0.0));
    for rows in config.sizes(rows_max) {
        let time = time(rows);
        let throughput = rows as f64 / time;
        let in_time =
            |allowance: Seconds| ((allowance - time) / (time / instances)).clamp(0.0, 1.0);
        let share = allowances.clone().map(in_time).sum::<f64>() / count;
        let done = throughput.min(rate * share);
        // What gains next to nothing is not worth waiting for.
        if done > most * 1.005 || (done >= most * 0.999 && throughput > best.1 * 1.01) {
            most = most.max(done);
            best = (rows, throughput);
        }
    }
    best
}

/// How many rows wait or run where each batch is what came during the one before it.
fn calm(
    config: &SchedulerConfig,
    rows_max: usize,
    time: impl Fn(usize) -> Seconds,
    rate: f64,
) -> f64 {
    let keeps_up = |&rows: &usize| rate * time(rows) <= rows as f64;
    let rows = config.sizes(rows_max).find(keeps_up).unwrap_or(rows_max);
    // Of a batch all wait for its end, and so do those who come meanwhile, half of it on average.
    rate * time(rows) * if rows == 1 { 1.0 } else { 1.5 }
}
