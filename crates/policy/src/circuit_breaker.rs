//! Keeps requests away from a worker that keeps failing them, and finds out when to come back.
//!
//! ```text
//!            failures_to_open in a row                 open_timeout passed,
//!   CLOSED ─────────────────────────────▶ OPEN ──────────────────────────────▶ HALF_OPEN
//!     ▲                                    ▲      it is reachable again,           │  │
//!     │                                    │      or another process              │  │
//!     │                                    └──────────── one failure ─────────────┘  │
//!     └───────────────────────── successes_to_close ─────────────────────────────────┘
//! ```
//!
//! Who asks a worker holds a [`Permit`] while it does. A permit belongs to the *generation* in
//! which it was given; each change of state, and each new process behind the worker, starts
//! another one. So a straggler that fails after the breaker has closed again says nothing about
//! the worker as it is now, and is not counted.
//!
//! In HALF_OPEN a permit is one of a few trial slots. Whatever ends it (success, failure, a
//! client that hung up, a panic) gives the slot back, so a breaker cannot be stuck half-open for
//! want of slots.

use std::time::{Duration, Instant};

use inferring_types::{BreakerState, BreakerStatus};
use parking_lot::Mutex;

/// When a breaker opens and closes. A count of 0 is taken as 1: a breaker that opens without a
/// failure, or admits no trial, would never let a request through again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Consecutive failures that open a closed breaker.
    pub failures_to_open: u32,
    /// Successes that close a half-open breaker.
    pub successes_to_close: u32,
    /// How long an open breaker keeps everything away before it tries again.
    pub open_timeout: Duration,
    /// Requests let through at a time while half-open.
    ///
    /// One by default. A trial is a client's request at risk, and a second one beside it teaches
    /// little: any failure reopens, and a worker that is well again answers the two trials that
    /// close the breaker one after the other within milliseconds.
    pub trial_permits: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures_to_open: 5,
            successes_to_close: 2,
            open_timeout: Duration::from_secs(30),
            trial_permits: 1,
        }
    }
}

/// What a request said about the worker that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered.
    Success,
    /// There was no worker to answer: connection refused, reset, broken off.
    Unreachable,
    /// It was there and failed: an error of its own, or no answer in the time it was given.
    Failed,
    /// Nothing: the client was mistaken or left, the request was refused locally or found a full
    /// queue, its deadline had passed. Five malformed requests must not open a breaker.
    Neutral,
}

/// The breaker of one worker. All of its state is behind one lock, held for a few instructions.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Counts the changes of state. Outcomes are counted in the generation of their permit only.
    generation: u64,
    /// Failures since the last success, in whichever states.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open {
        since: Instant,
        /// Whether the last failure was that nobody was there.
        unreachable: bool,
    },
    HalfOpen {
        successes: u32,
        trials: u32,
    },
}

impl State {
    const HALF_OPEN: Self = Self::HalfOpen { successes: 0, trials: 0 };
}

impl Inner {
    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    /// Gives back the slot of a permit of this generation.
    fn release_trial(&mut self) {
        if let State::HalfOpen { trials, .. } = &mut self.state {
            debug_assert!(*trials > 0, "a permit of this generation holds a slot");
            *trials -= 1;
        }
    }
}

impl CircuitBreaker {
    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Self {
        let config = BreakerConfig {
            failures_to_open: config.failures_to_open.max(1),
            successes_to_close: config.successes_to_close.max(1),
            open_timeout: config.open_timeout,
            trial_permits: config.trial_permits.max(1),
        };
        let inner = Inner { state: State::Closed, generation: 0, failures: 0 };
        Self { config, inner: Mutex::new(inner) }
    }

