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
    /// Rows that need not wait for more, though more would have room.
    pub rows_enough: usize,
    /// The longest that a job waits for company.
    pub delay_max: Duration,
    /// Whether an idle instance runs what there is instead of waiting for more.
    pub dispatch_when_idle: bool,
}

impl Default for BatchingConfig {
    fn default() -> Self {
        Self {
            rows_max: 32,
            rows_enough: 32,
            delay_max: Duration::from_millis(20),
            dispatch_when_idle: true,
        }
    }
}

/// Why a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DispatchReason {
    /// It cannot grow, or need not.
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
    if rows_waiting >= config.rows_max.min(config.rows_enough) {
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
    let mut room = Some(config.rows_max);
    let mut jobs = 0;
    for rows in rows {
        room = room.and_then(|room| room.checked_sub(rows));
        if room.is_none() && jobs > 0 {
            break;
        }
        jobs += 1;
    }
    jobs
}

/// `delay` after `moment`; a delay too long for the clock ("never") ends in about a century.
fn later(moment: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    moment + delay.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn when_a_batch_leaves() {
        let waits = BatchingConfig { dispatch_when_idle: false, ..BatchingConfig::default() };
        let eager = BatchingConfig::default();
        let oldest = clock::start();
        let full = Plan::Dispatch(DispatchReason::Full);
        let timeout = Plan::Dispatch(DispatchReason::Timeout);
        let idle = Plan::Dispatch(DispatchReason::Idle);
        let wait = Plan::WaitUntil(oldest + 20 * MILLISECOND);
        for (config, rows_waiting, waited, expected) in [
            (eager, 1, Duration::ZERO, idle),
            (eager, 31, 19 * MILLISECOND, idle),
            (eager, 31, 20 * MILLISECOND, timeout),
            (eager, 32, Duration::ZERO, full),
            (eager, 32, 90 * MILLISECOND, full),
            (eager, 500, Duration::ZERO, full),
            (waits, 1, Duration::ZERO, wait),
            (waits, 31, 20 * MILLISECOND - Duration::from_nanos(1), wait),
            (waits, 31, 20 * MILLISECOND, timeout),
            (waits, 1, 21 * MILLISECOND, timeout),
            (waits, 32, Duration::ZERO, full),
            (waits, 33, 21 * MILLISECOND, full),
            (BatchingConfig { rows_enough: 8, ..waits }, 7, Duration::ZERO, wait),
            (BatchingConfig { rows_enough: 8, ..waits }, 8, Duration::ZERO, full),
            (BatchingConfig { rows_enough: 99, ..waits }, 32, Duration::ZERO, full),
        ] {
            let planned = plan(&config, rows_waiting, oldest, oldest + waited);
            assert_eq!(planned, expected, "{rows_waiting} rows after {waited:?}, {config:?}");
        }
    }

    #[test]
    fn an_endless_delay_waits_without_overflow() {
        let config = BatchingConfig {
            delay_max: Duration::MAX,
            dispatch_when_idle: false,
            ..BatchingConfig::default()
        };
        let now = clock::start();
        assert!(matches!(plan(&config, 1, now, now), Plan::WaitUntil(then) if then > now));
    }

    #[test]
    fn how_many_jobs_make_a_batch() {
        for (rows, jobs) in [
            (&[] as &[usize], 0),
            (&[1], 1),
            (&[1; 40], 32),
            (&[16, 16, 1], 2),
            (&[16, 17, 1], 1),
            (&[33], 1),
            (&[33, 1], 1),
            (&[33, 0], 1),
            (&[1, 33], 1),
            (&[32, 0, 0, 1], 3),
            (&[usize::MAX, usize::MAX], 1),
            (&[1, usize::MAX], 1),
        ] {
            let taken = take(&BatchingConfig::default(), rows.iter().copied());
            assert_eq!(taken, jobs, "{rows:?}");
        }
    }

    proptest! {
        #[test]
        fn a_batch_is_the_longest_head_that_fits(
            rows in prop::collection::vec(0..50_usize, 0..60),
            rows_max in 0..70_usize,
        ) {
            let config = BatchingConfig { rows_max, ..BatchingConfig::default() };
            let jobs = take(&config, rows.iter().copied());
            prop_assert!(jobs <= rows.len());
            prop_assert_eq!(jobs == 0, rows.is_empty());
            prop_assert!(jobs <= 1 || rows[..jobs].iter().sum::<usize>() <= rows_max);
            if jobs < rows.len() {
                prop_assert!(rows[..=jobs].iter().sum::<usize>() > rows_max);
            }
        }

        /// Whoever waits as told and then asks again gets a batch: no lane is forgotten.
        #[test]
        fn waiting_ends_in_a_dispatch_no_later_than_the_delay(
            rows in 1..32_usize,
            delay in 1..100_u32,
            waited in 0..200_u32,
        ) {
            let delay_max = delay * MILLISECOND;
            let config =
                BatchingConfig { delay_max, dispatch_when_idle: false, ..BatchingConfig::default() };
            let oldest = clock::start();
            let now = oldest + waited * MILLISECOND;
            match plan(&config, rows, oldest, now) {
                Plan::WaitUntil(then) => {
                    prop_assert!(now < then && then <= oldest + delay_max);
                    let woken = plan(&config, rows, oldest, then);
                    prop_assert_eq!(woken, Plan::Dispatch(DispatchReason::Timeout));
                }
                Plan::Dispatch(reason) => {
                    prop_assert_eq!(reason, DispatchReason::Timeout);
                    prop_assert!(waited >= delay);
                }
            }
        }
    }
}
