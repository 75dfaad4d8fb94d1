//! Keeps requests away from a worker that keeps failing them, and finds out when to come back.
//!
//! ```text
//!            failures in a row, or                 the time-out passed,
//!            too many of the last ten seconds      or it is there again
//!   CLOSED ─────────────────────────────▶ OPEN ────────────────────────▶ HALF_OPEN
//!     ▲                                    ▲                                │  │
//!     │                                    └────────── one failure ─────────┘  │
//!     └───────────────────────── successes_to_close ───────────────────────────┘
//! ```
//!
//! Two rules open it, as each is blind to what the other sees. Failures in a row find a worker
//! that fails everything within five requests, at any rate of traffic. A worker that fails two
//! requests of three may never fail five in a row; its share of failures in the last ten seconds
//! finds it, once there were enough requests to speak of a share.
//!
//! The time-out doubles with every opening and falls back with good conduct: see
//! [`PenaltyConfig`]. Where the worker was *gone* (nobody listened), a probe that reaches it ends
//! the time-out early, at once the first time. A worker that comes and goes is let wait from the
//! second time on: a thirty-second part of a time-out that doubles, so that its trials become
//! rare, too.
//!
//! Who asks a worker holds a [`Permit`] while it does. A permit belongs to the *generation* in
//! which it was given; each change of state, and each new process behind the worker, starts
//! another one. So a straggler that fails after the breaker has closed again says nothing about
//! the worker as it is now, and is not counted.
//!
//! In HALF_OPEN a permit is one of a few trial slots. Whatever ends it (success, failure, a
//! client that hung up, a panic) gives the slot back. Every try ends, as every request has a
//! deadline. And should a holder never let go all the same, after as long as the first time-out
//! another trial is let through beside it: a breaker cannot be stuck half-open for want of slots.
//!
//! A worker that *refuses* (its queue is full, it drains) is at work and says so. That opens no
//! breaker, closes none, and neither counts as a failure nor forgives one. It is part of what a
//! worker is compared with the others by: see [`ejection`](crate::ejection).

use std::time::Instant;

use inferring_types::BreakerStatus;
use parking_lot::Mutex;

pub use self::window::Tally;
use crate::penalty::PenaltyConfig;

mod core;
mod window;

pub(crate) use self::window::MEMORY;

/// When a breaker opens and closes. A count of 0 is taken as 1: a breaker that opens without a
/// failure, or admits no trial, would never let a request through again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// Consecutive failures that open a closed breaker.
    pub failures_to_open: u32,
    /// The share of failed requests in the last ten seconds that opens a closed breaker, 0 to 1;
    /// above 1 none does.
    pub failure_rate_to_open: f64,
    /// Requests of the last ten seconds below which there is no share to speak of.
    pub samples_min: u32,
    /// Successes that close a half-open breaker.
    pub successes_to_close: u32,
    /// How long an open breaker keeps everything away before it tries again.
    pub timeout: PenaltyConfig,
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
            failure_rate_to_open: 0.5,
            samples_min: 20,
            successes_to_close: 2,
            timeout: PenaltyConfig::default(),
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
    /// It was there and had no room: its queue was full, or it takes nothing new.
    Refused,
    /// Nothing: the client was mistaken or left, the request was refused locally, its deadline
    /// had passed. Five malformed requests must not open a breaker.
    Neutral,
}

/// The breaker of one worker. All of its state is behind one lock, held for a few instructions.
#[derive(Debug)]
pub struct CircuitBreaker {
    core: Mutex<core::Core>,
}

impl CircuitBreaker {
    /// A closed breaker. By `seed` its time-outs differ from those of other gateways' breakers of
    /// the same worker; with equal seeds, equal histories have equal time-outs.
    pub fn new(config: BreakerConfig, seed: u64) -> Self {
        Self { core: Mutex::new(core::Core::new(config, seed)) }
    }

    /// Leave to ask the worker once, at `now`; `None` to ask another one.
    pub fn try_acquire(&self, now: Instant) -> Option<Permit<'_>> {
        let generation = self.core.lock().try_acquire(now)?;
        Some(Permit { breaker: self, generation: Some(generation) })
    }

    /// Leave to ask the worker whatever the breaker has concluded: for a fleet of which so much
    /// fails that the verdicts themselves are in doubt.
    ///
    /// Such a permit takes no trial's slot, and what it learns is not counted: the breaker goes
    /// on by its own trials.
    pub fn acquire_anyway(&self) -> Permit<'_> {
        Permit { breaker: self, generation: None }
    }

    /// Whether [`CircuitBreaker::try_acquire`] would succeed at `now`.
    pub fn is_available(&self, now: Instant) -> bool {
        self.core.lock().is_available(now)
    }

    /// A health probe that started at `probe_started` reached the worker.
    ///
    /// Where the breaker is open because nobody was there, that reason is gone, and the time-out
    /// is cut short. The probe must have started after the opening, or it may have met the worker
    /// before it died. A breaker opened by a worker that answered and failed keeps its time-out:
    /// such a worker passes probes while it fails requests.
    pub fn reachable_again(&self, probe_started: Instant) {
        self.core.lock().reachable_again(probe_started);
    }

    /// The worker is a new process, as a probe that started at `seen` found: what the old one did
    /// is history.
    ///
    /// A half-open breaker starts its trials anew, an open one has its time-out cut short as by
    /// [`CircuitBreaker::reachable_again`], a closed one starts its count; outcomes of requests
    /// that went to the old process are not counted any more.
    pub fn restarted(&self, seen: Instant) {
        self.core.lock().restarted(seen);
    }

    /// Counts anew: what requests said that were asked before now has been judged.
    pub fn forget(&self) {
        self.core.lock().forget();
    }

    /// What requests of the last ten seconds said, of those that counted.
    pub fn tally(&self, now: Instant) -> Tally {
        self.core.lock().tally(now)
    }

    /// The state at `now`. An open breaker whose time-out has passed shows as half-open: the
    /// next request will be its trial.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        self.core.lock().status(now)
    }
}

/// Leave to ask a worker once. Dropped without a [`Permit::record`], it counts for nothing.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once allows nothing"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    /// `None` where nothing is to be given back or counted.
    generation: Option<u64>,
}

impl Permit<'_> {
    /// Ends the permit with what the request said about the worker.
    pub fn record(mut self, outcome: Outcome, now: Instant) {
        // Taken: dropping it too would give back another request's slot.
        if let Some(generation) = self.generation.take() {
            self.breaker.core.lock().settle(generation, outcome, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation {
            self.breaker.core.lock().release(generation);
        }
    }
}

#[cfg(test)]
mod tests;
