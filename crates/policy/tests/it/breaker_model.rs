//! The breaker against a second implementation of its rules, over random histories.
//!
//! The model keeps no counters that could go wrong in the same way: it holds every permit that is
//! out and every outcome that counted, and derives state from those lists.

use std::time::{Duration, Instant};

use inferring_policy::{BreakerConfig, CircuitBreaker, Outcome, Permit};
use inferring_types::{BreakerState, BreakerStatus};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::start;

const TIMEOUT: Duration = Duration::from_millis(100);

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
    ];
    let step = prop_oneof![
        8 => Just(Step::Acquire),
        8 => (any::<Index>(), outcome).prop_map(|(permit, outcome)| Step::Record(permit, outcome)),
        1 => any::<Index>().prop_map(Step::Drop),
        3 => (0..120_u64).prop_map(|passed| Step::Advance(Duration::from_millis(passed))),
        1 => (0..60_u64).prop_map(|ago| Step::Probe(Duration::from_millis(ago))),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..200)
}

fn configs() -> impl Strategy<Value = BreakerConfig> {
    (1..5_u32, 1..4_u32, 1..4_u32).prop_map(
        |(failures_to_open, successes_to_close, trial_permits)| BreakerConfig {
            failures_to_open,
            successes_to_close,
            open_timeout: TIMEOUT,
            trial_permits,
        },
    )
}

/// A stretch of the breaker's life in one state.
#[derive(Debug)]
struct Era {
    state: BreakerState,
    began: Instant,
    /// Outcomes that counted in this era.
    history: Vec<Outcome>,
    /// Numbers of the permits that were given in this era and are out.
    permits: Vec<usize>,
}

struct Model {
    config: BreakerConfig,
    era: Era,
    /// Every outcome that counted, since the last restart.
    counted: Vec<Outcome>,
}

impl Model {
    fn new(config: BreakerConfig, now: Instant) -> Self {
        let era = Era { state: BreakerState::Closed, began: now, history: vec![], permits: vec![] };
        Self { config, era, counted: vec![] }
    }

    fn begin(&mut self, state: BreakerState, now: Instant) {
        self.era = Era { state, began: now, history: vec![], permits: vec![] };
    }

    fn timeout_is_over(&self, now: Instant) -> bool {
        self.era.state == BreakerState::Open && now >= self.era.began + self.config.open_timeout
    }

    fn available(&self, now: Instant) -> bool {
        match self.era.state {
            BreakerState::Closed => true,
            BreakerState::Open => self.timeout_is_over(now),
            BreakerState::HalfOpen => self.era.permits.len() < self.config.trial_permits as usize,
        }
    }

    fn acquire(&mut self, permit: usize, now: Instant) -> bool {
        let available = self.available(now);
        if available {
            if self.era.state == BreakerState::Open {
                self.begin(BreakerState::HalfOpen, now);
            }
            self.era.permits.push(permit);
        }
        available
    }

    fn settle(&mut self, permit: usize, outcome: Outcome, now: Instant) {
        let Some(position) = self.era.permits.iter().position(|&out| out == permit) else {
            return;
        };
        self.era.permits.remove(position);
        if outcome == Outcome::Neutral {
            return;
        }
        self.era.history.push(outcome);
        self.counted.push(outcome);
        let half_open = self.era.state == BreakerState::HalfOpen;
        if outcome != Outcome::Success {
            let run = trailing_failures(&self.era.history);
            if half_open || run >= self.config.failures_to_open {
                self.begin(BreakerState::Open, now);
            }
        } else if half_open && self.era.history.len() as u32 >= self.config.successes_to_close {
            self.begin(BreakerState::Closed, now);
        }
    }

    fn probe(&mut self, started: Instant, now: Instant) {
        if self.era.state == BreakerState::Open
            && self.counted.last() == Some(&Outcome::Unreachable)
            && started > self.era.began
        {
            self.begin(BreakerState::HalfOpen, now);
        }
    }

    fn restart(&mut self, now: Instant) {
        self.counted.clear();
        let closed = self.era.state == BreakerState::Closed;
        self.begin(if closed { BreakerState::Closed } else { BreakerState::HalfOpen }, now);
    }

    fn status(&self, now: Instant) -> BreakerStatus {
        let over = self.timeout_is_over(now);
        let state = if over { BreakerState::HalfOpen } else { self.era.state };
        let half_open = self.era.state == BreakerState::HalfOpen;
        BreakerStatus {
            state,
            failures: trailing_failures(&self.counted),
            successes: if half_open { self.era.history.len() as u32 } else { 0 },
        }
    }
}

fn trailing_failures(outcomes: &[Outcome]) -> u32 {
    outcomes.iter().rev().take_while(|&&outcome| outcome != Outcome::Success).count() as u32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_breaker_does_what_its_model_does(config in configs(), steps in steps()) {
        let mut now = start();
        let breaker = CircuitBreaker::new(config);
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
                    model.settle(number, outcome, now);
                }
                Step::Drop(index) => {
                    let (number, permit) = permits.remove(index.index(permits.len()));
                    drop(permit);
                    model.settle(number, Outcome::Neutral, now);
                }
                Step::Advance(passed) => now += passed,
                Step::Probe(ago) => {
                    breaker.reachable_again(now - ago);
                    model.probe(now - ago, now);
                }
                Step::Restart => {
                    breaker.restarted();
                    model.restart(now);
                }
            }
            prop_assert_eq!(breaker.status(now), model.status(now));
            prop_assert_eq!(breaker.is_available(now), model.available(now));
        }

        // Whatever happened: once nobody is asking and the time-out is over, the breaker admits,
        // and a worker that answers from then on closes it.
        permits.clear();
        now += TIMEOUT;
        for _ in 0..config.successes_to_close {
            let permit = breaker.try_acquire(now);
            prop_assert!(permit.is_some(), "stuck in {:?}", breaker.status(now));
            permit.expect("just seen").record(Outcome::Success, now);
        }
        prop_assert_eq!(breaker.status(now).state, BreakerState::Closed);
    }
}
