//! A loaded session on a thread of its own, running batch after batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use inferring_backend::{ExecuteError, Run, Session};
use inferring_types::{Blame, ErrorKind, ServiceError, Tensor};
use tracing::{debug, error, warn};

use super::crew::Crew;
use super::workbench::{Ended, Workbench};
use crate::assembly::Room;
use crate::batcher::{Batch, Ran};
use crate::statistics::RunTimes;
use crate::system;

/// A session and what it needs to run batches.
pub(super) struct Instance<'a> {
    pub(super) session: Box<dyn Session>,
    pub(super) crew: &'a Crew,
    pub(super) bench: &'a Workbench,
    /// Inputs that this model is known to run: they tell a bad input from a broken session.
    pub(super) known_good: Option<Vec<Tensor>>,
    /// What another instance had in hand that this one takes the place of.
    pub(super) inherited: Vec<Batch>,
    /// Where it joins inputs.
    pub(super) room: Room,
}

/// What became of a batch that was run.
enum Outcome {
    /// With its outputs.
    Ran(Batch, Vec<Tensor>),
    Failed(Batch, Failure),
    /// It was ended because nobody waited for it, and whoever came too late is answered.
    Abandoned,
    /// Others have taken it, and answered it, because it took too long to end.
    Lost,
}

/// Why a batch has no outputs.
enum Failure {
    /// The engine's reason.
    Engine(ExecuteError),
    /// It was ended, because it had taken longer than it may.
    OverLimit,
}

/// What became of the jobs of a batch.
enum Served {
    /// With outputs, which were there so long after the batch was taken.
    Answered(Duration),
    /// Nobody waited for them.
    Abandoned,
    Failed(Batch, Failure),
}

impl Served {
    fn failure(self) -> Option<(Batch, Failure)> {
        match self {
            Self::Failed(batch, failure) => Some((batch, failure)),
            Self::Answered(_) | Self::Abandoned => None,
        }
    }
}

/// A batch was taken away while it ran.
struct Lost;

