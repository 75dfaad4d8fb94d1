//! Which worker has the state of which sequence, as far as this gateway has seen.
//!
//! A sequence begins at the first worker in its order that takes it, and that need not be the first
//! one later: it may have drained just then, or been away, and another one may join. So what was
//! seen is remembered, within bounds: what was not asked for in a while is forgotten, and where
//! there are very many, what was not asked for the longest. Who is not remembered is looked for.
//!
//! It is kept in two generations. Whatever is asked for is in the younger one; when that is full,
//! or old, it becomes the older one, and what was the older one is gone. So nothing is ordered,
//! and nobody has to clean up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use inferring_types::RoutingKey;
use parking_lot::Mutex;

/// The homes of sequences.
pub(crate) struct Homes(Mutex<Generations>);

struct Generations {
    younger: HashMap<u64, u64>,
    older: HashMap<u64, u64>,
    /// When the younger one began.
    began: Instant,
    limits: Limits,
}

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sequences in a generation.
    pub(crate) count: usize,
    /// How long a generation lasts: a sequence without a step is remembered as long at least, and
    /// twice as long at most.
    pub(crate) time: Duration,
}

impl Limits {
    /// Some 2 MiB of them, and longer than workers keep the state of most.
    pub(crate) const DEFAULT: Self = Self { count: 32 * 1024, time: Duration::from_secs(600) };
}

impl Homes {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let (younger, older) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Generations { younger, older, began: now, limits }))
    }

    /// The number of the worker that has its state.
    pub(crate) fn find(&self, sequence: RoutingKey, now: Instant) -> Option<u64> {
        let mut homes = self.0.lock();
        homes.grow_old(now);
        homes.younger.get(&sequence.0).or_else(|| homes.older.get(&sequence.0)).copied()
    }

    /// This worker has answered a step of it.
    pub(crate) fn keep(&self, sequence: RoutingKey, worker: u64, now: Instant) {
        let mut homes = self.0.lock();
        homes.grow_old(now);
        homes.younger.insert(sequence.0, worker);
    }

    /// It has ended, or is not where it was.
    pub(crate) fn forget(&self, sequence: RoutingKey) {
        let mut homes = self.0.lock();
        homes.younger.remove(&sequence.0);
        homes.older.remove(&sequence.0);
    }
}

impl Generations {
    fn grow_old(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < self.limits.time && self.younger.len() < self.limits.count {
            return;
        }
        self.older = std::mem::take(&mut self.younger);
        if age >= 2 * self.limits.time {
            self.older = HashMap::new();
        }
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn homes(count: usize, now: Instant) -> Homes {
        Homes::new(Limits { count, time: 10 * SECOND }, now)
    }

    #[test]
    fn a_sequence_that_goes_on_is_remembered_and_one_that_does_not_is_forgotten() {
        let now = Instant::now();
        let homes = homes(100, now);
        let (goes_on, idle) = (RoutingKey(1), RoutingKey(2));
        homes.keep(idle, 7, now);
        for second in 0..60 {
            let now = now + second * SECOND;
            homes.keep(goes_on, 8, now);
            assert_eq!(homes.find(goes_on, now), Some(8));
            let found = homes.find(idle, now);
            assert!(found == if second < 20 { Some(7) } else { None }, "{second} s: {found:?}");
        }
        // Nobody asked for very long.
        assert_eq!(homes.find(goes_on, now + 1000 * SECOND), None);
    }

    #[test]
    fn there_are_never_more_than_there_may_be_and_the_newest_are_among_them() {
        let now = Instant::now();
        let homes = homes(100, now);
        for sequence in 0..10_000 {
            homes.keep(RoutingKey(sequence), sequence, now);
            let first = sequence.saturating_sub(99);
            assert!((first..=sequence).all(|one| homes.find(RoutingKey(one), now) == Some(one)));
            let Generations { younger, older, .. } = &*homes.0.lock();
            assert!(younger.len() + older.len() <= 200);
        }
    }

    #[test]
    fn what_has_ended_or_moved_is_not_found_where_it_was() {
        let now = Instant::now();
        let homes = homes(1, now);
        homes.keep(RoutingKey(1), 7, now);
        homes.keep(RoutingKey(2), 7, now);
        homes.keep(RoutingKey(1), 8, now);
        assert_eq!(homes.find(RoutingKey(1), now), Some(8));
        homes.forget(RoutingKey(1));
        assert_eq!(homes.find(RoutingKey(1), now), None);
    }
}
