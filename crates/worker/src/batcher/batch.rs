//! Jobs that share a run: their inputs joined row by row, and the outputs split again.
//!
//! An input without rows is the same for all of them, which their lane sees to; an output
//! without rows is everybody's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::ExecuteError;
use inferring_types::{NamedTensor, RowAxes, ServiceError, Tensor, TensorSpec};

use super::Job;
use crate::cache::Answer;
use crate::rows;

/// All outputs that belong to one job, in the model's order.
pub(crate) type Outputs = Arc<[NamedTensor]>;

/// Jobs of one lane, taken to be run together. Never empty.
pub(crate) struct Batch {
    jobs: Vec<Job>,
    /// Where rows lie, for jobs that may be several.
    axes: Option<Arc<RowAxes>>,
    taken: Instant,
}

impl Batch {
    /// Those of `jobs` that somebody still waits for in time, if any; the others end here.
    pub(super) fn of_wanted(
        mut jobs: Vec<Job>,
        axes: Option<Arc<RowAxes>>,
        taken: Instant,
        now: Instant,
    ) -> Option<Self> {
        jobs.retain_mut(|job| job.leader.is_wanted_or_ends(now));
        (!jobs.is_empty()).then_some(Self { jobs, axes, taken })
    }

    /// How many jobs share the run.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many rows the run has; for a model that does not join rows, 1.
    pub(crate) fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.rows).sum()
    }

    /// The inputs of the run. Those of a lone job are its own, shared and not copied.
    pub(crate) fn inputs(&self) -> Vec<Tensor> {
        if let [job] = &self.jobs[..] {
            return job.inputs.clone();
        }
        let axes = &self.axes().inputs;
        let joined = axes.iter().enumerate().map(|(index, axis)| {
            let tensors = self.jobs.iter().map(|job| &job.inputs[index]);
            match axis {
                Some(axis) => rows::join(tensors, *axis),
                None => self.jobs[0].inputs[index].clone(),
            }
        });
        joined.collect()
    }

    fn axes(&self) -> &RowAxes {
        self.axes.as_ref().expect("jobs of a model that does not join rows run alone")
    }

    /// For each job, its rows of every output; `outputs` are in the order of `specs`.
    ///
    /// # Errors
    /// An output has not one row for each row of the inputs, so that nobody can say whose they
    /// are. This never befalls a lone job: all outputs are its own, whatever their shape.
    pub(crate) fn split(
        &self,
        outputs: Vec<Tensor>,
        specs: &[TensorSpec],
    ) -> Result<Vec<Outputs>, ExecuteError> {
        let named =
            |(spec, tensor): (&TensorSpec, Tensor)| NamedTensor::new(spec.name.clone(), tensor);
        if self.jobs.len() == 1 {
            return Ok(vec![specs.iter().zip(outputs).map(named).collect()]);
        }
        let counts: Vec<usize> = self.jobs.iter().map(|job| job.rows).collect();
        let mut by_output = Vec::with_capacity(outputs.len());
        for ((spec, output), axis) in specs.iter().zip(&outputs).zip(&self.axes().outputs) {
            let parts = match axis {
                Some(axis) => rows::split(output, *axis, &counts),
                None => Some(vec![output.clone(); counts.len()]),
            };
            by_output.push(parts.ok_or_else(|| wrong_rows(spec, output, &counts))?.into_iter());
        }
        let of_next_job = |_| {
            let tensors = by_output.iter_mut().map(|parts| parts.next().expect("one per job"));
            specs.iter().zip(tensors).map(named).collect()
        };
        Ok((0..self.jobs.len()).map(of_next_job).collect())
    }

    /// Answers every job with its own of `outputs`, as [`Batch::split`] gave them.
    pub(crate) fn complete(self, outputs: Vec<Outputs>, execution_time: Duration) {
        debug_assert_eq!(outputs.len(), self.jobs.len());
        let batch_size = u32::try_from(self.rows()).unwrap_or(u32::MAX);
        for (job, outputs) in self.jobs.into_iter().zip(outputs) {
            let queue_time = self.taken.saturating_duration_since(job.enqueued);
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
        self.jobs.iter().map(|job| self.taken.saturating_duration_since(job.enqueued))
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
        let Self { jobs: first, axes, taken } = self;
        Ok([first, second].map(|jobs| Self::of_wanted(jobs, axes.clone(), taken, now)))
    }
}

fn wrong_rows(spec: &TensorSpec, output: &Tensor, rows: &[usize]) -> ExecuteError {
    ExecuteError(format!(
        "output `{}` has shape {} for {} rows: the model does not keep rows apart",
        spec.name,
        output.shape(),
        rows.iter().sum::<usize>(),
    ))
}
