//! Requests that are computed part by part.

use std::sync::Arc;
use std::time::Duration;

use inferring_types::ServiceError;

use super::{Batcher, refusal};
use crate::system;

/// For how long the parts of one request that wait together keep instances busy: whoever waits for
/// them wakes and queues the next ones meanwhile, and others have their turn in between.
const AT_ONCE: Duration = Duration::from_millis(10);

/// The least of them for each instance, however long they take.
const AT_ONCE_MIN: usize = 2;

/// The place of a request that is computed part by part; free again when this is dropped.
pub(crate) struct InParts {
    batcher: Arc<Batcher>,
}

impl Drop for InParts {
    fn drop(&mut self) {
        self.batcher.state.lock().scheduler.leave();
    }
}

impl Batcher {
    /// Takes a place for a request whose parts are then [submitted](Self::submit) a few at a time;
    /// `bytes` are those of the first ones. However many there are, they take no other.
    ///
    /// # Errors
    /// `Overloaded` where the queue is full, `Unavailable` where the batcher is closed. It is counted
    /// as refused.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Result<InParts, ServiceError> {
        let mut state = self.state.lock();
        if let Err(refusal) = state.scheduler.enter(bytes, system::now()) {
            state.status.refused += 1;
            return Err(refusal::error(refusal));
        }
        Ok(InParts { batcher: self.clone() })
    }

    /// The most rows of a run, by what such rows are known to cost and by how long a run may take.
    pub(crate) fn rows_of_run(&self, row_bytes: u64) -> usize {
        match self.form.config.run_limit {
            Some(_) => self.state.lock().scheduler.rows_max(row_bytes),
            None => self.rows_max(),
        }
    }

    /// How many parts of a run's size of one request are to wait at the same time.
    pub(crate) fn parts_at_once(&self, row_bytes: u64, rows: usize) -> usize {
        let run = self.state.lock().scheduler.expected(row_bytes, rows);
        let each = AT_ONCE.as_nanos().div_ceil(run.as_nanos().max(1));
        let each = usize::try_from(each).unwrap_or(usize::MAX).max(AT_ONCE_MIN);
        each.saturating_mul(self.form.config.instances)
    }
}
