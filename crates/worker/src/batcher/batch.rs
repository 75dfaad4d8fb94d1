//! Jobs that share a run: their inputs joined row by row, and the outputs split again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::{NamedTensor, ServiceError, Tensor, TensorSpec};

use super::Job;
use crate::cache::Answer;
use crate::rows;

/// Jobs of one lane, taken to be run together. Never empty.
pub(crate) struct Batch {
    jobs: Vec<Job>,
    taken: Instant,
}

impl Batch {
    pub(super) fn new(jobs: Vec<Job>, taken: Instant) -> Self {
        debug_assert!(!jobs.is_empty());
        Self { jobs, taken }
    }

    /// How many jobs share the run.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many rows the run has.
    pub(crate) fn rows(&self) -> usize {
        self.jobs.iter().map(Job::rows).sum()
    }

    /// The inputs of the run. Those of a lone job are its own, shared and not copied.
    pub(crate) fn inputs(&self) -> Vec<Tensor> {
        if let [job] = &self.jobs[..] {
            return job.inputs.clone();
        }
        let inputs = self.jobs[0].inputs.len();
        (0..inputs)
            .map(|index| rows::join(self.jobs.iter().map(|job| &job.inputs[index])))
            .collect()
    }

    /// Two batches of half the jobs each, or the lone job's batch back.
    pub(crate) fn halve(mut self) -> Result<(Self, Self), Self> {
        if self.jobs.len() < 2 {
            return Err(self);
        }
        let second = self.jobs.split_off(self.jobs.len() / 2);
        let taken = self.taken;
        Ok((self, Self { jobs: second, taken }))
    }

    /// Answers every job with its own rows of `outputs`, which are in the order of `specs`.
    pub(crate) fn complete(
        self,
        outputs: Vec<Tensor>,
        specs: &[TensorSpec],
        execution_time: Duration,
    ) {
        let batch_size = u32::try_from(self.rows()).unwrap_or(u32::MAX);
        let split = match self.split(outputs, specs) {
            Ok(split) => split,
            Err(error) => return self.fail(&error),
        };
        let taken = self.taken;
        for (job, outputs) in self.jobs.into_iter().zip(split) {
            let queue_time = taken.saturating_duration_since(job.enqueued);
            job.leader.complete(Ok(Arc::new(Answer {
                outputs,
                queue_time,
                execution_time,
                batch_size,
            })));
        }
    }

    /// Answers every job with `error`.
    pub(crate) fn fail(self, error: &ServiceError) {
        for job in self.jobs {
            job.leader.complete(Err(error.clone()));
        }
    }

    /// For each job, its rows of every output.
    fn split(
        &self,
        outputs: Vec<Tensor>,
        specs: &[TensorSpec],
    ) -> Result<Vec<Arc<[NamedTensor]>>, ServiceError> {
        let named =
            |(spec, tensor): (&TensorSpec, Tensor)| NamedTensor::new(spec.name.clone(), tensor);
        if self.jobs.len() == 1 {
            return Ok(vec![specs.iter().zip(outputs).map(named).collect()]);
        }
        let counts: Vec<usize> = self.jobs.iter().map(Job::rows).collect();
        let mut by_output = Vec::with_capacity(outputs.len());
        for (spec, output) in specs.iter().zip(&outputs) {
            let parts = rows::split(output, &counts);
            by_output.push(parts.ok_or_else(|| wrong_rows(spec, output, &counts))?);
        }
        let mut parts: Vec<_> = by_output.into_iter().map(Vec::into_iter).collect();
        let of_next_job = |_| {
            let tensors = parts.iter_mut().map(|part| part.next().expect("one part per job"));
            specs.iter().zip(tensors).map(named).collect()
        };
        Ok((0..self.jobs.len()).map(of_next_job).collect())
    }
}

fn wrong_rows(spec: &TensorSpec, output: &Tensor, rows: &[usize]) -> ServiceError {
    ServiceError::failed(format!(
        "output `{}` has shape {} for {} rows: the model does not keep rows apart; set its \
         batching mode to `alone`",
        spec.name,
        output.shape(),
        rows.iter().sum::<usize>(),
    ))
}
