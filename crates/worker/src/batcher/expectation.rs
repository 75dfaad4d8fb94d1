//! What the next request for a model may expect, told without a look at the queue.
//!
//! Every answer tells it, those from the cache too, and none of them is to wait for the queue's
//! lock. So whoever has the lock anyway, because a job comes or an instance asks, leaves it here.
//! Both numbers may be of different moments; they are estimates, and differ by one job then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_policy::scheduler::Outlook;
use inferring_types::WorkerLoad;

/// What was last left.
pub(super) struct Expectation {
    since: Instant,
    /// When an instance is free, in microseconds since then.
    free_at: AtomicU64,
    /// How long a run takes, in microseconds.
    run: AtomicU64,
}

impl Expectation {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, free_at: AtomicU64::new(0), run: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, outlook: Outlook) {
        let free_at = outlook.free_at.saturating_duration_since(self.since);
        self.free_at.store(microseconds(free_at), Ordering::Relaxed);
        self.run.store(microseconds(outlook.run), Ordering::Relaxed);
    }

    /// What a request that comes at `now` may expect.
    pub(super) fn at(&self, now: Instant) -> WorkerLoad {
        let passed = microseconds(now.saturating_duration_since(self.since));
        let wait = self.free_at.load(Ordering::Relaxed).saturating_sub(passed);
        let run = self.run.load(Ordering::Relaxed);
        WorkerLoad { wait: Duration::from_micros(wait), run: Duration::from_micros(run) }
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_becomes_shorter_by_itself() {
        let start = Instant::now();
        let expectation = Expectation::new(start);
        assert_eq!(expectation.at(start), WorkerLoad::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let run = Duration::from_millis(8);
        expectation.set(Outlook { free_at: at(20), run });
        for (now, wait) in [(0, 20), (5, 15), (20, 0), (90, 0)] {
            let wait = Duration::from_millis(wait);
            assert_eq!(expectation.at(at(now)), WorkerLoad { wait, run });
        }
    }
}
