//! The counter that all requests pass: how many are in, and how many may be.

use crate::sync::{AtomicU64, Ordering};

/// Lets requests in up to a limit. Entering is one step, so that no number of threads that race
/// for the last place get more than one, and none is refused for a place that another one only
/// tried to get.
#[derive(Debug)]
pub(crate) struct Gate {
    in_flight: AtomicU64,
    limit: AtomicU64,
    refused: AtomicU64,
    /// The most that were in flight since this was last asked for.
    peak: AtomicU64,
}

impl Gate {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            in_flight: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            refused: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Lets one in where fewer are in flight than `part_of` the limit.
    pub(crate) fn try_enter(&self, part_of: impl Fn(u64) -> u64) -> bool {
        let limit = part_of(self.limit.load(Ordering::Relaxed));
        // Nothing else is published by these: only the number must be right.
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit).then(|| count + 1)
        });
        let Ok(before) = entered else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        // Most requests set no record, and then write nothing that other threads read.
        if before >= self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(before + 1, Ordering::Relaxed);
        }
        true
    }

    /// One that was let in leaves.
    pub(crate) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "who leaves has entered");
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The most that were in flight since this was last called.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.swap(self.in_flight(), Ordering::Relaxed)
    }
}
