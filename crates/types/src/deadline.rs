//! The moment after which nobody waits for an answer any more.

use std::time::{Duration, Instant};

/// The moment after which an answer is of no use to the client.
///
/// Set once at the edge from the request's own time-out or the server's default, then carried
/// along: every later step has what *remains*, never a fresh allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `timeout` after `now`; a time-out too long for the clock saturates at about
    /// a century.
    pub fn after(now: Instant, timeout: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        Self(now + timeout.min(CENTURY))
    }

    /// The moment itself.
    pub fn at(self) -> Instant {
        self.0
    }

    /// What remains at `now`; zero once it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether it has passed at `now`.
    pub fn has_passed(self, now: Instant) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_shrinks_to_zero_and_stays_there() {
        let start = Instant::now();
        let deadline = Deadline::after(start, Duration::from_secs(2));
        assert_eq!(deadline.remaining(start), Duration::from_secs(2));
        assert!(!deadline.has_passed(start));
        let late = start + Duration::from_secs(3);
        assert_eq!(deadline.remaining(late), Duration::ZERO);
        assert!(deadline.has_passed(late));
    }

    #[test]
    fn an_absurd_timeout_does_not_overflow() {
        Deadline::after(Instant::now(), Duration::MAX);
    }
}
