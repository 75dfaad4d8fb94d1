//! Jobs that may share a run, in the order they came.

use std::collections::VecDeque;
use std::time::Instant;

use inferring_policy::batching::{self, BatchingConfig};
use inferring_types::Shape;
use smallvec::SmallVec;

use super::Job;

/// What jobs of one lane have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LaneKey {
    /// Rows of these shapes, one per input; the first dimension is set to 0.
    Rows(SmallVec<[Shape; 2]>),
    /// Nothing: each runs alone.
    Alone,
}

impl LaneKey {
    pub(super) fn of(job: &Job, joins_rows: bool) -> Self {
        if !joins_rows {
            return Self::Alone;
        }
        Self::Rows(
            job.inputs
                .iter()
                .map(|input| input.shape().with_first(0).unwrap_or_default())
                .collect(),
        )
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
        self.rows = self.rows.saturating_add(job.rows());
        self.jobs.push_back(job);
    }

    /// Rows waiting.
    pub(super) fn rows(&self) -> usize {
        match self.key {
            LaneKey::Rows(_) => self.rows,
            // One job is all that a batch can take: it is full already.
            LaneKey::Alone => usize::MAX,
        }
    }

    /// When the job at the head came.
    pub(super) fn oldest(&self) -> Instant {
        self.jobs.front().expect("a lane in the queue is never empty").enqueued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes the jobs for one batch from the head.
    pub(super) fn take(&mut self, policy: &BatchingConfig) -> VecDeque<Job> {
        let count = match self.key {
            LaneKey::Rows(_) => batching::take(policy, self.jobs.iter().map(Job::rows)),
            LaneKey::Alone => 1,
        };
        let rest = self.jobs.split_off(count);
        let taken = std::mem::replace(&mut self.jobs, rest);
        self.rows = self.jobs.iter().fold(0, |sum, job| sum.saturating_add(job.rows()));
        taken
    }
}
