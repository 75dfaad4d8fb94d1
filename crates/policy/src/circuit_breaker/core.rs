//! The breaker's state and its rules, apart from the lock around them.

use std::time::{Duration, Instant};

use inferring_types::{BreakerState, BreakerStatus, OpenedBy};

use super::window::{Tally, Window};
use super::{BreakerConfig, Outcome};
use crate::penalty::Penalty;

/// The part of the time-out that is never cut short, from the second opening in a row on. A first
/// time-out may be cut short at once.
const KEPT: u32 = 32;

/// No trial is taken for lost sooner than after this time, however short the time-out is.
const TRIAL_PATIENCE_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Core {
    config: BreakerConfig,
    state: State,
    /// Counts the changes of state. Outcomes are counted in the generation of their permit only.
    generation: u64,
    /// Failures since the last success, in whichever states.
    failures: u32,
    window: Window,
    penalty: Penalty,
    /// What opened it last.
    opened_by: Option<OpenedBy>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open {
        since: Instant,
        timeout: Duration,
        /// For how long it stays open though the worker is seen to be there again.
        kept: Duration,
        /// Whether the worker that did badly is gone: the last failure was that nobody was there,
        /// or there is another process since.
        gone: bool,
    },
    HalfOpen {
        successes: u32,
        trials: u32,
        /// When the last trial began.
        latest: Option<Instant>,
    },
}

impl State {
    const HALF_OPEN: Self = Self::HalfOpen { successes: 0, trials: 0, latest: None };
}

impl Core {
    pub(super) fn new(config: BreakerConfig, seed: u64) -> Self {
        let config = BreakerConfig {
            failures_to_open: config.failures_to_open.max(1),
            samples_min: config.samples_min.max(1),
            successes_to_close: config.successes_to_close.max(1),
            trial_permits: config.trial_permits.max(1),
            ..config
        };
        Self {
            config,
            state: State::Closed,
            generation: 0,
            failures: 0,
            window: Window::new(),
            penalty: Penalty::new(config.timeout, seed),
            opened_by: None,
        }
    }

    /// The generation of the permit, if there is one to give.
    pub(super) fn try_acquire(&mut self, now: Instant) -> Option<u64> {
        if self.timeout_passed(now) {
            self.enter(State::HALF_OPEN);
        }
        if !self.is_available(now) {
            return None;
        }
        if let State::HalfOpen { trials, latest, .. } = &mut self.state {
            *trials += 1;
            *latest = Some(now);
        }
        Some(self.generation)
    }

    pub(super) fn is_available(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { .. } => self.timeout_passed(now),
            State::HalfOpen { trials, latest, .. } => {
                let patience = self.config.timeout.first.max(TRIAL_PATIENCE_MIN);
                let lost = |since| now.saturating_duration_since(since) >= patience;
                trials < self.config.trial_permits || latest.is_some_and(lost)
            }
        }
    }

    /// Ends a permit of `generation`: gives its slot back and counts what it learnt.
    pub(super) fn settle(&mut self, generation: u64, outcome: Outcome, now: Instant) {
        if self.generation != generation {
            return;
        }
        self.release_trial();
        self.window.count(outcome, now);
        match outcome {
            Outcome::Neutral | Outcome::Refused => {}
            Outcome::Success => self.count_success(now),
            Outcome::Unreachable => self.count_failure(true, now),
            Outcome::Failed => self.count_failure(false, now),
        }
    }

    /// Gives back the slot of a permit of `generation`.
    pub(super) fn release(&mut self, generation: u64) {
        if self.generation == generation {
            self.release_trial();
        }
    }

    pub(super) fn reachable_again(&mut self, probe_started: Instant) {
        if let State::Open { since, kept, gone: true, .. } = self.state
            && probe_started > since
            && probe_started.saturating_duration_since(since) >= kept
        {
            self.enter(State::HALF_OPEN);
        }
    }

    pub(super) fn restarted(&mut self, seen: Instant) {
        self.forget();
        match &mut self.state {
            State::Closed => {}
            State::HalfOpen { .. } => self.enter(State::HALF_OPEN),
            State::Open { since, kept, gone, .. } => {
                *gone = true;
                if seen.saturating_duration_since(*since) >= *kept {
                    self.enter(State::HALF_OPEN);
                }
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.failures = 0;
        self.window.clear();
        if matches!(self.state, State::Closed) {
            self.generation += 1;
        }
    }

    pub(super) fn tally(&self, now: Instant) -> Tally {
        self.window.tally(now)
    }

    pub(super) fn status(&self, now: Instant) -> BreakerStatus {
        let (state, successes, trial_in) = match self.state {
            State::Closed => (BreakerState::Closed, 0, None),
            State::Open { .. } if self.timeout_passed(now) => (BreakerState::HalfOpen, 0, None),
            State::Open { since, timeout, .. } => {
                let left = timeout.saturating_sub(now.saturating_duration_since(since));
                (BreakerState::Open, 0, Some(left))
            }
            State::HalfOpen { successes, .. } => (BreakerState::HalfOpen, successes, None),
        };
        let opened_by = self.opened_by.filter(|_| state != BreakerState::Closed);
        BreakerStatus { state, failures: self.failures, successes, opened_by, trial_in }
    }

    fn timeout_passed(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { since, timeout, .. }
            if now.saturating_duration_since(since) >= timeout)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    fn release_trial(&mut self) {
        if let State::HalfOpen { trials, .. } = &mut self.state {
            debug_assert!(*trials > 0, "a permit of this generation holds a slot");
            *trials -= 1;
        }
    }

    fn count_success(&mut self, now: Instant) {
        self.failures = 0;
        if let State::HalfOpen { successes, .. } = &mut self.state {
            *successes += 1;
            if *successes >= self.config.successes_to_close {
                self.window.clear();
                self.penalty.good_from(now);
                self.enter(State::Closed);
            }
        }
    }

    fn count_failure(&mut self, unreachable: bool, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let opened_by = match self.state {
            State::HalfOpen { .. } => OpenedBy::Trial,
            _ if self.failures >= self.config.failures_to_open => OpenedBy::FailuresInARow,
            _ if self.fails_too_often(now) => OpenedBy::FailureRate,
            _ => return,
        };
        self.opened_by = Some(opened_by);
        let repeated = self.penalty.level(now) > 0;
        let timeout = self.penalty.impose(now);
        let kept = if repeated { timeout / KEPT } else { Duration::ZERO };
        self.enter(State::Open { since: now, timeout, kept, gone: unreachable });
    }

    fn fails_too_often(&self, now: Instant) -> bool {
        let tally = self.window.tally(now);
        let attempted = tally.attempted();
        let bound = self.config.failure_rate_to_open * f64::from(attempted);
        attempted >= self.config.samples_min && f64::from(tally.failures) >= bound
    }
}
