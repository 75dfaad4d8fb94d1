//! What requests that may share a run have in common.

use bytes::Bytes;
use inferring_types::{RowAxes, Tensor};
use smallvec::SmallVec;

use super::{Padding, bucket};

/// The same for jobs that may share a run, and different for others: the shapes of their inputs
/// apart from the number of rows, lengths only as far as they must be near to each other, and
/// inputs without rows as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct LaneKey {
    /// For each input its rank and its sizes: no rows, and of a length the longest near to it. An input's datatype is the
    /// model's, and need not be in here.
    sizes: SmallVec<[u64; 12]>,
    /// The bytes of the inputs without rows.
    same: SmallVec<[Bytes; 1]>,
}

impl LaneKey {
    /// The key of inputs whose rows, along `axes`, may be joined with those of others.
    pub(super) fn of_rows(inputs: &[Tensor], axes: &RowAxes, padding: &Padding) -> Self {
        let mut key = Self::default();
        for (index, (input, rows)) in inputs.iter().zip(&axes.inputs).enumerate() {
            let sizes = input.shape().dimensions();
            let length = padding.of_input(index).map(|padded| padded.axis);
            key.sizes.push(sizes.len() as u64);
            key.sizes.extend(sizes.iter().enumerate().map(|(axis, &size)| match Some(axis) {
                axis if axis == *rows => 0,
                axis if axis == length => bucket(size).1,
                _ => size,
            }));
            if rows.is_none() {
                key.same.push(input.data().clone());
            }
        }
        key
    }
}
