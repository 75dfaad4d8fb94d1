//! The lock around a breaker's state, and the permits that are given out of it.

use std::sync::PoisonError;
use std::time::Instant;

use inferring_types::BreakerStatus;

use super::core::Core;
use super::{BreakerConfig, Outcome, Tally};
use crate::sync::{Mutex, MutexGuard};

/// The breaker of one worker. All of its state is behind one lock, held for a few instructions.
#[derive(Debug)]
pub struct CircuitBreaker {
    core: Mutex<Core>,
}

impl CircuitBreaker {
    /// A closed breaker. By `seed` its time-outs differ from those of other gateways' breakers of
    /// the same worker; with equal seeds, equal histories have equal time-outs.
    pub fn new(config: BreakerConfig, seed: u64) -> Self {
        Self { core: Mutex::new(Core::new(config, seed)) }
    }

    /// Leave to ask the worker once, at `now`; `None` to ask another one.
    pub fn try_acquire(&self, now: Instant) -> Option<Permit<'_>> {
        let generation = self.core().try_acquire(now)?;
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
        self.core().is_available(now)
    }

    /// A health probe that started at `probe_started` reached the worker.
    ///
    /// Where the breaker is open because nobody was there, that reason is gone, and the time-out
    /// is cut short. The probe must have started after the opening, or it may have met the worker
    /// before it died. A breaker opened by a worker that answered and failed keeps its time-out:
    /// such a worker passes probes while it fails requests.
    pub fn reachable_again(&self, probe_started: Instant) {
        self.core().reachable_again(probe_started);
    }

    /// The worker is a new process, as a probe that started at `seen` found: what the old one did
    /// is history.
    ///
    /// A half-open breaker starts its trials anew, an open one has its time-out cut short as by
    /// [`CircuitBreaker::reachable_again`], a closed one starts its count; outcomes of requests
    /// that went to the old process are not counted any more.
    pub fn restarted(&self, seen: Instant) {
        self.core().restarted(seen);
    }

    /// Counts anew: what requests said that were asked before now has been judged.
    pub fn forget(&self) {
        self.core().forget();
    }

    /// What requests of the last ten seconds said, of those that counted.
    pub fn tally(&self, now: Instant) -> Tally {
        self.core().tally(now)
    }

    /// The state at `now`. An open breaker whose time-out has passed shows as half-open: the
    /// next request will be its trial.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        self.core().status(now)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // Nothing that holds it can panic half-way.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.breaker.core().settle(generation, outcome, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation {
            self.breaker.core().release(generation);
        }
    }
}