impl Instance<'_> {
    /// Runs batches until the batcher is closed and empty, or another instance has this one's
    /// place.
    pub(super) fn run(mut self) {
        let mut last = None;
        while let Some(batch) = self.next_batch(last) {
            let run = batch.run();
            // A defect of this crate costs the batch in hand: whoever waits for it is told when
            // it is dropped. It must not cost the instance, behind which requests would go on to
            // queue in vain.
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(batch)));
            last = match served {
                Ok(Ok(time)) => Some(Ran { run, time }),
                Ok(Err(Lost)) if self.bench.is_replaced() => return,
                Ok(Err(Lost)) => None,
                Err(_) => {
                    error!("a batch was lost to a panic outside of the engine");
                    self.bench.clear();
                    Some(Ran { run, time: None })
                }
            };
        }
    }

    fn next_batch(&mut self, last: Option<Ran>) -> Option<Batch> {
        let batcher = &self.crew.batcher;
        self.room.give_back_if(|| batcher.is_empty());
        self.inherited.pop().or_else(|| batcher.next_batch(last))
    }

    /// Runs a batch and answers its jobs; how long that took, where it ran as a whole, or at least,
    /// where that was too long. Where it fails, halves are run until the job that makes it fail is
    /// alone, so that its neighbours are answered.
    fn serve(&mut self, batch: Batch) -> Result<Option<Duration>, Lost> {
        let taken = batch.taken();
        let failed = match self.try_serve(batch)? {
            Served::Answered(time) => return Ok(Some(time)),
            Served::Abandoned => return Ok(None),
            Served::Failed(batch, failure) => (batch, failure),
        };
        let is_over_limit = matches!(failed.1, Failure::OverLimit);
        let time = is_over_limit.then(|| system::now().saturating_duration_since(taken));
        let mut soundness = None;
        let mut failed = Some(failed);
        loop {
            if let Some((batch, failure)) = failed.take() {
                match (batch.halve(system::now()), failure) {
                    (Ok([first, second]), _) => {
                        [second, first].into_iter().flatten().for_each(|b| self.bench.put_aside(b));
                    }
                    (Err(lone), Failure::Engine(error)) => {
                        self.settle(lone, error, &mut soundness)?;
                    }
                    (Err(lone), Failure::OverLimit) => self.crew.end_at_limit(lone),
                }
            }
            let Some(batch) = self.bench.next() else {
                return Ok(time);
            };
            failed = self.try_serve(batch)?.failure();
        }
    }

    /// Answers a job whose run failed.
    ///
    /// A session that runs inputs it ran before is sound. Then the failure was either a passing
    /// one, and the job deserves another run, or the input is at fault: no other worker would do
    /// better, and this one must not be thought broken. A session is asked once for all parts of
    /// a batch.
    fn settle(
        &mut self,
        lone: Batch,
        error: ExecuteError,
        soundness: &mut Option<bool>,
    ) -> Result<(), Lost> {
        let (lone, is_sound) = match (*soundness, &self.known_good) {
            (Some(is_sound), _) => (lone, is_sound),
            (None, None) => (lone, false),
            (None, Some(inputs)) => match self.execute(lone, &inputs.clone()) {
                Outcome::Ran(lone, _) => (lone, true),
                Outcome::Failed(lone, _) => (lone, false),
                Outcome::Abandoned => return Ok(()),
                Outcome::Lost => return Err(Lost),
            },
        };
        *soundness = Some(is_sound);
        if !is_sound {
            warn!(model = %self.crew.name, %error, "a run failed");
            lone.fail(&ServiceError::failed("the model failed to run").caused_by(error));
            return Ok(());
        }
        match self.try_serve(lone)?.failure() {
            Some((lone, Failure::Engine(error))) => {
                let message = format!("the model cannot run this input: {error}");
                lone.fail(&ServiceError::new(ErrorKind::InvalidArgument, Blame::Client, message));
            }
            Some((lone, Failure::OverLimit)) => self.crew.end_at_limit(lone),
            None => {}
        }
        Ok(())
    }

    /// Runs a batch once and answers its jobs, or gives it back with the reason.
    fn try_serve(&mut self, batch: Batch) -> Result<Served, Lost> {
        let begun = system::now();
        let inputs = batch.inputs(&mut self.room);
        let joined = system::now();
        let outcome = self.execute(batch, &inputs);
        let executed = system::now();
        let (batch, outputs) = match outcome {
            Outcome::Ran(batch, outputs) => match batch.split(outputs, &self.crew.outputs) {
                Ok(outputs) => (batch, outputs),
                Err(error) => return Ok(Served::Failed(batch, Failure::Engine(error))),
            },
            Outcome::Failed(batch, failure) => return Ok(Served::Failed(batch, failure)),
            Outcome::Abandoned => return Ok(Served::Abandoned),
            Outcome::Lost => return Err(Lost),
        };
        let done = system::now();
        self.known_good.get_or_insert(inputs);
        let times =
            RunTimes { input: joined - begun, infer: executed - joined, output: done - executed };
        self.crew.statistics.ran(batch.rows() as u64, times, batch.queue_times());
        debug!(
            model = %self.crew.name,
            jobs = batch.jobs(),
            rows = batch.rows(),
            run_rows = batch.run_rows(),
            reason = ?batch.reason(),
            queue = ?batch.queue_times().max().unwrap_or_default(),
            execution = ?times.infer,
            "a batch ran",
        );
        // Not the answering: whoever is woken by it may take the processor for a while.
        let time = done.saturating_duration_since(batch.taken());
        batch.complete(outputs, times.infer);
        Ok(Served::Answered(time))
    }

    /// Runs the session on these inputs for those who wait for the batch: if they all leave, or
    /// it takes longer than it may, the run is ended.
    fn execute(&mut self, batch: Batch, inputs: &[Tensor]) -> Outcome {
        let party = batch.party();
        self.bench.begin(batch, party.clone(), system::now());
        self.crew.attention.notice();
        let result = execute(&mut *self.session, inputs, party.run());
        let Some(Ended { batch, over_limit }) = self.bench.end() else {
            return Outcome::Lost;
        };
        match result {
            Ok(outputs) => Outcome::Ran(batch, outputs),
            Err(_) if party.run().is_interrupted() => {
                self.crew.batcher.interrupted();
                if over_limit {
                    return Outcome::Failed(batch, Failure::OverLimit);
                }
                self.crew.abandon(batch);
                Outcome::Abandoned
            }
            Err(error) => Outcome::Failed(batch, Failure::Engine(error)),
        }
    }
}

/// Runs the session, whose panics are failures like others.
///
/// # Errors
/// The engine's.
pub(super) fn execute(
    session: &mut dyn Session,
    inputs: &[Tensor],
    run: &Run,
) -> Result<Vec<Tensor>, ExecuteError> {
    catch_unwind(AssertUnwindSafe(|| session.run(inputs, run)))
        .unwrap_or_else(|_| Err(ExecuteError("the engine panicked".to_owned())))
}
