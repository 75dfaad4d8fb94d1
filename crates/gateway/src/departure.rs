//! A worker's own word, given with an answer or on a connection, that it wants no new requests.
//!
//! It comes between two probes, from any thread that asks the worker, and holds until a probe that
//! was sent after it finds the worker ready. The answer to an earlier one may have been on its way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Whether a worker has said so, and whether it is to be asked how it is.
pub(crate) struct Departure {
    epoch: Instant,
    /// When it last said so, in nanoseconds after the epoch and 1 more; 0 where that is over.
    told: AtomicU64,
    probe_wanted: Notify,
}

impl Departure {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, told: AtomicU64::new(0), probe_wanted: Notify::new() }
    }

    /// It says so, with each of its answers perhaps; whether it had not before.
    pub(crate) fn tell(&self, now: Instant) -> bool {
        let is_news = self.told.fetch_max(self.since_epoch(now), Ordering::Relaxed) == 0;
        if is_news {
            self.probe_soon();
        }
        is_news
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) != 0
    }

    /// A probe that was sent at `started` has found it ready.
    pub(crate) fn is_ready(&self, started: Instant) {
        let told = self.told.load(Ordering::Relaxed);
        if told != 0 && told < self.since_epoch(started) {
            // Where it fails, the worker has just said so again.
            let _ = self.told.compare_exchange(told, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Has the worker probed soon, as something happened that a probe would explain.
    pub(crate) fn probe_soon(&self) {
        self.probe_wanted.notify_one();
    }

    /// Completes when a probe is wanted before its time.
    pub(crate) fn probe_wanted(&self) -> Notified<'_> {
        self.probe_wanted.notified()
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        let nanoseconds = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanoseconds).unwrap_or(u64::MAX - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_holds_until_a_probe_that_was_sent_after_it() {
        let now = Instant::now();
        let departure = Departure::new(now);
        departure.is_ready(now);
        assert!(!departure.is_told());
        assert!(departure.tell(now + SECOND));
        assert!(!departure.tell(now + 2 * SECOND), "it was known");
        // What is said late does not make it earlier.
        assert!(!departure.tell(now));
        for sent in [now, now + SECOND, now + 2 * SECOND] {
            departure.is_ready(sent);
            assert!(departure.is_told());
        }
        departure.is_ready(now + 3 * SECOND);
        assert!(!departure.is_told());
        assert!(departure.tell(now + 3 * SECOND));
    }

    #[test]
    fn it_is_told_at_the_very_beginning_too() {
        let now = Instant::now();
        let departure = Departure::new(now);
        assert!(departure.tell(now));
        assert!(departure.is_told());
    }
}
