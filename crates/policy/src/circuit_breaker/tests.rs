//! The rules of the breaker, one sentence each. All of them together against a second
//! implementation: `tests/it/breaker_model.rs`.

use super::*;
use crate::clock;

const TIMEOUT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_nanos(1);

/// A breaker and a time of its own.
struct Scene {
    breaker: CircuitBreaker,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { breaker: CircuitBreaker::new(BreakerConfig::default()), now: clock::start() }
    }

    fn opened_by(outcome: Outcome) -> Self {
        let scene = Self::new();
        for _ in 0..5 {
            scene.ask(outcome);
        }
        assert_eq!(scene.state(), BreakerState::Open);
        scene
    }

    fn half_open() -> Self {
        let mut scene = Self::opened_by(Outcome::Failed);
        scene.now += TIMEOUT;
        assert_eq!(scene.state(), BreakerState::HalfOpen);
        scene
    }

    fn acquire(&self) -> Option<Permit<'_>> {
        let available = self.breaker.is_available(self.now);
        let permit = self.breaker.try_acquire(self.now);
        assert_eq!(available, permit.is_some(), "is_available must foretell try_acquire");
        permit
    }

    fn ask(&self, outcome: Outcome) {
        self.acquire().expect("the breaker refused").record(outcome, self.now);
    }

    fn state(&self) -> BreakerState {
        self.status().state
    }

    fn status(&self) -> BreakerStatus {
        self.breaker.status(self.now)
    }
}

