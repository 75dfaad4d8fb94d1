//! What a worker last told of its queue, kept where every answer may write it and every request
//! reads it.
//!
//! A report is about the next request at the moment of the answer. It ages fast: a gateway that
//! went on believing that a queue is long would send nothing there, and so never hear that it has
//! emptied. After a second it is forgotten, and the worker is asked again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_types::WorkerLoad;

/// The newest report, of whichever thread.
#[derive(Debug)]
pub struct ReportedLoad {
    /// What times are counted from: a number fits into an atomic, an [`Instant`] does not.
    epoch: Instant,
    /// Waiting time and run time, 32 bits of microseconds each.
    load: AtomicU64,
    /// When it was told, in nanoseconds since the epoch and one more; 0 for never.
    told: AtomicU64,
}

impl ReportedLoad {
    /// Nothing told yet.
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, load: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Takes note of a report that came at `now`.
    ///
    /// Two numbers and no lock. The time is written last and read first, so that a reader may see
    /// a report that is newer than the time it goes by, and never an older one.
    pub fn tell(&self, load: WorkerLoad, now: Instant) {
        let micros =
            |time: Duration| u64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.load.store(micros(load.wait) << 32 | micros(load.run), Ordering::Relaxed);
        self.told.store(self.time(now), Ordering::Release);
    }

    /// The last report, if it is no older than `age_max`.
    pub fn read(&self, now: Instant, age_max: Duration) -> Option<WorkerLoad> {
        let told = self.told.load(Ordering::Acquire);
        let age_max = u64::try_from(age_max.as_nanos()).unwrap_or(u64::MAX);
        if told == 0 || self.time(now).saturating_sub(told) > age_max {
            return None;
        }
        let load = self.load.load(Ordering::Relaxed);
        let micros = |bits: u64| Duration::from_micros(bits & 0xffff_ffff);
        Some(WorkerLoad { wait: micros(load >> 32), run: micros(load) })
    }

    fn time(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn the_newest_report_is_believed_for_as_long_as_it_may_be_old(
            reports in prop::collection::vec((0..3_000_u64, 0..20_000_u64, 0..90_000_u64), 0..8),
            later in 0..3_000_u64,
        ) {
            let mut now = clock::start();
            let reported = ReportedLoad::new(now);
            let mut newest = None;
            for (passed, wait, run) in reports {
                now += Duration::from_millis(passed);
                let (wait, run) = (Duration::from_micros(wait), Duration::from_micros(run));
                reported.tell(WorkerLoad { wait, run }, now);
                newest = Some((WorkerLoad { wait, run }, now));
            }
            now += Duration::from_millis(later);
            let believed = newest.filter(|&(_, told)| now - told <= SECOND).map(|(load, _)| load);
            prop_assert_eq!(reported.read(now, SECOND), believed);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_as_the_longest_time_that_does() {
        let now = clock::start();
        let reported = ReportedLoad::new(now);
        let day = Duration::from_secs(86_400);
        reported.tell(WorkerLoad { wait: day, run: Duration::from_micros(7) }, now);
        let read = reported.read(now, SECOND).unwrap();
        assert_eq!(read.run, Duration::from_micros(7));
        assert!(read.wait > Duration::from_secs(4000), "{read:?}");
    }
}
