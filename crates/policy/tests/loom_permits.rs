//! Every order in which threads can meet at a breaker's permits, at those of the retry budget, and
//! at a worker's last report, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag. The tests in it come along; they need no threads.

#![expect(
    unreachable_pub,
    dead_code,
    reason = "the library's own source, of which models use a part"
)]

#[path = "../src/retry_budget/budget.rs"]
mod budget;
#[path = "../src/penalty.rs"]
mod penalty;
#[path = "../src/reported_load/report.rs"]
mod report;

#[path = "../src/circuit_breaker"]
mod circuit_breaker {
    mod breaker;
    mod config;
    mod core;
    mod window;

    pub(crate) use inferring_policy::Outcome;

    pub(crate) use self::breaker::{CircuitBreaker, Permit};
    pub(crate) use self::config::BreakerConfig;
    pub(crate) use self::window::Tally;
}

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

/// The same.
mod clock {
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }
}

use std::time::{Duration, Instant};

use inferring_types::{BreakerState, WorkerLoad};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
use loom::thread::JoinHandle;

use crate::budget::{RetryBudget, RetryBudgetConfig};
use crate::circuit_breaker::{BreakerConfig, CircuitBreaker, Outcome, Permit};
use crate::report::ReportedLoad;

/// A breaker that one failure opens, and the moment from which on it gives trials: this many.
fn half_open(trial_permits: u32) -> (Arc<CircuitBreaker>, Instant) {
    let now = clock::start();
    let config = BreakerConfig { failures_to_open: 1, trial_permits, ..BreakerConfig::default() };
    let breaker = CircuitBreaker::new(config, 1);
    breaker.try_acquire(now).expect("it is closed").record(Outcome::Failed, now);
    assert_eq!(breaker.status(now).state, BreakerState::Open);
    let trial_in = breaker.status(now).trial_in.expect("it is open");
    (Arc::new(breaker), now + trial_in)
}

fn spawn<T: 'static>(
    breaker: &Arc<CircuitBreaker>,
    visit: impl FnOnce(&CircuitBreaker) -> T + 'static,
) -> JoinHandle<T> {
    let breaker = breaker.clone();
    loom::thread::spawn(move || visit(&breaker))
}

#[test]
fn of_those_who_race_for_trials_never_more_hold_one_than_there_are() {
    loom::model(|| {
        let (breaker, now) = half_open(1);
        let holding = Arc::new(AtomicU32::new(0));
        let try_it = {
            let holding = holding.clone();
            move |breaker: &CircuitBreaker| {
                let Some(permit) = breaker.try_acquire(now) else { return };
                assert_eq!(holding.fetch_add(1, SeqCst), 0, "somebody else holds the only one");
                holding.fetch_sub(1, SeqCst);
                // Cancelled: it counts for nothing, and its slot is free.
                drop(permit);
            }
        };
        let others = [(); 2].map(|()| spawn(&breaker, try_it.clone()));
        try_it(&breaker);
        for other in others {
            other.join().expect("it does not panic");
        }
        assert_eq!(breaker.status(now).state, BreakerState::HalfOpen);
        assert!(breaker.try_acquire(now).is_some(), "a slot was lost");
    });
}