#[test]
fn five_failures_in_a_row_open_it() {
    for failure in [Outcome::Failed, Outcome::Unreachable] {
        let scene = Scene::new();
        for failures in 1..5 {
            scene.ask(failure);
            let expected = BreakerStatus { state: BreakerState::Closed, failures, successes: 0 };
            assert_eq!(scene.status(), expected);
        }
        scene.ask(failure);
        let expected = BreakerStatus { state: BreakerState::Open, failures: 5, successes: 0 };
        assert_eq!(scene.status(), expected);
        assert!(scene.acquire().is_none());
    }
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    let scene = Scene::new();
    for _ in 0..10 {
        for _ in 0..4 {
            scene.ask(Outcome::Failed);
        }
        scene.ask(Outcome::Success);
        assert_eq!(scene.status().failures, 0);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn what_is_not_the_workers_doing_neither_opens_it_nor_hides_its_failures() {
    let scene = Scene::new();
    for _ in 0..1000 {
        scene.ask(Outcome::Neutral);
        drop(scene.acquire());
    }
    assert_eq!(scene.status().failures, 0);
    for _ in 0..5 {
        scene.ask(Outcome::Neutral);
        scene.ask(Outcome::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Open);
}

#[test]
fn an_open_breaker_refuses_until_the_timeout_has_passed() {
    let mut scene = Scene::opened_by(Outcome::Failed);
    scene.now += TIMEOUT - TICK;
    assert!(scene.acquire().is_none());
    assert_eq!(scene.state(), BreakerState::Open);
    scene.now += TICK;
    assert_eq!(scene.state(), BreakerState::HalfOpen);
    assert!(scene.acquire().is_some());
}

#[test]
fn half_open_admits_exactly_one_trial() {
    let scene = Scene::half_open();
    let trial = scene.acquire().unwrap();
    assert!(scene.acquire().is_none());
    trial.record(Outcome::Success, scene.now);
    assert!(scene.acquire().is_some());
}

#[test]
fn as_many_trials_run_at_once_as_configured() {
    let config = BreakerConfig { trial_permits: 3, ..BreakerConfig::default() };
    let scene = Scene { breaker: CircuitBreaker::new(config), ..Scene::opened_by(Outcome::Failed) };
    for _ in 0..5 {
        scene.ask(Outcome::Failed);
    }
    let scene = Scene { now: scene.now + TIMEOUT, ..scene };
    let trials = [scene.acquire(), scene.acquire(), scene.acquire()];
    assert!(trials.iter().all(Option::is_some));
    assert!(scene.acquire().is_none());
}

#[test]
fn two_successes_close_it_and_leave_no_trace() {
    let scene = Scene::half_open();
    scene.ask(Outcome::Success);
    let expected = BreakerStatus { state: BreakerState::HalfOpen, failures: 0, successes: 1 };
    assert_eq!(scene.status(), expected);
    scene.ask(Outcome::Success);
    let expected = BreakerStatus { state: BreakerState::Closed, failures: 0, successes: 0 };
    assert_eq!(scene.status(), expected);
    for _ in 0..4 {
        scene.ask(Outcome::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn one_failed_trial_opens_it_again_for_a_whole_timeout() {
    let mut scene = Scene::half_open();
    scene.ask(Outcome::Success);
    scene.now += Duration::from_secs(5);
    scene.ask(Outcome::Failed);
    assert_eq!(scene.state(), BreakerState::Open);
    scene.now += TIMEOUT - TICK;
    assert!(scene.acquire().is_none());
    scene.now += TICK;
    scene.ask(Outcome::Success);
    assert_eq!(scene.status().successes, 1, "successes of the round before do not count");
}

#[test]
fn a_trial_gives_its_slot_back_however_it_ends() {
    let scene = Scene::half_open();
    scene.ask(Outcome::Neutral);
    drop(scene.acquire().expect("a neutral outcome gave the slot back"));
    let trial = scene.acquire().expect("a dropped permit gave the slot back");
    let panicked = std::thread::scope(|scope| {
        let holder = scope.spawn(move || {
            let _trial = trial;
            std::panic::resume_unwind(Box::new("the request's task dies"));
        });
        holder.join().is_err()
    });
    assert!(panicked);
    assert!(scene.acquire().is_some(), "an unwinding holder gave the slot back");
    assert_eq!(scene.status().successes, 0);
}

#[test]
fn a_straggler_from_before_the_opening_is_not_counted() {
    for outcome in [Outcome::Success, Outcome::Failed, Outcome::Unreachable, Outcome::Neutral] {
        let scene = Scene::new();
        let stragglers = [scene.acquire(), scene.acquire(), scene.acquire(), scene.acquire()];
        for _ in 0..5 {
            scene.ask(Outcome::Failed);
        }
        let [in_open, in_half_open, beside_trial, in_closed] = stragglers.map(Option::unwrap);

        let before = scene.status();
        in_open.record(outcome, scene.now);
        assert_eq!(scene.status(), before);

        let later = scene.now + TIMEOUT;
        scene.breaker.try_acquire(later).unwrap().record(Outcome::Success, later);
        let before = scene.breaker.status(later);
        in_half_open.record(outcome, later);
        assert_eq!(scene.breaker.status(later), before);

        let trial = scene.breaker.try_acquire(later).unwrap();
        beside_trial.record(outcome, later);
        assert!(!scene.breaker.is_available(later), "a straggler freed a slot it did not hold");
        trial.record(Outcome::Success, later);

        let before = scene.breaker.status(later);
        assert_eq!(before.state, BreakerState::Closed);
        in_closed.record(outcome, later);
        assert_eq!(scene.breaker.status(later), before);
    }
}

#[test]
fn a_probe_ends_the_timeout_only_of_a_worker_that_was_gone_when_it_opened() {
    let second = Duration::from_secs(1);
    for (outcome, probe_started_after, expected) in [
        (Outcome::Unreachable, Some(second), BreakerState::HalfOpen),
        (Outcome::Unreachable, Some(TICK), BreakerState::HalfOpen),
        // It may have met the worker before it died.
        (Outcome::Unreachable, Some(Duration::ZERO), BreakerState::Open),
        (Outcome::Unreachable, None, BreakerState::Open),
        // It answers probes while it fails requests.
        (Outcome::Failed, Some(second), BreakerState::Open),
    ] {
        let mut scene = Scene::new();
        scene.now += second;
        for _ in 0..4 {
            // Only the last failure tells what opened it.
            scene.ask(if outcome == Outcome::Failed {
                Outcome::Unreachable
            } else {
                Outcome::Failed
            });
        }
        scene.ask(outcome);
        let probe_started = match probe_started_after {
            Some(after) => scene.now + after,
            None => scene.now - TICK,
        };
        scene.breaker.reachable_again(probe_started);
        assert_eq!(scene.state(), expected, "{outcome:?}, probe {probe_started_after:?} after");
        assert_eq!(scene.acquire().is_some(), expected == BreakerState::HalfOpen);
    }
}

#[test]
fn a_probe_changes_nothing_unless_the_breaker_is_open() {
    let scene = Scene::new();
    scene.ask(Outcome::Unreachable);
    scene.breaker.reachable_again(scene.now + TICK);
    assert_eq!(scene.status().failures, 1);

    let scene = Scene::half_open();
    scene.ask(Outcome::Success);
    let trial = scene.acquire().unwrap();
    scene.breaker.reachable_again(scene.now + TICK);
    assert!(scene.acquire().is_none(), "the running trial keeps its slot");
    trial.record(Outcome::Success, scene.now);
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn a_new_process_is_tried_at_once_whatever_the_old_one_did() {
    for outcome in [Outcome::Failed, Outcome::Unreachable] {
        let scene = Scene::opened_by(outcome);
        scene.breaker.restarted();
        let expected = BreakerStatus { state: BreakerState::HalfOpen, failures: 0, successes: 0 };
        assert_eq!(scene.status(), expected);
        scene.ask(Outcome::Success);
        scene.ask(Outcome::Success);
        assert_eq!(scene.state(), BreakerState::Closed);
    }
}

#[test]
fn a_new_process_does_not_inherit_failures_counted_or_in_flight() {
    let scene = Scene::new();
    let in_flight = [scene.acquire(), scene.acquire()];
    for _ in 0..4 {
        scene.ask(Outcome::Failed);
    }
    scene.breaker.restarted();
    for permit in in_flight.into_iter().flatten() {
        permit.record(Outcome::Unreachable, scene.now);
    }
    let expected = BreakerStatus { state: BreakerState::Closed, failures: 0, successes: 0 };
    assert_eq!(scene.status(), expected);
}

#[test]
fn a_restart_during_trials_starts_them_anew() {
    let scene = Scene::half_open();
    scene.ask(Outcome::Success);
    let of_the_old_process = scene.acquire().unwrap();
    scene.breaker.restarted();
    assert_eq!(scene.status().successes, 0);
    let trial = scene.acquire().expect("the old process' trial holds no slot any more");
    of_the_old_process.record(Outcome::Failed, scene.now);
    assert_eq!(scene.state(), BreakerState::HalfOpen);
    trial.record(Outcome::Success, scene.now);
    assert_eq!(scene.status().successes, 1);
}

#[test]
fn counts_of_zero_are_taken_as_one() {
    let config = BreakerConfig {
        failures_to_open: 0,
        successes_to_close: 0,
        open_timeout: Duration::ZERO,
        trial_permits: 0,
    };
    let scene = Scene { breaker: CircuitBreaker::new(config), now: clock::start() };
    assert_eq!(scene.state(), BreakerState::Closed);
    scene.ask(Outcome::Failed);
    assert_eq!(scene.state(), BreakerState::HalfOpen, "opened, and its time-out of 0 has passed");
    scene.ask(Outcome::Success);
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn neither_an_endless_timeout_nor_a_clock_that_steps_back_panics() {
    let config = BreakerConfig { open_timeout: Duration::MAX, ..BreakerConfig::default() };
    let scene = Scene { breaker: CircuitBreaker::new(config), now: clock::start() + TIMEOUT };
    for _ in 0..5 {
        scene.ask(Outcome::Failed);
    }
    for now in [scene.now - TIMEOUT, scene.now + TIMEOUT] {
        assert!(scene.breaker.try_acquire(now).is_none());
    }
}
