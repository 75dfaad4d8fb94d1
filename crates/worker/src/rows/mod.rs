//! Tensors joined and split along the axis on which their rows lie.

mod view;

use inferring_types::Tensor;
use smallvec::SmallVec;

pub(crate) use crate::grid::with_size;
use crate::grid::{self, Axes, Part};
pub(crate) use view::{Rows, gather};

/// The rows of a tensor whose rows lie along `axis`; `None` where it has no such axis.
pub(crate) fn count(tensor: &Tensor, axis: usize) -> Option<u64> {
    tensor.shape().dimensions().get(axis).copied()
}

/// Tensors that differ in the size of `axis` alone, one behind the other along it.
///
/// At least one tensor, and all have that axis: a model is held to that before its rows are
/// joined.
#[cfg(test)]
pub(crate) fn join<'a>(tensors: impl Iterator<Item = &'a Tensor>, axis: usize) -> Tensor {
    grid::join(tensors, Axes { rows: axis, length: None }, &[], &mut bytes::BytesMut::new())
}

/// The same tensor over segments of so many bytes.
#[cfg(test)]
pub(crate) fn in_segments(tensor: &Tensor, size: usize) -> Tensor {
    let segments = tensor.data().chunks(size).map(bytes::Bytes::copy_from_slice).collect();
    Tensor::segmented(tensor.datatype(), tensor.shape().clone(), segments).expect("the same bytes")
}

/// The parts of `rows` rows each; `None` where the tensor's rows along `axis` are not that many
/// in all.
///
/// Parts are copied: a kept answer must not hold the whole run's memory.
pub(crate) fn split(tensor: &Tensor, axis: usize, rows: &[usize]) -> Option<Vec<Tensor>> {
    let parts: SmallVec<[Part; 32]> =
        rows.iter().map(|&rows| Part { rows: rows as u64, length: 0 }).collect();
    grid::split(tensor, Axes { rows: axis, length: None }, &parts, parts.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inferring_types::{DataType, Shape};
    use proptest::prelude::*;

    use super::*;

    fn strings(shape: Shape, elements: &[&str]) -> Tensor {
        let mut data = Vec::new();
        for element in elements {
            data.extend((element.len() as u32).to_le_bytes());
            data.extend(element.as_bytes());
        }
        Tensor::new(DataType::Bytes, shape, data.into()).unwrap()
    }

    #[test]
    fn strings_split_at_row_boundaries() {
        let tensor = strings([3].into(), &["a", "bc", ""]);
        let parts = split(&tensor, 0, &[2, 1]).unwrap();
        assert_eq!(parts, [strings([2].into(), &["a", "bc"]), strings([1].into(), &[""])]);
    }

    #[test]
    fn rows_behind_the_first_axis_are_gathered_from_each_block() {
        let numbers = |shape: [u64; 3], values: &[f32]| Tensor::from_f32(shape.into(), values);
        let one = numbers([2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let two = numbers([2, 2, 2], &[5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]).unwrap();
        let joint = join([&one, &two].into_iter(), 1);
        let expected = [1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 3.0, 4.0, 9.0, 10.0, 11.0, 12.0];
        assert_eq!(joint, numbers([2, 3, 2], &expected).unwrap());
        assert_eq!(split(&joint, 1, &[1, 2]).unwrap(), [one, two]);
    }

    #[test]
    fn rows_of_strings_behind_the_first_axis_are_gathered_as_well() {
        let one = strings([2, 1].into(), &["", "long text"]);
        let two = strings([2, 2].into(), &["b", "cd", "efg", "h"]);
        let joint = join([&one, &two].into_iter(), 1);
        assert_eq!(joint, strings([2, 3].into(), &["", "b", "cd", "long text", "efg", "h"]));
        assert_eq!(split(&joint, 1, &[1, 2]).unwrap(), [one, two]);
    }

    #[test]
    fn an_output_with_another_number_of_rows_is_refused() {
        let tensor = Tensor::from_f32([3, 2].into(), &[0.0; 6]).unwrap();
        assert!(split(&tensor, 0, &[1, 1]).is_none());
        assert!(split(&tensor, 1, &[1, 1, 1]).is_none());
        assert!(split(&tensor, 2, &[1]).is_none());
        assert!(split(&Tensor::from_f32(Shape::default(), &[0.0]).unwrap(), 0, &[1]).is_none());
    }

    #[test]
    fn tensors_without_elements_have_rows_all_the_same() {
        let empty = |shape: [u64; 3]| Tensor::new(DataType::Fp32, shape.into(), Bytes::new());
        let joint = join([&empty([0, 1, 5]).unwrap(), &empty([0, 2, 5]).unwrap()].into_iter(), 1);
        assert_eq!(joint, empty([0, 3, 5]).unwrap());
        let parts = split(&empty([1 << 40, 3, 0]).unwrap(), 1, &[1, 2]).unwrap();
        assert_eq!(parts[1], empty([1 << 40, 2, 0]).unwrap());
        let none = [empty([1 << 40, 0, 5]).unwrap(), empty([1 << 40, 0, 5]).unwrap()];
        assert_eq!(join(none.iter(), 1), none[0]);
        assert_eq!(split(&none[0], 1, &[0, 0]).unwrap(), none);
    }

    proptest! {
        #[test]
        fn what_is_joined_splits_back(
            rows in prop::collection::vec(0usize..5, 1..8),
            before in prop::collection::vec(1u64..4, 0..3),
            after in prop::collection::vec(0u64..4, 0..2),
        ) {
            let mut next = 0.0;
            let axis = before.len();
            let tensors: Vec<Tensor> = rows
                .iter()
                .map(|&rows| {
                    let sizes = before.iter().copied().chain([rows as u64]).chain(after.clone());
                    let shape = Shape::new(sizes);
                    let values: Vec<f32> = (0..shape.elements().unwrap())
                        .map(|_| { next += 1.0; next })
                        .collect();
                    Tensor::from_f32(shape, &values).unwrap()
                })
                .collect();
            prop_assert_eq!(split(&join(tensors.iter(), axis), axis, &rows).unwrap(), tensors);
        }
    }
}
