//! A loaded session on a thread of its own, running batch after batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use inferring_backend::{ExecuteError, Session};
use inferring_types::{Blame, ErrorKind, ServiceError, Tensor, TensorSpec};
use tracing::{error, warn};

use crate::batcher::{Batch, Batcher};
use crate::statistics::{RunTimes, Statistics};

/// A session and what it needs to run batches.
pub(super) struct Instance {
    pub(super) session: Box<dyn Session>,
    pub(super) batcher: Arc<Batcher>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) outputs: Vec<TensorSpec>,
    /// Inputs that this model is known to run: they tell a bad input from a broken session.
    pub(super) known_good: Option<Vec<Tensor>>,
}

impl Instance {
    /// Runs batches until the batcher is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.batcher.next_batch() {
            // A defect of this crate costs the batch in hand: whoever waits for it is told when
            // it is dropped. It must not cost the instance, behind which requests would go on to
            // queue in vain.
            if catch_unwind(AssertUnwindSafe(|| self.serve(batch))).is_err() {
                error!("a batch was lost to a panic outside of the engine");
            }
        }
    }

    /// Runs the session once for nobody.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn warm_up(&mut self, inputs: &[Tensor]) -> Result<(), ExecuteError> {
        execute(&mut *self.session, inputs)?;
        self.known_good.get_or_insert_with(|| inputs.to_vec());
        Ok(())
    }

    /// Runs the session once on inputs that another session of the model ran, if there are any.
    pub(super) fn run_known_good(&mut self) {
        if let Some(inputs) = &self.known_good {
            // Whatever comes of it will come of it again, for a request that is told so.
            let _ = execute(&mut *self.session, inputs);
        }
    }

    /// Runs a batch and answers its jobs. Where that fails, halves are run until the job that
    /// makes it fail is alone, so that its neighbours are answered.
    fn serve(&mut self, batch: Batch) {
        let Err((batch, error)) = self.try_serve(batch) else {
            return;
        };
        match batch.halve(Instant::now()) {
            Ok(halves) => halves.into_iter().flatten().for_each(|half| self.serve(half)),
            Err(lone) => self.settle(lone, error),
        }
    }

    /// Answers a job whose run failed.
    ///
    /// A session that runs inputs it ran before is sound. Then the failure was either a passing
    /// one, and the job deserves another run, or the input is at fault: no other worker would do
    /// better, and this one must not be thought broken.
    fn settle(&mut self, lone: Batch, error: ExecuteError) {
        let session = &mut *self.session;
        let is_sound =
            self.known_good.as_ref().is_some_and(|inputs| execute(session, inputs).is_ok());
        if !is_sound {
            warn!(%error, "a run failed");
            return lone.fail(&ServiceError::failed("the model failed to run").caused_by(error));
        }
        if let Err((lone, error)) = self.try_serve(lone) {
            let message = format!("the model cannot run this input: {error}");
            lone.fail(&ServiceError::new(ErrorKind::InvalidArgument, Blame::Client, message));
        }
    }

    /// Runs a batch once and answers its jobs, or gives it back with the reason.
    fn try_serve(&mut self, batch: Batch) -> Result<(), (Batch, ExecuteError)> {
        let begun = Instant::now();
        let inputs = batch.inputs();
        let joined = Instant::now();
        let result = execute(&mut *self.session, &inputs);
        let executed = Instant::now();
        let infer = executed - joined;
        match result.and_then(|outputs| batch.split(outputs, &self.outputs)) {
            Ok(outputs) => {
                self.known_good.get_or_insert(inputs);
                let times = RunTimes { input: joined - begun, infer, output: executed.elapsed() };
                self.statistics.ran(batch.rows() as u64, times, batch.queue_times());
                batch.complete(outputs, infer);
                Ok(())
            }
            Err(error) => Err((batch, error)),
        }
    }
}

fn execute(session: &mut dyn Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
    catch_unwind(AssertUnwindSafe(|| session.execute(inputs)))
        .unwrap_or_else(|_| Err(ExecuteError("the engine panicked".to_owned())))
}
