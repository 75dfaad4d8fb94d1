//! A loaded session on a thread of its own, running batch after batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use inferring_backend::{ExecuteError, Session};
use inferring_types::{ErrorKind, ServiceError, Tensor, TensorSpec};
use tracing::warn;

use crate::batcher::{Batch, Batcher};

/// A session and what it needs to run batches.
pub(crate) struct Instance {
    pub(crate) session: Box<dyn Session>,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) outputs: Vec<TensorSpec>,
    /// Inputs that this model is known to run: they tell a bad input from a broken session.
    pub(crate) known_good: Option<Vec<Tensor>>,
}

impl Instance {
    /// Runs batches until the batcher is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.batcher.clone().next_batch() {
            self.serve(batch);
        }
    }

    /// Runs a batch and answers its jobs. Where the run fails, halves are run until the job
    /// that makes it fail is alone, so that its neighbours are answered.
    fn serve(&mut self, batch: Batch) {
        let inputs = batch.inputs();
        let started = Instant::now();
        let result = self.execute(&inputs);
        let execution_time = started.elapsed();
        match result {
            Ok(outputs) => {
                if self.known_good.is_none() {
                    self.known_good = Some(inputs);
                }
                batch.complete(outputs, &self.outputs, execution_time);
            }
            Err(error) => match batch.halve() {
                Ok((first, second)) => {
                    self.serve(first);
                    self.serve(second);
                }
                Err(lone) => lone.fail(&self.explain(error)),
            },
        }
    }

    /// Whose fault a failed run is. A session that still runs inputs it ran before is sound, so
    /// the failed input is at fault: no other worker would do better, and this one must not be
    /// thought broken.
    fn explain(&mut self, error: ExecuteError) -> ServiceError {
        let known_good = self.known_good.clone();
        if known_good.is_some_and(|inputs| self.execute(&inputs).is_ok()) {
            return ServiceError::new(
                ErrorKind::InvalidArgument,
                inferring_types::Blame::Client,
                format!("the model cannot run this input: {error}"),
            );
        }
        warn!(%error, "a run failed");
        ServiceError::failed("the model failed to run").caused_by(error)
    }

    fn execute(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
        catch_unwind(AssertUnwindSafe(|| self.session.execute(inputs)))
            .unwrap_or_else(|_| Err(ExecuteError("the engine panicked".to_owned())))
    }
}
