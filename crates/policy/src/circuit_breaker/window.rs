//! What the last ten seconds of requests said about a worker, counted by the second.

use std::time::{Duration, Instant};

use super::Outcome;

/// Seconds that are remembered, the one that runs included.
const SECONDS: usize = 10;

/// Requests to a worker by what they said about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// It answered.
    pub successes: u32,
    /// It failed, or was not there.
    pub failures: u32,
    /// It was there and had no room.
    pub refusals: u32,
}

impl Tally {
    /// Requests that an attempt to answer was made at, or none could be.
    pub fn attempted(&self) -> u32 {
        self.successes + self.failures
    }

    /// All of them.
    pub fn all(&self) -> u32 {
        self.attempted() + self.refusals
    }

    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Success => &mut self.successes,
            Outcome::Failed | Outcome::Unreachable => &mut self.failures,
            Outcome::Refused => &mut self.refusals,
            Outcome::Neutral => return,
        };
        *counter = counter.saturating_add(1);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            refusals: self.refusals.saturating_add(other.refusals),
        }
    }
}

/// Ten buckets of one second. A whole bucket is forgotten at a time, so what is remembered
/// reaches back 9 to 10 seconds.
#[derive(Debug)]
pub(super) struct Window {
    /// Seconds are counted from the first outcome.
    epoch: Option<Instant>,
    /// The second of the latest bucket.
    latest: u64,
    buckets: [Tally; SECONDS],
}

impl Window {
    pub(super) const fn new() -> Self {
        let empty = Tally { successes: 0, failures: 0, refusals: 0 };
        Self { epoch: None, latest: 0, buckets: [empty; SECONDS] }
    }

    pub(super) fn count(&mut self, outcome: Outcome, now: Instant) {
        let epoch = *self.epoch.get_or_insert(now);
        let second = self.second(epoch, now);
        let passed = usize::try_from(second - self.latest).unwrap_or(SECONDS).min(SECONDS);
        for forgotten in 1..=passed as u64 {
            self.buckets[bucket(self.latest + forgotten)] = Tally::default();
        }
        self.latest = second;
        self.buckets[bucket(second)].count(outcome);
    }

    pub(super) fn tally(&self, now: Instant) -> Tally {
        let Some(epoch) = self.epoch else { return Tally::default() };
        let second = self.second(epoch, now);
        let oldest = (second + 1).saturating_sub(SECONDS as u64);
        // Of the buckets that are filled, those that are not too old by now.
        let filled = (self.latest + 1).saturating_sub(SECONDS as u64);
        (oldest.max(filled)..=self.latest)
            .map(|second| self.buckets[bucket(second)])
            .fold(Tally::default(), Tally::plus)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// A clock that steps back stays in the latest second.
    fn second(&self, epoch: Instant, now: Instant) -> u64 {
        now.saturating_duration_since(epoch).as_secs().max(self.latest)
    }
}

fn bucket(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

/// For how long an outcome is remembered at most.
pub(crate) const MEMORY: Duration = Duration::from_secs(SECONDS as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn an_outcome_is_forgotten_after_nine_to_ten_seconds() {
        let start = clock::start();
        for offset in [0, 1, 500, 999] {
            let mut window = Window::new();
            window.count(Outcome::Neutral, start);
            let at = start + Duration::from_millis(offset);
            window.count(Outcome::Failed, at);
            let last = start + MEMORY - Duration::from_nanos(1);
            assert_eq!(window.tally(last).failures, 1);
            assert_eq!(window.tally(start + MEMORY), Tally::default());
            // Counting forgets as looking does.
            window.count(Outcome::Success, start + MEMORY);
            let expected = Tally { successes: 1, ..Tally::default() };
            assert_eq!(window.tally(start + MEMORY), expected);
        }
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let start = clock::start() + MEMORY;
        let mut window = Window::new();
        window.count(Outcome::Success, start);
        window.count(Outcome::Failed, start + Duration::from_secs(3));
        window.count(Outcome::Refused, start - MEMORY);
        let expected = Tally { successes: 1, failures: 1, refusals: 1 };
        assert_eq!(window.tally(start - MEMORY), expected);
        assert_eq!(window.tally(start + Duration::from_secs(3)), expected);
    }

    #[test]
    fn a_long_silence_forgets_all() {
        let start = clock::start();
        let mut window = Window::new();
        window.count(Outcome::Failed, start);
        window.count(Outcome::Success, start + Duration::from_secs(100_000));
        let tally = window.tally(start + Duration::from_secs(100_000));
        assert_eq!(tally, Tally { successes: 1, ..Tally::default() });
    }
}
