//! The breaker against a second implementation of its rules, over random histories.
//!
//! The model keeps no counters that could go wrong in the same way: it holds every permit that is
//! out, every outcome that counted and every opening there was, and derives state from those
//! lists. What it cannot derive is by how much a time-out was lengthened at random: it asks, and
//! sees that it was within bounds.

use std::time::{Duration, Instant};

use inferring_policy::circuit_breaker::Tally;
use inferring_policy::{BreakerConfig, CircuitBreaker, Outcome, PenaltyConfig, Permit};
use inferring_types::{BreakerState, OpenedBy};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::start;

const TIMEOUT: Duration = Duration::from_millis(1500);
const TIMEOUT_MAX: Duration = Duration::from_millis(10_000);

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    Record(Index, Outcome),
    Drop(Index),
    Advance(Duration),
    /// A probe that started so long ago succeeds.
    Probe(Duration),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Failed),
        3 => Just(Outcome::Unreachable),
        1 => Just(Outcome::Neutral),
        2 => Just(Outcome::Refused),
    ];
    let step = prop_oneof![
        8 => Just(Step::Acquire),
        8 => (any::<Index>(), outcome).prop_map(|(permit, outcome)| Step::Record(permit, outcome)),
        1 => any::<Index>().prop_map(Step::Drop),
        2 => (0..600_u64).prop_map(|passed| Step::Advance(Duration::from_millis(passed))),
        1 => (0..12_000_u64).prop_map(|passed| Step::Advance(Duration::from_millis(passed))),
        1 => (0..900_u64).prop_map(|ago| Step::Probe(Duration::from_millis(ago))),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..250)
}

fn configs() -> impl Strategy<Value = BreakerConfig> {
    (1..9_u32, 1..12_u32, 1..5_u32, 1..4_u32, 1..4_u32).prop_map(
        |(failures_to_open, samples_min, quarters, successes_to_close, trial_permits)| {
            BreakerConfig {
                failures_to_open,
                failure_rate_to_open: f64::from(quarters) / 4.0,
                samples_min,
                successes_to_close,
                timeout: PenaltyConfig { first: TIMEOUT, max: TIMEOUT_MAX },
                trial_permits,
            }
        },
    )
}

/// A stretch of the breaker's life in one state.
#[derive(Debug)]
struct Era {
    state: BreakerState,
    began: Instant,
    /// Outcomes that counted in this era, and when.
    history: Vec<(Outcome, Instant)>,
    /// Numbers of the permits that were given in this era and are out.
    permits: Vec<usize>,
    /// When permits of this era were given.
    given: Vec<Instant>,
}

/// An opening: when, for how long, after how many doublings.
#[derive(Debug, Clone, Copy)]
struct Opening {
    timeout: Duration,
    doublings: u32,
    by: OpenedBy,
}

struct Model {
    config: BreakerConfig,
    started: Option<Instant>,
    era: Era,
    /// Every outcome that counted, since the last restart.
    counted: Vec<Outcome>,
    /// Whether there was a restart since the last opening.
    replaced: bool,
    /// Outcomes since the window was last emptied, and when.
    remembered: Vec<(Outcome, Instant)>,
    openings: Vec<Opening>,
    closed_at: Option<Instant>,
}

