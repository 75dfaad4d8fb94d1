//! Requests that are being received and will want a place in the queue.
//!
//! A large body takes longer to come than heads of others do. Were each head judged by the queue
//! alone, all that come while a place is free would be let in for it, received, and all but one
//! refused after all. So who is let in by its head counts from then on.
//!
//! It counts for a moment only, which is enough for a client that sends as fast as it can. One
//! that announces bodies and does not send them, or has a slow line, keeps nothing from others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_policy::scheduler::Waiting;

use super::Batcher;

/// For how long at least, and for less than twice that, a request counts that does not come.
const MOMENT: Duration = Duration::from_millis(100);

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    /// What was let in during this moment, and during the one before it.
    now: Waiting,
    before: Waiting,
    /// The moment's number.
    moment: u64,
    began: Option<Instant>,
}

/// A request's place, free again when this is dropped: the request has come, or will not.
pub(crate) struct Place {
    batcher: Arc<Batcher>,
    demand: Waiting,
    moment: u64,
}

impl Place {
    /// Of a request that was just let in.
    pub(super) fn new(batcher: Arc<Batcher>, demand: Waiting, moment: u64) -> Self {
        Self { batcher, demand, moment }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.batcher.arrived(self.demand, self.moment);
    }
}

impl Arriving {
    /// Counts a request that is let in, and tells in which moment.
    pub(super) fn expect(&mut self, demand: Waiting, now: Instant) -> u64 {
        self.go_on(now);
        self.now = self.now.plus(demand);
        self.moment
    }

    /// One that was let in then has come, or will not.
    pub(super) fn arrived(&mut self, demand: Waiting, moment: u64, now: Instant) {
        self.go_on(now);
        let counted = match self.moment - moment {
            0 => &mut self.now,
            1 => &mut self.before,
            // It does not count any more.
            _ => return,
        };
        *counted = counted.minus(demand);
    }

    /// What is on its way and will be computed, if a part of them, `misses`, is.
    pub(super) fn sum(&mut self, misses: f64, now: Instant) -> Waiting {
        self.go_on(now);
        let Waiting { requests, rows, bytes } = self.now.plus(self.before);
        let part = |count: f64| count * misses;
        Waiting {
            requests: part(requests as f64) as usize,
            rows: part(rows as f64) as usize,
            bytes: part(bytes as f64) as u64,
        }
    }

    fn go_on(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed < MOMENT {
            return;
        }
        let ended = std::mem::take(&mut self.now);
        self.before = if passed < 2 * MOMENT { ended } else { Waiting::default() };
        // Whoever was let in two moments ago counts no more, however long ago that is.
        self.moment += if passed < 2 * MOMENT { 1 } else { 2 };
        self.began = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(count: usize) -> Waiting {
        Waiting { requests: count, rows: 2 * count, bytes: 100 * count as u64 }
    }

    #[test]
    fn who_is_on_the_way_counts_until_it_is_here() {
        let (mut arriving, now) = (Arriving::default(), Instant::now());
        let first = arriving.expect(demand(1), now);
        let second = arriving.expect(demand(2), now + MOMENT / 2);
        assert_eq!(arriving.sum(1.0, now + MOMENT / 2), demand(3));
        arriving.arrived(demand(1), first, now + MOMENT);
        assert_eq!(arriving.sum(1.0, now + MOMENT), demand(2));
        arriving.arrived(demand(2), second, now + MOMENT);
        assert_eq!(arriving.sum(1.0, now + MOMENT), demand(0));
    }

    #[test]
    fn who_does_not_come_keeps_nothing_for_long_and_takes_nothing_from_others_when_it_comes() {
        let (mut arriving, now) = (Arriving::default(), Instant::now());
        for step in [MOMENT, MOMENT * 5] {
            let mut arriving = Arriving::default();
            let late = arriving.expect(demand(5), now);
            let in_time = arriving.expect(demand(1), now + step);
            let counted = if step == MOMENT { demand(6) } else { demand(1) };
            assert_eq!(arriving.sum(1.0, now + step), counted);
            assert_eq!(arriving.sum(1.0, now + step + MOMENT), demand(1));
            arriving.arrived(demand(5), late, now + step + MOMENT);
            assert_eq!(arriving.sum(1.0, now + step + MOMENT), demand(1));
            arriving.arrived(demand(1), in_time, now + step + MOMENT);
            assert_eq!(arriving.sum(1.0, now + step + MOMENT), demand(0));
        }
        arriving.expect(demand(5), now);
        assert_eq!(arriving.sum(1.0, now + 2 * MOMENT), demand(0));
    }

    #[test]
    fn of_those_whose_answers_are_known_nothing_will_wait() {
        let (mut arriving, now) = (Arriving::default(), Instant::now());
        arriving.expect(demand(4), now);
        assert_eq!(arriving.sum(0.5, now), demand(2));
        assert_eq!(arriving.sum(0.0, now), demand(0));
    }
}
