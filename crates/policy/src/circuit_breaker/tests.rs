//! The rules of the breaker, one sentence each. All of them together against a second
//! implementation: `tests/it/breaker_model.rs`.

use std::time::{Duration, Instant};

use inferring_types::{BreakerState, BreakerStatus, OpenedBy};

use super::*;
use crate::clock;
use crate::penalty::PenaltyConfig;

const SECOND: Duration = Duration::from_secs(1);
/// The first time-out is this long at least, and less than a fifth longer.
const TIMEOUT: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_secs(36);
const TICK: Duration = Duration::from_nanos(1);

/// A breaker and a time of its own.
struct Scene {
    breaker: CircuitBreaker,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { breaker: CircuitBreaker::new(BreakerConfig::default(), 1), now: clock::start() }
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
        scene.wait();
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

    /// The state, failures and successes.
    fn counts(&self) -> (BreakerState, u32, u32) {
        let BreakerStatus { state, failures, successes, .. } = self.status();
        (state, failures, successes)
    }

    /// Lets the time-out pass.
    fn wait(&mut self) {
        self.now += self.status().trial_in.expect("it is not open");
    }
}

#[test]
fn five_failures_in_a_row_open_it() {
    for failure in [Outcome::Failed, Outcome::Unreachable] {
        let scene = Scene::new();
        for failures in 1..5 {
            scene.ask(failure);
            assert_eq!(scene.counts(), (BreakerState::Closed, failures, 0));
        }
        scene.ask(failure);
        assert_eq!(scene.counts(), (BreakerState::Open, 5, 0));
        assert!(scene.acquire().is_none());
    }
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    let scene = Scene::new();
    for _ in 0..3 {
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
    let timeout = scene.status().trial_in.unwrap();
    assert!((TIMEOUT..FIRST).contains(&timeout), "{timeout:?}");
    scene.now += timeout - TICK;
    assert!(scene.acquire().is_none());
    assert_eq!(scene.status().trial_in, Some(TICK));
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
    let scene =
        Scene { breaker: CircuitBreaker::new(config, 1), ..Scene::opened_by(Outcome::Failed) };
    for _ in 0..5 {
        scene.ask(Outcome::Failed);
    }
    let scene = Scene { now: scene.now + FIRST, ..scene };
    let trials = [scene.acquire(), scene.acquire(), scene.acquire()];
    assert!(trials.iter().all(Option::is_some));
    assert!(scene.acquire().is_none());
}

#[test]
fn two_successes_close_it_and_leave_no_trace() {
    let scene = Scene::half_open();
    scene.ask(Outcome::Success);
    assert_eq!(scene.counts(), (BreakerState::HalfOpen, 0, 1));
    scene.ask(Outcome::Success);
    assert_eq!(scene.counts(), (BreakerState::Closed, 0, 0));
    for _ in 0..4 {
        scene.ask(Outcome::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn one_failed_trial_opens_it_again_for_twice_the_time() {
    let mut scene = Scene::half_open();
    scene.ask(Outcome::Success);
    scene.now += Duration::from_secs(5);
    scene.ask(Outcome::Failed);
    assert_eq!(scene.state(), BreakerState::Open);
    assert_eq!(scene.status().opened_by, Some(OpenedBy::Trial));
    let timeout = scene.status().trial_in.unwrap();
    assert!((2 * TIMEOUT..2 * FIRST).contains(&timeout), "{timeout:?}");
    scene.now += timeout - TICK;
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

        let later = scene.now + FIRST;
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
    for (outcome, probe_started_after, expected) in [
        (Outcome::Unreachable, Some(SECOND), BreakerState::HalfOpen),
        (Outcome::Unreachable, Some(TICK), BreakerState::HalfOpen),
        // It may have met the worker before it died.
        (Outcome::Unreachable, Some(Duration::ZERO), BreakerState::Open),
        (Outcome::Unreachable, None, BreakerState::Open),
        // It answers probes while it fails requests.
        (Outcome::Failed, Some(SECOND), BreakerState::Open),
    ] {
        let mut scene = Scene::new();
        scene.now += SECOND;
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
        scene.breaker.restarted(scene.now);
        assert_eq!(scene.counts(), (BreakerState::HalfOpen, 0, 0));
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
    scene.breaker.restarted(scene.now);
    for permit in in_flight.into_iter().flatten() {
        permit.record(Outcome::Unreachable, scene.now);
    }
    assert_eq!(scene.counts(), (BreakerState::Closed, 0, 0));
}

#[test]
fn a_restart_during_trials_starts_them_anew() {
    let scene = Scene::half_open();
    scene.ask(Outcome::Success);
    let of_the_old_process = scene.acquire().unwrap();
    scene.breaker.restarted(scene.now);
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
        samples_min: 0,
        successes_to_close: 0,
        timeout: PenaltyConfig { first: Duration::ZERO, max: Duration::ZERO },
        trial_permits: 0,
        ..BreakerConfig::default()
    };
    let scene = Scene { breaker: CircuitBreaker::new(config, 1), now: clock::start() };
    assert_eq!(scene.state(), BreakerState::Closed);
    scene.ask(Outcome::Failed);
    assert_eq!(scene.state(), BreakerState::HalfOpen, "opened, and its time-out of 0 has passed");
    scene.ask(Outcome::Success);
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn neither_an_endless_timeout_nor_a_clock_that_steps_back_panics() {
    let config = BreakerConfig {
        timeout: PenaltyConfig { first: Duration::MAX, max: Duration::MAX },
        ..BreakerConfig::default()
    };
    let scene = Scene { breaker: CircuitBreaker::new(config, 1), now: clock::start() + TIMEOUT };
    for _ in 0..5 {
        scene.ask(Outcome::Failed);
    }
    for now in [scene.now - TIMEOUT, scene.now + TIMEOUT] {
        assert!(scene.breaker.try_acquire(now).is_none());
    }
}

/// Asks as `pattern` says, over and over, `every` so often; after how many requests it opened.
fn requests_until_open(scene: &mut Scene, pattern: &[Outcome], every: Duration) -> Option<u32> {
    pattern.iter().cycle().zip(1..=1000).find_map(|(&outcome, request)| {
        scene.now += every;
        scene.ask(outcome);
        (scene.state() == BreakerState::Open).then_some(request)
    })
}

#[test]
fn a_share_of_failures_opens_it_though_they_are_never_five_in_a_row() {
    use Outcome::{Failed, Neutral, Refused, Success, Unreachable};
    let quick = Duration::from_millis(1);
    for (pattern, every, expected) in [
        (&[Success, Failed][..], quick, Some(20)),
        (&[Success, Unreachable], quick, Some(20)),
        // The twentieth is a success, and only a failure opens.
        (&[Failed, Failed, Failed, Success], quick, Some(21)),
        (&[Success, Success, Failed], quick, None),
        // Neither refusals nor what says nothing are part of the share.
        (&[Refused, Success, Neutral, Failed], quick, Some(40)),
        // Ten seconds hold twenty requests at this rate, and nine at that.
        (&[Success, Failed], Duration::from_millis(450), Some(20)),
        (&[Success, Failed], SECOND, None),
    ] {
        let mut scene = Scene::new();
        let opened = requests_until_open(&mut scene, pattern, every);
        assert_eq!(opened, expected, "{pattern:?} every {every:?}");
        if opened.is_some() {
            assert_eq!(scene.status().opened_by, Some(OpenedBy::FailureRate));
        }
    }
}

#[test]
fn closing_resets_the_window() {
    let mut scene = Scene::new();
    requests_until_open(&mut scene, &[Outcome::Success, Outcome::Failed], TICK).unwrap();
    scene.breaker.restarted(scene.now);
    for _ in 0..2 {
        scene.ask(Outcome::Success);
    }
    assert_eq!(scene.breaker.tally(scene.now), Tally::default());
    let opened = requests_until_open(&mut scene, &[Outcome::Success, Outcome::Failed], TICK);
    assert_eq!(opened, Some(20), "it takes as many again");
}

#[test]
fn refusals_open_nothing_and_close_nothing() {
    let mut scene = Scene::new();
    for _ in 0..1000 {
        scene.ask(Outcome::Refused);
    }
    assert_eq!(scene.counts(), (BreakerState::Closed, 0, 0));
    assert_eq!(scene.breaker.tally(scene.now).refusals, 1000);
    for _ in 0..5 {
        scene.ask(Outcome::Refused);
        scene.ask(Outcome::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Open, "refusals between them hide no failures");
    scene.wait();
    for _ in 0..10 {
        scene.ask(Outcome::Refused);
        assert_eq!(scene.counts(), (BreakerState::HalfOpen, 5, 0));
    }
}

#[test]
fn time_outs_double_while_it_flaps_and_fall_back_with_good_conduct() {
    let mut scene = Scene::new();
    for seconds in [30, 60, 120, 240, 300, 300] {
        for _ in 0..5 {
            scene.ask(Outcome::Failed);
        }
        let timeout = scene.status().trial_in.unwrap();
        let least = SECOND * seconds;
        assert!((least..least + least / 5).contains(&timeout), "{timeout:?} for {seconds} s");
        scene.wait();
        for _ in 0..2 {
            scene.ask(Outcome::Success);
        }
        assert_eq!(scene.state(), BreakerState::Closed);
    }
    scene.now += SECOND * 60 * 6;
    for _ in 0..5 {
        scene.ask(Outcome::Failed);
    }
    let timeout = scene.status().trial_in.unwrap();
    assert!((TIMEOUT..FIRST).contains(&timeout), "{timeout:?} after six good minutes");
}

/// A probe each second finds the worker there, or a new process in its place; each time the
/// first request fails again.
#[test]
fn fault_18_a_worker_that_comes_and_goes_is_tried_ever_more_rarely() {
    for new_process in [false, true] {
        let mut scene = Scene::opened_by(Outcome::Unreachable);
        let mut trials = Vec::new();
        for second in 1..=600 {
            scene.now += SECOND;
            if new_process {
                scene.breaker.restarted(scene.now);
            } else {
                scene.breaker.reachable_again(scene.now);
            }
            if let Some(trial) = scene.acquire() {
                trial.record(Outcome::Unreachable, scene.now);
                trials.push(second);
            }
        }
        assert_eq!(trials[0], 1, "the first time it is asked as soon as it is back");
        let pauses: Vec<_> = trials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A thirty-second part of 60, 120, 240 and then 300 seconds, to the next whole second.
        for (pause, range) in pauses.iter().zip([2..=3, 4..=5, 8..=9]) {
            assert!(range.contains(pause), "{pauses:?}");
        }
        assert!(pauses[3..].iter().all(|pause| (10..=12).contains(pause)), "{pauses:?}");
    }
}

#[test]
fn fault_13_a_trial_that_is_never_heard_of_again_does_not_block_the_next_for_ever() {
    let Scene { breaker, now } = Scene::half_open();
    let lost = breaker.try_acquire(now).unwrap();
    assert!(breaker.try_acquire(now + TIMEOUT - TICK).is_none());
    let later = now + TIMEOUT;
    let next = breaker.try_acquire(later).expect("another one is let through beside it");
    assert!(breaker.try_acquire(later).is_none(), "and no more than one");
    next.record(Outcome::Success, later);
    // It was slow, not lost: it counts as any other.
    lost.record(Outcome::Success, later);
    assert_eq!(breaker.status(later).state, BreakerState::Closed);
}

#[test]
fn a_permit_got_anyway_takes_no_slot_and_counts_for_nothing() {
    let scene = Scene::half_open();
    let trial = scene.acquire().unwrap();
    for outcome in [Outcome::Success, Outcome::Failed, Outcome::Unreachable, Outcome::Refused] {
        let before = scene.status();
        scene.breaker.acquire_anyway().record(outcome, scene.now);
        drop(scene.breaker.acquire_anyway());
        assert_eq!(scene.status(), before);
        assert!(scene.acquire().is_none(), "it freed a slot that it did not hold");
    }
    trial.record(Outcome::Success, scene.now);
    assert_eq!(scene.counts(), (BreakerState::HalfOpen, 0, 1));
}

#[test]
fn what_was_asked_before_a_judgement_does_not_count_after_it() {
    let scene = Scene::new();
    for _ in 0..4 {
        scene.ask(Outcome::Failed);
    }
    let straggler = scene.acquire().unwrap();
    scene.breaker.forget();
    straggler.record(Outcome::Failed, scene.now);
    assert_eq!(scene.counts(), (BreakerState::Closed, 0, 0));
    assert_eq!(scene.breaker.tally(scene.now), Tally::default());
}
