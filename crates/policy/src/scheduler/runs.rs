//! What runs now, and until when by all that is known.

use std::time::Instant;

use super::dispatch::{later, seconds};
use crate::cost::{Class, Seconds};

/// A run, from when it is handed out until it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(u64);

#[derive(Debug)]
pub(super) struct Run {
    id: RunId,
    pub(super) cost_class: Class,
    /// Padding included.
    pub(super) rows: usize,
    ends: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Runs {
    running: Vec<Run>,
    last: u64,
}

impl Runs {
    pub(super) fn start(
        &mut self,
        cost_class: Class,
        rows: usize,
        expected: Seconds,
        now: Instant,
    ) -> RunId {
        self.last += 1;
        let id = RunId(self.last);
        let ends = later(now, seconds(expected));
        self.running.push(Run { id, cost_class, rows, ends });
        id
    }

    /// Takes it off the list, on which it is once.
    pub(super) fn end(&mut self, id: RunId) -> Option<Run> {
        let index = self.running.iter().position(|run| run.id == id)?;
        Some(self.running.swap_remove(index))
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// What remains of the one that ends first.
    pub(super) fn soonest(&self, now: Instant) -> Seconds {
        let left = |run: &Run| run.ends.saturating_duration_since(now).as_secs_f64();
        self.running.iter().map(left).fold(f64::INFINITY, f64::min)
    }

    /// What remains of all of them together.
    pub(super) fn remaining(&self, now: Instant) -> Seconds {
        let left = |run: &Run| run.ends.saturating_duration_since(now).as_secs_f64();
        self.running.iter().map(left).sum()
    }
}
