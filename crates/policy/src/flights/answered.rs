//! Which keys were answered of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A key and the time of its last answer at the place that belongs to the key. Another key of the
/// same place takes it: then the first one makes a flight more until its next answer, and no more
/// comes of it.
///
/// Times are in ticks, and written once for each: whoever asks for a hot key reads what is in its
/// own cache as a rule. They go round after a day and a half, when a key that was not asked for
/// since may count as answered for a second.
#[derive(Debug)]
pub(super) struct Answered {
    epoch: Instant,
    /// The key's upper bits, which its place does not tell, over the tick.
    places: Box<[AtomicU64]>,
}

impl Answered {
    const PLACES: usize = 4096;
    const TICK: Duration = Duration::from_millis(125);
    /// An answer is recent for a second.
    const RECENT: u64 = 8;
    /// The bits of a tick.
    const TICKS: u64 = (1 << 20) - 1;

    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: now, places: (0..Self::PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn note(&self, key: u64, now: Instant) {
        let (place, value) = (self.place(key), key & !Self::TICKS | self.tick(now));
        if place.load(Ordering::Relaxed) != value {
            place.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn is_recent(&self, key: u64, now: Instant) -> bool {
        let value = self.place(key).load(Ordering::Relaxed);
        // Another thread's clock may have been read a tick later.
        let age = (self.tick(now) + 1).wrapping_sub(value & Self::TICKS) & Self::TICKS;
        (value ^ key) & !Self::TICKS == 0 && age <= Self::RECENT + 1
    }

    fn place(&self, key: u64) -> &AtomicU64 {
        &self.places[key as usize % Self::PLACES]
    }

    /// The first one is far enough from 0 for a place that nothing was written to to say nothing.
    fn tick(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.epoch).as_millis() / Self::TICK.as_millis();
        (ticks as u64 + 2 + Self::RECENT) & Self::TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const KEY: u64 = 0x1234_5678_9abc_def0;

    #[test]
    fn an_answer_is_recent_for_a_second() {
        let start = clock::start();
        let answered = Answered::new(start);
        for seconds in [0, 2, 1000, 200_000] {
            let now = start + Duration::from_secs(seconds);
            assert!(!answered.is_recent(KEY, now));
            answered.note(KEY, now);
            for millis in [0, 1, 500, 999] {
                assert!(answered.is_recent(KEY, now + Duration::from_millis(millis)), "{millis}");
            }
            assert!(!answered.is_recent(KEY, now + Duration::from_millis(1125)));
        }
    }

    #[test]
    fn a_clock_that_was_read_a_little_earlier_does_no_harm() {
        let start = clock::start();
        let answered = Answered::new(start);
        answered.note(KEY, start + Duration::from_millis(125));
        assert!(answered.is_recent(KEY, start + Duration::from_millis(124)));
        answered.note(KEY, start);
        assert!(answered.is_recent(KEY, start - Duration::from_millis(1)));
    }

    #[test]
    fn keys_of_one_place_do_not_pass_for_each_other() {
        let now = clock::start();
        let answered = Answered::new(now);
        let others = [KEY ^ 1 << 63, KEY ^ 1 << 20, KEY ^ 1, 0];
        answered.note(KEY, now);
        assert!(others.iter().all(|&other| !answered.is_recent(other, now)));
        answered.note(others[0], now);
        assert!(!answered.is_recent(KEY, now) && answered.is_recent(others[0], now));
    }
}
