//! How many connections there may be at a time.
//!
//! A thread takes places for its own connections. What drives a connection may be ended from
//! another thread, so a place can become free anywhere; loom tries every order of that
//! (`tests/loom.rs`).

use crate::sync::{Arc, AtomicUsize, Ordering};

/// The places, and how many of them are taken.
#[derive(Debug, Default)]
pub(crate) struct Places(Arc<AtomicUsize>);

/// One that is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    /// A place, where fewer than `most` are taken.
    pub(crate) fn take(&self, most: usize) -> Option<Place> {
        let next = |taken| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(Place(self.0.clone()))
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