#[test]
fn a_slot_is_given_back_once_whatever_ends_its_permit() {
    loom::model(|| {
        let (breaker, now) = half_open(2);
        let ends: [fn(Permit<'_>, Instant); 2] =
            [|permit, _| drop(permit), |permit, now| permit.record(Outcome::Neutral, now)];
        let visitors = ends.map(|end| {
            spawn(&breaker, move |breaker| {
                end(breaker.try_acquire(now).expect("there are two"), now);
            })
        });
        for visitor in visitors {
            visitor.join().expect("it does not panic");
        }
        let permits: Vec<_> = (0..3).map_while(|_| breaker.try_acquire(now)).collect();
        assert_eq!(permits.len(), 2);
    });
}

/// A trial fails and opens the breaker again, beside one that succeeds and one that is given up.
/// Whichever comes first, what the others say is of another generation and moves nothing.
#[test]
fn what_trials_say_after_the_breaker_has_opened_again_is_not_counted() {
    loom::model(|| {
        let (breaker, now) = half_open(3);
        let ends: [fn(Permit<'_>, Instant); 2] =
            [|permit, now| permit.record(Outcome::Success, now), |permit, _| drop(permit)];
        let visitors = ends.map(|end| {
            spawn(&breaker, move |breaker| {
                if let Some(permit) = breaker.try_acquire(now) {
                    end(permit, now);
                }
            })
        });
        let trial = breaker.try_acquire(now).expect("there are three");
        trial.record(Outcome::Failed, now);
        for visitor in visitors {
            visitor.join().expect("it does not panic");
        }
        let status = breaker.status(now);
        assert_eq!(status.state, BreakerState::Open, "{status:?}");
        let later = now + status.trial_in.expect("it is open");
        let permits: Vec<_> = (0..4).map_while(|_| breaker.try_acquire(later)).collect();
        assert_eq!(permits.len(), 3);
    });
}

/// A new process is found behind the worker while a trial of the old one is given up: the slot
/// that it gives back is not that of the trial which the new process gets.
#[test]
fn a_restart_beside_a_trial_neither_loses_a_slot_nor_makes_one() {
    loom::model(|| {
        let (breaker, now) = half_open(1);
        let trial = spawn(&breaker, move |breaker| drop(breaker.try_acquire(now)));
        breaker.restarted(now);
        let held = breaker.try_acquire(now);
        trial.join().expect("it does not panic");
        let more: Vec<_> = (0..2).map_while(|_| breaker.try_acquire(now)).collect();
        assert_eq!(more.len() + usize::from(held.is_some()), 1);
    });
}

#[test]
fn extra_tries_at_a_time_are_never_more_than_the_budget_allows() {
    loom::model(|| {
        let now = clock::start();
        let config = RetryBudgetConfig { share: 0.0, in_flight_min: 2, reserve_per_second: 10 };
        let budget = Arc::new(RetryBudget::new(config));
        let visitors = [(); 2].map(|()| {
            let budget = budget.clone();
            loom::thread::spawn(move || {
                let leave = budget.try_acquire(0, 0, now);
                assert!((1..=2).contains(&budget.in_burst(now)) || leave.is_none());
            })
        });
        let leave = budget.try_acquire(0, 0, now);
        assert!(budget.in_burst(now) <= 2);
        for visitor in visitors {
            visitor.join().expect("it does not panic");
        }
        assert_eq!(budget.in_burst(now), usize::from(leave.is_some()));
        drop(leave);
        assert_eq!(budget.in_burst(now), 0);
    });
}

/// A report goes with a time that is no newer than itself.
#[test]
fn a_reader_beside_a_writer_never_takes_an_old_report_for_a_new_one() {
    loom::model(|| {
        let now = clock::start();
        let reported = Arc::new(ReportedLoad::new(now));
        let micros = Duration::from_micros;
        let load = move |n| WorkerLoad { wait: micros(n), run: micros(10 * n) };
        let writer = {
            let reported = reported.clone();
            loom::thread::spawn(move || {
                for n in 1..=2 {
                    reported.tell(load(n), now + micros(n));
                }
            })
        };
        // Of the second report's time it takes the second report alone, and never half of one.
        let read = reported.read(now + micros(2), Duration::ZERO);
        assert!(read.is_none_or(|read| read == load(2)), "{read:?}");
        let read = reported.read(now + micros(2), micros(1));
        assert!(read.is_none_or(|read| read == load(1) || read == load(2)), "{read:?}");
        writer.join().expect("it does not panic");
        assert_eq!(reported.read(now + micros(2), Duration::ZERO), Some(load(2)));
    });
}
