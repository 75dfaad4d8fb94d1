//! Jobs that may share a run, in the order they came.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use inferring_policy::batching::{self, BatchingConfig};
use inferring_types::{RowAxes, Shape, Tensor};
use smallvec::SmallVec;

use super::Job;
use crate::rows;

/// What jobs of one lane have in common: the shapes of their inputs apart from the number of
/// rows, and inputs without rows as they are.
///
/// Where rows are not joined the key is empty: all jobs are in one lane and leave it one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LaneKey {
    shapes: SmallVec<[Shape; 2]>,
    /// The bytes of the inputs without rows.
    same: SmallVec<[Bytes; 1]>,
}

impl LaneKey {
    /// The key of inputs whose rows, along `axes`, may be joined with those of others.
    pub(super) fn of_rows(inputs: &[Tensor], axes: &RowAxes) -> Self {
        let mut key = Self::default();
        for (input, axis) in inputs.iter().zip(&axes.inputs) {
            match axis {
                Some(axis) => key.shapes.push(rows::with_size(input.shape(), *axis, 0)),
                None => {
                    key.shapes.push(input.shape().clone());
                    key.same.push(input.data().clone());
                }
            }
        }
        key
    }
}

/// A queue of jobs that may share a run; never empty while it is in the batcher's queue.
pub(super) struct Lane {
    pub(super) key: LaneKey,
    jobs: VecDeque<Job>,
    rows: usize,
}

impl Lane {
    pub(super) fn new(key: LaneKey, job: Job) -> Self {
        let mut lane = Self { key, jobs: VecDeque::new(), rows: 0 };
        lane.push(job);
        lane
    }

    pub(super) fn push(&mut self, job: Job) {
        self.rows += job.rows;
        self.jobs.push_back(job);
    }

    /// Rows waiting.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// When the job at the head came.
    pub(super) fn oldest(&self) -> Instant {
        self.jobs.front().expect("a lane in the queue is never empty").enqueued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes the jobs for one batch from the head.
    pub(super) fn take(&mut self, policy: &BatchingConfig) -> Vec<Job> {
        let count = batching::take(policy, self.jobs.iter().map(|job| job.rows));
        let jobs: Vec<Job> = self.jobs.drain(..count).collect();
        self.rows -= jobs.iter().map(|job| job.rows).sum::<usize>();
        jobs
    }
}
