//! What requests that may share a run have in common.

use bytes::Bytes;
use inferring_types::{RowAxes, Tensor};
use smallvec::SmallVec;

/// The same for jobs that may share a run, and different for others: the shapes of their inputs
/// apart from the number of rows, and inputs without rows as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct LaneKey {
    /// For each input its rank and its sizes, without the rows. An input's datatype is the
    /// model's, and need not be in here.
    sizes: SmallVec<[u64; 12]>,
    /// The bytes of the inputs without rows.
    same: SmallVec<[Bytes; 1]>,
}

impl LaneKey {
    /// The key of inputs whose rows, along `axes`, may be joined with those of others.
    pub(super) fn of_rows(inputs: &[Tensor], axes: &RowAxes) -> Self {
        let mut key = Self::default();
        for (input, axis) in inputs.iter().zip(&axes.inputs) {
            let dimensions = input.shape().dimensions();
            key.sizes.push(dimensions.len() as u64);
            for (place, &size) in dimensions.iter().enumerate() {
                key.sizes.push(if Some(place) == *axis { 0 } else { size });
            }
            if axis.is_none() {
                key.same.push(input.data().clone());
            }
        }
        key
    }
}
