//! How many of a lane's rows an idle instance runs, or until when it waits for more.
//!
//! A larger batch gets more rows done per second, if the model is one that gains from batches at
//! all, and makes everybody wait longer. Which counts more depends on how long the queue is and
//! how fast it grows; so each size is charged for both. With `n` rows waiting, `r` coming per
//! second, and at most `m` done per second by batches of the best size, a run of `b` rows that
//! takes `l` seconds
//!
//! - wastes `m l - b` rows of what could have been done meanwhile, and everybody who waits, now
//!   or later until the queue is empty again, waits for that: `n (m l - b) / (m - r)` seconds;
//! - leaves a queue of `n - b + r l` rows to be worked off.
//!
//! With the queue taken for a fluid, so that `x` rows need `x / (m - r)` seconds and wait half of
//! that each, the size to run is the one for which `n (m l - b) + ((m - r) r l² + (b - r l)²) / 2`
//! is least: one step of policy improvement on the fluid's value function. On a quiet machine
//! that is the batch with the least mean waiting time, a row at a time for a model whose batches
//! save nothing; as `r` comes near to `m` it is the batch with the best throughput.

use std::time::{Duration, Instant};

use super::{DispatchReason, SchedulerConfig};
use crate::cost::{Costs, Seconds};

/// What there is to run, and what is known of it.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    /// `None` where nothing has run yet.
    pub(super) costs: Option<Costs<'a>>,
    /// Rows of the class whose turn it is.
    pub(super) lead: usize,
    /// Rows of all classes in the lane.
    pub(super) rows: usize,
    /// Rows in all lanes.
    pub(super) waiting: usize,
    /// Rows per second that come, to all lanes.
    pub(super) rate: f64,
    /// When the first of the lead is due.
    pub(super) due: Instant,
    /// When the lane's oldest job came.
    pub(super) oldest: Instant,
    /// Nothing more will come.
    pub(super) closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plan {
    /// Up to so many rows, now.
    Run {
        rows: usize,
        reason: DispatchReason,
    },
    WaitUntil(Instant),
}

pub(super) fn plan(config: &SchedulerConfig, situation: &Situation<'_>, now: Instant) -> Plan {
    if config.dispatch_when_idle || situation.closed {
        return run(config, situation, now, DispatchReason::Idle);
    }
    if situation.rows >= config.rows_enough() {
        return run(config, situation, now, DispatchReason::Full);
    }
    let delay_ends = later(situation.oldest, config.delay_max);
    if delay_ends <= now {
        return run(config, situation, now, DispatchReason::Delay);
    }
    // To be answered when it is due, the batch must leave a run's time before.
    let run_time = situation
        .costs
        .map_or(0.0, |costs| costs.safe(config.run_rows(situation.rows.min(config.rows_max()))));
    let leave = situation.due.checked_sub(seconds(run_time)).unwrap_or(now);
    if leave <= now {
        return run(config, situation, now, DispatchReason::Deadline);
    }
    Plan::WaitUntil(leave.min(delay_ends))
}

fn run(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    now: Instant,
    reason: DispatchReason,
) -> Plan {
    let most = situation.rows.min(config.rows_max()).max(1);
    let Some(costs) = situation.costs else {
        let reason = if most >= config.rows_max() { DispatchReason::Full } else { reason };
        return Plan::Run { rows: most, reason };
    };
    let slack = situation.due.saturating_duration_since(now).as_secs_f64();
    let wanted = cheapest(config, situation, costs, most, f64::INFINITY);
    let rows = cheapest(config, situation, costs, most, slack);
    let reason = if rows < wanted {
        DispatchReason::Deadline
    } else if rows >= config.rows_max() {
        DispatchReason::Full
    } else {
        reason
    };
    Plan::Run { rows, reason }
}

/// The size that costs least among those that are done within `slack`; 1 where none is.
fn cheapest(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    costs: Costs<'_>,
    most: usize,
    slack: Seconds,
) -> usize {
    let instances = config.instances.max(1) as f64;
    let best = costs.best();
    let most_done = best.throughput;
    let rate = (situation.rate / instances).min(most_done);
    let spare = most_done - rate;
    let waiting = situation.waiting as f64 / instances;
    let lead_time = 1.25 * costs.expected(config.run_rows(situation.lead.min(most)));
    let mut least = (f64::INFINITY, 1);
    for rows in config.sizes(most) {
        let run_rows = config.run_rows(rows);
        let time = costs.expected(run_rows);
        if rows > 1 && costs.safe(run_rows) > slack {
            break;
        }
        // Others may come along where that costs those whose turn it is next to nothing.
        if rows > situation.lead && time > lead_time {
            break;
        }
        let done = rows as f64;
        let left = done - rate * time;
        let cost =
            waiting * (most_done * time - done) + (spare * rate * time * time + left * left) / 2.0;
        if cost <= least.0 {
            least = (cost, rows);
        }
    }
    least.1
}

pub(super) fn seconds(seconds: Seconds) -> Duration {
    const CENTURY: Seconds = 100.0 * 365.0 * 24.0 * 3600.0;
    Duration::from_secs_f64(seconds.clamp(0.0, CENTURY))
}

/// `delay` after `moment`; a delay too long for the clock ("never") ends in about a century.
pub(super) fn later(moment: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    moment + delay.min(CENTURY)
}
