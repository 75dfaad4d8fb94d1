//! Jobs that share a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::ExecuteError;
use inferring_policy::scheduler::{self, DispatchReason, RunId};
use inferring_types::{NamedTensor, ServiceError, Tensor, TensorSpec};
use smallvec::SmallVec;

use super::{Form, Job};
use crate::assembly::Room;
use crate::cache::Answer;
use crate::party::Party;

/// All outputs that belong to one job, in the model's order.
pub(crate) type Outputs = Arc<[NamedTensor]>;

/// Jobs of one lane, taken to be run together. Never empty.
pub(crate) struct Batch {
    jobs: Vec<Job>,
    /// Rows of the run: those of the jobs, and such as fill it up to an allowed number.
    run_rows: usize,
    run: RunId,
    reason: DispatchReason,
    form: Arc<Form>,
    taken: Instant,
}

impl Batch {
    pub(super) fn new(batch: scheduler::Batch<Job>, form: Arc<Form>, taken: Instant) -> Self {
        let scheduler::Batch { run, jobs, run_rows, reason, .. } = batch;
        Self { jobs, run_rows, run, reason, form, taken }
    }

    /// By which the scheduler knows the run.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// When it left the queue.
    pub(crate) fn taken(&self) -> Instant {
        self.taken
    }

    /// Why it left the queue.
    pub(crate) fn reason(&self) -> DispatchReason {
        self.reason
    }

    /// How many jobs share the run.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many rows the jobs have; for a model that does not join rows, 1.
    pub(crate) fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.rows).sum()
    }

    /// How many rows the run has.
    pub(crate) fn run_rows(&self) -> usize {
        self.run_rows
    }

    /// The members of a run of it: each job is one as long as anybody waits for it.
    pub(crate) fn party(&self) -> Arc<Party> {
        let party = Party::new(self.jobs.len());
        self.jobs.iter().for_each(|job| job.leader.attach(party.clone()));
        party
    }

    /// The inputs of the run. Those of a lone job that takes all of it are its own, shared and
    /// not copied; what is copied lies in `room`.
    pub(crate) fn inputs(&self, room: &mut Room) -> Vec<Tensor> {
        self.form.assembly.join_in(room, &self.job_inputs(), self.run_rows)
    }

    /// For each job, its rows of every output; `outputs` are in the order of `specs`.
    ///
    /// # Errors
    /// An output has not one row for each row of the inputs, so that nobody can say whose they
    /// are. This never befalls a lone job that takes the whole run: all outputs are its own,
    /// whatever their shape.
    pub(crate) fn split(
        &self,
        outputs: Vec<Tensor>,
        specs: &[TensorSpec],
    ) -> Result<Vec<Outputs>, ExecuteError> {
        let inputs = self.job_inputs();
        let by_job = self.form.assembly.split(outputs, &inputs, self.run_rows, specs)?;
        let named = |tensors: Vec<Tensor>| {
            let named = specs.iter().zip(tensors);
            named.map(|(spec, tensor)| NamedTensor::new(spec.name.clone(), tensor)).collect()
        };
        Ok(by_job.into_iter().map(named).collect())
    }

    fn job_inputs(&self) -> SmallVec<[&[Tensor]; 32]> {
        self.jobs.iter().map(|job| &job.inputs[..]).collect()
    }

    /// Answers every job with its own of `outputs`, as [`Batch::split`] gave them.
    pub(crate) fn complete(self, outputs: Vec<Outputs>, execution_time: Duration) {
        debug_assert_eq!(outputs.len(), self.jobs.len());
        let batch_size = u32::try_from(self.rows()).unwrap_or(u32::MAX);
        for (job, outputs) in self.jobs.into_iter().zip(outputs) {
            let queue_time = self.taken.saturating_duration_since(job.order.accepted);
            job.leader.complete(Ok(Arc::new(Answer {
                outputs,
                queue_time,
                execution_time,
                batch_size,
            })));
        }
    }

    /// How long each job waited for an instance.
    pub(crate) fn queue_times(&self) -> impl Iterator<Item = Duration> {
        self.jobs.iter().map(|job| self.taken.saturating_duration_since(job.order.accepted))
    }

    /// Answers every job with `error`.
    pub(crate) fn fail(self, error: &ServiceError) {
        for job in self.jobs {
            job.leader.complete(Err(error.clone()));
        }
    }

    /// Two batches of half the jobs each, without those that nobody waits for any more; or the
    /// lone job's batch back.
    pub(crate) fn halve(mut self, now: Instant) -> Result<[Option<Self>; 2], Self> {
        if self.jobs.len() < 2 {
            return Err(self);
        }
        let second = self.jobs.split_off(self.jobs.len() / 2);
        let second = Self { jobs: second, form: self.form.clone(), ..self };
        Ok([self, second].map(|half| half.wanted(now)))
    }

    /// Those of its jobs that somebody still waits for, if any; the others end here.
    fn wanted(mut self, now: Instant) -> Option<Self> {
        self.jobs.retain_mut(|job| job.leader.is_wanted_or_ends(now));
        self.run_rows = self.form.config.run_rows(self.rows());
        (!self.jobs.is_empty()).then_some(self)
    }
}
