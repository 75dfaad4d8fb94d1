//! Decides when a lane of waiting jobs becomes a batch, and how many of them.
//!
//! The rule is work-conserving: an instance that is idle takes what is there. Batches then form
//! by themselves under load, because jobs gather while every instance is busy, and a lone request
//! on a quiet machine pays nothing for them. Waiting for company pays only where a run has a high
//! fixed cost; `dispatch_when_idle` off and a delay are for that.

use std::time::{Duration, Instant};

/// How batches form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchingConfig {
    /// The most rows in one run; a single job that is bigger runs alone.
    pub rows_max: usize,
    /// The longest that a job waits for company.
    pub delay_max: Duration,
    /// Whether an idle instance runs what there is instead of waiting for more.
    pub dispatch_when_idle: bool,
}

impl Default for BatchingConfig {
    fn default() -> Self {
        Self { rows_max: 32, delay_max: Duration::from_millis(20), dispatch_when_idle: true }
    }
}

/// Why a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DispatchReason {
    /// It cannot grow.
    Full,
    /// Its oldest job has waited as long as it may.
    Timeout,
    /// There is an instance with nothing else to do.
    Idle,
}

/// What an idle instance does about a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Run what [`take`] takes, now.
    Dispatch(DispatchReason),
    /// Ask again when a job arrives, at this moment at the latest.
    WaitUntil(Instant),
}

/// What an idle instance does at `now` about a lane that is not empty: `rows_waiting` rows, of
/// which the `oldest` came at that moment.
///
/// A batch that is full and late counts as full: more waiting would not have made it bigger.
pub fn plan(config: &BatchingConfig, rows_waiting: usize, oldest: Instant, now: Instant) -> Plan {
    if rows_waiting >= config.rows_max {
        Plan::Dispatch(DispatchReason::Full)
    } else if now.saturating_duration_since(oldest) >= config.delay_max {
        Plan::Dispatch(DispatchReason::Timeout)
    } else if config.dispatch_when_idle {
        Plan::Dispatch(DispatchReason::Idle)
    } else {
        Plan::WaitUntil(later(oldest, config.delay_max))
    }
}

/// How many jobs from the head of a first-in-first-out lane make one batch, given the `rows` of
/// each in order.
///
/// Jobs stay whole and in order: the batch ends before the first job that does not fit, though a
/// smaller one behind it would. It never exceeds `rows_max` rows, but always takes the first job,
/// which may be bigger than that and then runs alone. 0 only for an empty lane.
pub fn take(config: &BatchingConfig, rows: impl Iterator<Item = usize>) -> usize {
    let mut room = config.rows_max;
    let mut jobs = 0;
    for rows in rows {
        if jobs > 0 && rows > room {
            break;
        }
        room = room.saturating_sub(rows);
        jobs += 1;
    }
    jobs
}

/// `delay` after `moment`; a delay too long for the clock ("never") ends in about a century.
fn later(moment: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    moment + delay.min(CENTURY)
}
