//! One computation to do.

use std::time::Instant;

use inferring_policy::scheduler::Work;
use inferring_types::Tensor;

use super::Order;
use crate::assembly::{Assembly, LaneKey};
use crate::cache::Leader;
use crate::reading;

/// A request's inputs, and the duty to answer all who wait for what they give.
pub(super) struct Job {
    /// In the model's declared order.
    pub(super) inputs: Vec<Tensor>,
    /// How much of a batch it takes: its rows, or 1 where rows are not joined.
    pub(super) rows: usize,
    /// Bytes of all its inputs.
    bytes: u64,
    pub(super) order: Order,
    /// Answers all who wait.
    pub(super) leader: Leader,
}

impl Job {
    pub(super) fn new(
        inputs: Vec<Tensor>,
        assembly: &Assembly,
        order: Order,
        leader: Leader,
    ) -> Self {
        let bytes = inputs.iter().map(|input| input.size_bytes() as u64).sum();
        // Rows without a byte cost nothing, and there may be any number of them.
        let rows = assembly.rows(&inputs).min(if bytes == 0 { 1 } else { usize::MAX });
        Self { inputs, rows, bytes, order, leader }
    }

    /// Whether its request may have been large enough to be judged by its head.
    pub(super) fn is_large(&self) -> bool {
        reading::is_large(self.bytes)
    }

    /// What a scheduler must know of it.
    pub(super) fn work(&self, assembly: &Assembly) -> Work<LaneKey> {
        Work {
            lane: assembly.key(&self.inputs),
            rows: self.rows,
            row_bytes: assembly.row_bytes(&self.inputs),
            bytes: self.bytes,
            class: self.order.class,
            enqueued: self.order.accepted,
            deadline: self.order.deadline.at(),
            is_part: self.order.is_part,
        }
    }

    /// Whether anybody waits for it who still has time at `now`.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.leader.wanted_until().is_some_and(|deadline| !deadline.has_passed(now))
    }

    /// Whether anybody waits for it longer than it is known to be wanted.
    pub(super) fn is_wanted_longer(&self) -> bool {
        self.leader.wanted_until().is_some_and(|deadline| deadline > self.order.deadline)
    }

    /// The same job for those who wait for it now.
    pub(super) fn renewed(self) -> Self {
        let deadline = self.leader.wanted_until().unwrap_or(self.order.deadline);
        Self { order: Order { deadline, ..self.order }, ..self }
    }
}
