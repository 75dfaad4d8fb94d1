//! What each worker has in flight, and the one place where that grows.

use std::sync::PoisonError;

use super::choice::{Because, Candidate, LoadFactor, Spread, choose};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// What one worker has in flight. It lives with the worker, so that a change of membership leaves
/// it as it is.
#[derive(Debug, Default)]
pub struct Load {
    counted: AtomicU64,
    riders: AtomicU64,
}

impl Load {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self { counted: AtomicU64::new(0), riders: AtomicU64::new(0) }
    }

    /// How many requests are in flight that count against the bound.
    pub fn in_flight(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// How many go along with equal ones (`flights`), and do not count.
    pub fn riders(&self) -> u64 {
        self.riders.load(Ordering::Relaxed)
    }

    /// One more goes along.
    pub fn ride(&self) -> Ride<'_> {
        self.riders.fetch_add(1, Ordering::Relaxed);
        Ride { load: self }
    }
}

/// A request in flight that does not count against the bound; no more when it is dropped.
#[derive(Debug)]
#[must_use = "a ride that is dropped at once is over"]
pub struct Ride<'a> {
    load: &'a Load,
}

impl Drop for Ride<'_> {
    fn drop(&mut self) {
        self.load.riders.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives requests to workers within their bounds.
///
/// A bound depends on what all workers have in flight. So that it holds at the very moment of
/// admission, and not some nanoseconds before, loads change under one lock: a look at all loads,
/// the decision, and the count are one step, and of 64 threads at once none sees room that
/// another one is about to take. It is held for the look at a few numbers; a lock for each
/// worker would be taken as often, and show no moment at which all of them stood still.
#[derive(Debug)]
pub struct LoadLedger {
    factor: LoadFactor,
    turn: Mutex<()>,
}

impl LoadLedger {
    /// A ledger that lets workers be this far above their share.
    pub fn new(factor: LoadFactor) -> Self {
        Self { factor, turn: Mutex::new(()) }
    }

    /// How far above its share a worker may be.
    pub fn factor(&self) -> LoadFactor {
        self.factor
    }

    /// Gives a request to one of `candidates`; `None` where there are none.
    ///
    /// `order` gives places in `candidates` in the order in which the request's key prefers them,
    /// each once; it is walked under the ledger's lock. What is `None` there is no candidate.
    pub fn reserve<'a>(
        &'a self,
        candidates: &[Option<Candidate<'a>>],
        order: impl Iterator<Item = usize> + Clone,
        spread: Spread,
    ) -> Option<Reserved<'a>> {
        let turn = self.turn();
        let (place, because) = choose(candidates, order, spread, self.factor)?;
        let load = candidates[place].as_ref()?.load;
        let slot = self.count(load, &turn);
        Some(Reserved { place, because, slot })
    }

    /// Gives a request to this worker, whatever it has in flight.
    pub fn enter<'a>(&'a self, load: &'a Load) -> LoadSlot<'a> {
        self.count(load, &self.turn())
    }

    fn count<'a>(&'a self, load: &'a Load, _turn: &MutexGuard<'_, ()>) -> LoadSlot<'a> {
        load.counted.store(load.in_flight() + 1, Ordering::Relaxed);
        LoadSlot { ledger: self, load }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // Each change is one store: there is nothing that a panic could have left half done.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's way to a worker.
#[derive(Debug)]
#[must_use = "a slot that is dropped at once counts nothing"]
pub struct Reserved<'a> {
    /// Which of the candidates.
    pub place: usize,
    /// Why that one.
    pub because: Because,
    /// Counts the request until it is dropped.
    pub slot: LoadSlot<'a>,
}

/// A request in flight to a worker; no more when it is dropped, however that comes about.
#[derive(Debug)]
#[must_use = "a slot that is dropped at once counts nothing"]
pub struct LoadSlot<'a> {
    ledger: &'a LoadLedger,
    load: &'a Load,
}

impl Drop for LoadSlot<'_> {
    fn drop(&mut self) {
        let _turn = self.ledger.turn();
        let in_flight = self.load.in_flight();
        debug_assert!(in_flight > 0, "this one was counted");
        self.load.counted.store(in_flight - 1, Ordering::Relaxed);
    }
}
