//! The breaker under many threads at once: its bound on trials is exact, not approximate.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use inferring_policy::{BreakerConfig, CircuitBreaker, Outcome};
use inferring_types::BreakerState;

use crate::start;

const THREADS: usize = 16;

/// A breaker whose time-out is over at the returned moment.
fn expired(trial_permits: u32) -> (CircuitBreaker, Instant) {
    let config = BreakerConfig { trial_permits, ..BreakerConfig::default() };
    let (breaker, opened) = (CircuitBreaker::new(config, 1), start());
    for _ in 0..config.failures_to_open {
        breaker.try_acquire(opened).unwrap().record(Outcome::Failed, opened);
    }
    assert_eq!(breaker.status(opened).state, BreakerState::Open);
    let timeout = breaker.status(opened).trial_in.unwrap();
    (breaker, opened + timeout)
}

#[test]
fn racing_requests_get_exactly_the_trial_permits() {
    for round in 0..60 {
        let trial_permits = round % 3 + 1;
        let (breaker, now) = expired(trial_permits);
        let barrier = Barrier::new(THREADS);
        let admitted = thread::scope(|scope| {
            let race = || {
                barrier.wait();
                breaker.try_acquire(now)
            };
            let racers = (0..THREADS).map(|_| scope.spawn(race)).collect::<Vec<_>>();
            // All permits are held until all threads have tried.
            let permits = racers.into_iter().map(|racer| racer.join().unwrap());
            permits.collect::<Vec<_>>().into_iter().flatten().count()
        });
        assert_eq!(admitted, trial_permits as usize, "round {round}");
    }
}

#[test]
fn slots_that_come_and_go_never_exceed_the_trial_permits() {
    const TRIES: usize = 2_000;
    for trial_permits in [1, 3] {
        let (breaker, now) = expired(trial_permits);
        let (barrier, running, admitted) =
            (Barrier::new(THREADS), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    for attempt in 0..TRIES {
                        let Some(permit) = breaker.try_acquire(now) else { continue };
                        let beside = running.fetch_add(1, Ordering::SeqCst);
                        assert!(beside < trial_permits, "{} trials at once", beside + 1);
                        admitted.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        if attempt % 2 == 0 {
                            permit.record(Outcome::Neutral, now);
                        } else {
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(admitted.into_inner() >= trial_permits);
        let permits = (0..=trial_permits).map(|_| breaker.try_acquire(now)).collect::<Vec<_>>();
        let free = permits.iter().flatten().count();
        assert_eq!(free, trial_permits as usize, "every slot came back, and none twice");
    }
}