impl Model {
    fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            config,
            started: None,
            era: Era::begins(BreakerState::Closed, now),
            counted: vec![],
            replaced: false,
            remembered: vec![],
            openings: vec![],
            closed_at: None,
        }
    }

    fn begin(&mut self, state: BreakerState, now: Instant) {
        self.era = Era::begins(state, now);
    }

    fn last_opening(&self) -> Opening {
        *self.openings.last().unwrap()
    }

    fn timeout_is_over(&self, now: Instant) -> bool {
        self.era.state == BreakerState::Open && now >= self.era.began + self.last_opening().timeout
    }

    fn available(&self, now: Instant) -> bool {
        let free = self.era.permits.len() < self.config.trial_permits as usize;
        // One is taken for lost, and no other was let through since.
        let lost = || self.era.given.iter().all(|&given| now >= given + TIMEOUT);
        match self.era.state {
            BreakerState::Closed => true,
            BreakerState::Open => self.timeout_is_over(now),
            BreakerState::HalfOpen => free || lost(),
        }
    }

    fn acquire(&mut self, permit: usize, now: Instant) -> bool {
        let available = self.available(now);
        if available {
            if self.era.state == BreakerState::Open {
                self.begin(BreakerState::HalfOpen, now);
            }
            self.era.permits.push(permit);
            self.era.given.push(now);
        }
        available
    }

    /// The outcomes of the last ten seconds, by whole seconds since the first outcome after the
    /// window was emptied.
    fn tally(&self, now: Instant) -> Tally {
        let Some(started) = self.started else { return Tally::default() };
        let second = |at: Instant| (at - started).as_secs();
        let recent = |&&(_, at): &&(Outcome, Instant)| second(at) + 10 > second(now);
        let count = |which: &[Outcome]| {
            let of = |&&(outcome, _): &&(Outcome, Instant)| which.contains(&outcome);
            self.remembered.iter().filter(recent).filter(of).count() as u32
        };
        Tally {
            successes: count(&[Outcome::Success]),
            failures: count(&[Outcome::Failed, Outcome::Unreachable]),
            refusals: count(&[Outcome::Refused]),
        }
    }

    /// Settles a permit; `drawn` tells the time-out that the breaker has chosen if it opened.
    fn settle(
        &mut self,
        permit: usize,
        outcome: Option<Outcome>,
        now: Instant,
        drawn: Option<Duration>,
    ) {
        let Some(position) = self.era.permits.iter().position(|&out| out == permit) else {
            return;
        };
        self.era.permits.remove(position);
        let Some(outcome) = outcome else { return };
        self.started.get_or_insert(now);
        self.remembered.push((outcome, now));
        if matches!(outcome, Outcome::Neutral | Outcome::Refused) {
            return;
        }
        self.era.history.push((outcome, now));
        self.counted.push(outcome);
        let half_open = self.era.state == BreakerState::HalfOpen;
        if outcome != Outcome::Success {
            let run = trailing_failures(&self.counted);
            let tally = self.tally(now);
            let of = tally.successes + tally.failures;
            let rate = f64::from(tally.failures) / f64::from(of);
            if half_open {
                self.open(OpenedBy::Trial, now, drawn);
            } else if run >= self.config.failures_to_open {
                self.open(OpenedBy::FailuresInARow, now, drawn);
            } else if of >= self.config.samples_min && rate >= self.config.failure_rate_to_open {
                self.open(OpenedBy::FailureRate, now, drawn);
            }
        } else if half_open && self.era.history.len() as u32 >= self.config.successes_to_close {
            self.begin(BreakerState::Closed, now);
            self.closed_at = Some(now);
            self.empty_window();
        }
    }

    fn open(&mut self, by: OpenedBy, now: Instant, drawn: Option<Duration>) {
        let mut doublings = match self.openings.last() {
            None => 0,
            Some(last) => last.doublings + 1,
        };
        if self.era.state == BreakerState::Closed
            && let Some(closed_at) = self.closed_at
        {
            let mut good = now - closed_at;
            while good >= 2 * TIMEOUT && doublings > 0 {
                good -= 2 * TIMEOUT;
                doublings -= 1;
            }
        }
        let mut least = TIMEOUT;
        for _ in 0..doublings {
            least = (least * 2).min(TIMEOUT_MAX);
        }
        let timeout = drawn.expect("the breaker has not opened");
        assert!((least..=least + least / 5).contains(&timeout), "{timeout:?}, least {least:?}");
        self.openings.push(Opening { timeout, doublings, by });
        self.replaced = false;
        self.begin(BreakerState::Open, now);
    }

    fn empty_window(&mut self) {
        self.remembered.clear();
        self.started = None;
    }

    /// Whether an open breaker's time-out may be cut short by what was seen at `seen`.
    fn may_return(&self, seen: Instant) -> bool {
        let opening = self.last_opening();
        let kept = if opening.doublings == 0 { Duration::ZERO } else { opening.timeout / 32 };
        seen >= self.era.began + kept
    }

    fn probe(&mut self, started: Instant, now: Instant) {
        if self.era.state == BreakerState::Open
            && (self.counted.last() == Some(&Outcome::Unreachable) || self.replaced)
            && started > self.era.began
            && self.may_return(started)
        {
            self.begin(BreakerState::HalfOpen, now);
        }
    }

    fn restart(&mut self, now: Instant) {
        self.counted.clear();
        self.empty_window();
        match self.era.state {
            BreakerState::Closed => self.begin(BreakerState::Closed, now),
            BreakerState::HalfOpen => self.begin(BreakerState::HalfOpen, now),
            BreakerState::Open if self.may_return(now) => self.begin(BreakerState::HalfOpen, now),
            BreakerState::Open => self.replaced = true,
        }
    }

    fn check(&self, breaker: &CircuitBreaker, now: Instant) -> Result<(), TestCaseError> {
        let status = breaker.status(now);
        let over = self.timeout_is_over(now);
        let state = if over { BreakerState::HalfOpen } else { self.era.state };
        prop_assert_eq!(status.state, state);
        prop_assert_eq!(status.failures, trailing_failures(&self.counted));
        let half_open = self.era.state == BreakerState::HalfOpen;
        let successes = if half_open { self.era.history.len() as u32 } else { 0 };
        prop_assert_eq!(status.successes, successes);
        let by = (state != BreakerState::Closed).then(|| self.last_opening().by);
        prop_assert_eq!(status.opened_by, by);
        let left = |opening: Opening| self.era.began + opening.timeout - now;
        let trial_in = (state == BreakerState::Open).then(|| left(self.last_opening()));
        prop_assert_eq!(status.trial_in, trial_in);
        prop_assert_eq!(breaker.tally(now), self.tally(now));
        prop_assert_eq!(breaker.is_available(now), self.available(now));
        Ok(())
    }
}

