//! The newest report: two numbers and no lock.

use std::time::{Duration, Instant};

use inferring_types::WorkerLoad;

use crate::sync::{AtomicU64, Ordering};

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