    /// Leave to ask the worker once, at `now`; `None` to ask another one.
    pub fn try_acquire(&self, now: Instant) -> Option<Permit<'_>> {
        let mut inner = self.inner.lock();
        if self.timeout_passed(inner.state, now) {
            inner.enter(State::HALF_OPEN);
        }
        match &mut inner.state {
            State::Closed => {}
            State::Open { .. } => return None,
            State::HalfOpen { trials, .. } => {
                if *trials == self.config.trial_permits {
                    return None;
                }
                *trials += 1;
            }
        }
        Some(Permit { breaker: self, generation: inner.generation })
    }

    /// Whether [`CircuitBreaker::try_acquire`] would succeed at `now`.
    pub fn is_available(&self, now: Instant) -> bool {
        let state = self.inner.lock().state;
        match state {
            State::Closed => true,
            State::Open { .. } => self.timeout_passed(state, now),
            State::HalfOpen { trials, .. } => trials < self.config.trial_permits,
        }
    }

    /// A health probe that started at `probe_started` reached the worker.
    ///
    /// Where the breaker is open because nobody was there, that reason is gone: trials begin at
    /// once. The probe must have started after the opening, or it may have met the worker before
    /// it died. A breaker opened by a worker that answered and failed keeps its time-out: such a
    /// worker passes probes while it fails requests.
    pub fn reachable_again(&self, probe_started: Instant) {
        let mut inner = self.inner.lock();
        if let State::Open { since, unreachable: true } = inner.state
            && probe_started > since
        {
            inner.enter(State::HALF_OPEN);
        }
    }

    /// The worker is a new process: what the old one did is history.
    ///
    /// An open or half-open breaker starts its trials anew, a closed one its count; outcomes of
    /// requests that went to the old process are not counted any more.
    pub fn restarted(&self) {
        let mut inner = self.inner.lock();
        inner.failures = 0;
        let state = match inner.state {
            State::Closed => State::Closed,
            State::Open { .. } | State::HalfOpen { .. } => State::HALF_OPEN,
        };
        inner.enter(state);
    }

    /// The state at `now`. An open breaker whose time-out has passed shows as half-open: the
    /// next request will be its trial.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        let inner = self.inner.lock();
        let (state, successes) = match inner.state {
            State::Closed => (BreakerState::Closed, 0),
            State::Open { .. } if self.timeout_passed(inner.state, now) => {
                (BreakerState::HalfOpen, 0)
            }
            State::Open { .. } => (BreakerState::Open, 0),
            State::HalfOpen { successes, .. } => (BreakerState::HalfOpen, successes),
        };
        BreakerStatus { state, failures: inner.failures, successes }
    }

    fn timeout_passed(&self, state: State, now: Instant) -> bool {
        matches!(state, State::Open { since, .. }
            if now.saturating_duration_since(since) >= self.config.open_timeout)
    }

    /// Ends a permit of `generation`: gives its slot back and counts what it learnt.
    fn settle(&self, generation: u64, outcome: Outcome, now: Instant) {
        let mut inner = self.inner.lock();
        if inner.generation != generation {
            return;
        }
        inner.release_trial();
        match outcome {
            Outcome::Neutral => {}
            Outcome::Success => self.count_success(&mut inner),
            Outcome::Unreachable => self.count_failure(&mut inner, true, now),
            Outcome::Failed => self.count_failure(&mut inner, false, now),
        }
    }

    fn count_success(&self, inner: &mut Inner) {
        inner.failures = 0;
        if let State::HalfOpen { successes, .. } = &mut inner.state {
            *successes += 1;
            if *successes >= self.config.successes_to_close {
                inner.enter(State::Closed);
            }
        }
    }

    fn count_failure(&self, inner: &mut Inner, unreachable: bool, now: Instant) {
        inner.failures = inner.failures.saturating_add(1);
        let tolerated =
            matches!(inner.state, State::Closed) && inner.failures < self.config.failures_to_open;
        if !tolerated {
            inner.enter(State::Open { since: now, unreachable });
        }
    }
}

/// Leave to ask a worker once. Dropped without a [`Permit::record`], it counts for nothing.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once allows nothing"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    generation: u64,
}

impl Permit<'_> {
    /// Ends the permit with what the request said about the worker.
    pub fn record(self, outcome: Outcome, now: Instant) {
        self.breaker.settle(self.generation, outcome, now);
        // Settled: dropping it too would give back another request's slot.
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut inner = self.breaker.inner.lock();
        if inner.generation == self.generation {
            inner.release_trial();
        }
    }
}

#[cfg(test)]
mod tests;