impl Era {
    fn begins(state: BreakerState, began: Instant) -> Self {
        Self { state, began, history: vec![], permits: vec![], given: vec![] }
    }
}

fn trailing_failures(outcomes: &[Outcome]) -> u32 {
    outcomes.iter().rev().take_while(|&&outcome| outcome != Outcome::Success).count() as u32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_breaker_does_what_its_model_does(
        config in configs(),
        seed in any::<u64>(),
        steps in steps(),
    ) {
        let mut now = start() + Duration::from_secs(10);
        let breaker = CircuitBreaker::new(config, seed);
        let mut model = Model::new(config, now);
        let mut permits = Vec::<(usize, Permit<'_>)>::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Acquire => {
                    let permit = breaker.try_acquire(now);
                    prop_assert_eq!(permit.is_some(), model.acquire(number, now));
                    permits.extend(permit.map(|permit| (number, permit)));
                }
                Step::Record(_, _) | Step::Drop(_) if permits.is_empty() => {}
                Step::Record(index, outcome) => {
                    let (number, permit) = permits.remove(index.index(permits.len()));
                    permit.record(outcome, now);
                    model.settle(number, Some(outcome), now, breaker.status(now).trial_in);
                }
                Step::Drop(index) => {
                    let (number, permit) = permits.remove(index.index(permits.len()));
                    drop(permit);
                    model.settle(number, None, now, None);
                }
                Step::Advance(passed) => now += passed,
                Step::Probe(ago) => {
                    breaker.reachable_again(now - ago);
                    model.probe(now - ago, now);
                }
                Step::Restart => {
                    breaker.restarted(now);
                    model.restart(now);
                }
            }
            model.check(&breaker, now)?;
        }

        // Whatever happened, and though nobody lets go of what he holds: once the longest time-out
        // is over the breaker admits, and a worker that answers from then on closes it.
        now += TIMEOUT_MAX + TIMEOUT_MAX / 5;
        for _ in 0..config.successes_to_close {
            let permit = breaker.try_acquire(now);
            prop_assert!(permit.is_some(), "stuck in {:?}", breaker.status(now));
            permit.expect("just seen").record(Outcome::Success, now);
            now += TIMEOUT;
        }
        prop_assert_eq!(breaker.status(now).state, BreakerState::Closed);
    }
}
