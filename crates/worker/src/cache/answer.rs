//! What was computed, for one row or for all rows of a job.

use std::sync::Arc;
use std::time::Duration;

use inferring_types::NamedTensor;

use crate::rows;

/// For each output the axis along which its rows lie; `None` where it has none.
pub(crate) type OutputAxes = [Option<usize>];

/// A computed answer, with what computing it took. Shared by everybody who asked for it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// All outputs of the model, in its order.
    pub(crate) outputs: Arc<[NamedTensor]>,
    /// How long the computation waited for an instance.
    pub(crate) queue_time: Duration,
    /// How long the run took.
    pub(crate) execution_time: Duration,
    /// Rows in that run.
    pub(crate) batch_size: u32,
}

impl Answer {
    /// Bytes that it takes to keep it: its data, and what is about them.
    pub(super) fn weight(&self) -> u64 {
        /// The entry of the map, the places in the queues and among the ghosts, and the answer
        /// itself, as measured.
        const PER_ANSWER: usize = 320;
        /// The allocation of the data, beside the tensor's own fields.
        const PER_OUTPUT: usize = size_of::<NamedTensor>() + 48;
        let output = |output: &NamedTensor| output.tensor.size_bytes() + PER_OUTPUT;
        (PER_ANSWER + self.outputs.iter().map(output).sum::<usize>()) as u64
    }

    /// The answers of its `count` rows, each with its own copy of the data: a row that is kept
    /// must not hold the memory of all. `None` where an output has not as many rows.
    pub(super) fn rows(&self, axes: &OutputAxes, count: usize) -> Option<Vec<Arc<Self>>> {
        let mut by_output = Vec::with_capacity(self.outputs.len());
        for (output, axis) in self.outputs.iter().zip(axes) {
            let parts = match axis {
                Some(axis) => rows::split(&output.tensor, *axis, &vec![1; count])?,
                None => vec![output.tensor.clone(); count],
            };
            by_output.push((&output.name, parts.into_iter()));
        }
        let row = |_| {
            let outputs = by_output.iter_mut().map(|(name, parts)| {
                NamedTensor::new((*name).clone(), parts.next().expect("one for each row"))
            });
            Arc::new(Self { outputs: outputs.collect(), ..*self })
        };
        Some((0..count).map(row).collect())
    }
}
