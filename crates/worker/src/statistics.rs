//! Counts what one loaded version of a model does.
//!
//! A request costs two additions here and takes no lock; a run, which takes far longer, takes
//! one that is hardly ever contended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use inferring_types::{
    BatchStatus, CacheOutcome, CostCurve, ModelName, ModelStatistics, ModelVersion, Spent,
};
use parking_lot::Mutex;

use crate::system;

/// What a version has done since it was loaded.
pub(crate) struct Statistics {
    loaded: (Instant, SystemTime),
    /// Milliseconds from the load to the last answer, and 1 more; 0 before the first.
    last_answer: AtomicU64,
    /// Requests answered by a run of their own.
    computed: Tally,
    /// Requests answered from the cache, or by an equal request's run.
    shared: Tally,
    failed: Tally,
    /// What was counted of runs; the rest is filled in when it is asked for.
    runs: Mutex<ModelStatistics>,
}

/// How long the parts of a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunTimes {
    /// Joining the inputs.
    pub(crate) input: Duration,
    /// Running.
    pub(crate) infer: Duration,
    /// Splitting the outputs.
    pub(crate) output: Duration,
}

impl Statistics {
    /// The most batch sizes that are counted apart. Clients choose how many rows they send, and
    /// must not make this grow without end.
    const BATCH_SIZES_MAX: usize = 1024;

    pub(crate) fn new(name: ModelName, version: ModelVersion) -> Self {
        Self {
            loaded: (system::now(), SystemTime::now()),
            last_answer: AtomicU64::new(0),
            computed: Tally::default(),
            shared: Tally::default(),
            failed: Tally::default(),
            runs: Mutex::new(ModelStatistics::new(name, version)),
        }
    }

    /// Counts a request that was accepted at that moment and answered after that time.
    pub(crate) fn answered(&self, outcome: CacheOutcome, accepted: Instant, time: Duration) {
        match outcome {
            CacheOutcome::Computed => self.computed.add(time),
            CacheOutcome::Hit | CacheOutcome::Joined => self.shared.add(time),
        }
        let since_load = (accepted + time).saturating_duration_since(self.loaded.0);
        let moment = 1 + since_load.as_millis() as u64;
        // Most requests are answered in the same millisecond as another: a look is cheaper than
        // taking the line from other threads.
        if self.last_answer.load(Ordering::Relaxed) < moment {
            self.last_answer.store(moment, Ordering::Relaxed);
        }
    }

    /// Counts a request that failed after that time.
    pub(crate) fn failed(&self, time: Duration) {
        self.failed.add(time);
    }

    /// Counts a run of that many rows, for jobs that had waited so long.
    pub(crate) fn ran(&self, rows: u64, times: RunTimes, queued: impl Iterator<Item = Duration>) {
        let mut runs = self.runs.lock();
        runs.executions += 1;
        runs.inferences += rows;
        for time in queued {
            runs.queue.add(time);
            runs.compute_input.add(times.input);
            runs.compute_infer.add(times.infer);
            runs.compute_output.add(times.output);
        }
        let known = runs.batches.len() < Self::BATCH_SIZES_MAX
            || runs.batches.binary_search_by_key(&rows, |batch| batch.batch_size).is_ok();
        if known {
            let size = runs.of_batch_size(rows);
            size.compute_input.add(times.input);
            size.compute_infer.add(times.infer);
            size.compute_output.add(times.output);
        }
    }

    /// All that was counted, with what the queue before the model has to tell.
    pub(crate) fn snapshot(
        &self,
        batching: BatchStatus,
        curves: Vec<CostCurve>,
    ) -> ModelStatistics {
        let runs = self.runs.lock().clone();
        let (computed, shared) = (self.computed.spent(), self.shared.spent());
        let last_answer = self.last_answer.load(Ordering::Relaxed).checked_sub(1);
        ModelStatistics {
            last_inference: last_answer.map(|ms| self.loaded.1 + Duration::from_millis(ms)),
            success: computed.plus(shared),
            fail: self.failed.spent(),
            cache_hit: shared,
            cache_miss: computed,
            batching,
            curves,
            ..runs
        }
    }
}

/// A count and a time that many threads add to.
#[derive(Default)]
struct Tally {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Tally {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    fn spent(&self) -> Spent {
        Spent {
            count: self.count.load(Ordering::Relaxed),
            total: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_without_end_are_counted_together() {
        let statistics = Statistics::new("m".parse().unwrap(), ModelVersion::first());
        let times = RunTimes {
            input: Duration::from_micros(1),
            infer: Duration::from_micros(10),
            output: Duration::from_micros(2),
        };
        let runs = 2 * Statistics::BATCH_SIZES_MAX as u64;
        for rows in 1..=runs {
            statistics.ran(rows, times, [Duration::ZERO; 2].into_iter());
        }
        statistics.ran(7, times, [Duration::ZERO].into_iter());
        let snapshot = statistics.snapshot(BatchStatus::default(), Vec::new());
        assert_eq!(snapshot.executions, runs + 1);
        assert_eq!(snapshot.inferences, runs * (runs + 1) / 2 + 7);
        assert_eq!(snapshot.compute_infer.count, 2 * runs + 1);
        assert_eq!(snapshot.batches.len(), Statistics::BATCH_SIZES_MAX);
        assert_eq!(
            (snapshot.batches[6].batch_size, snapshot.batches[6].compute_infer.count),
            (7, 2)
        );
    }
}
