//! Tensors joined and split along the axis on which their rows lie.

use bytes::{Bytes, BytesMut};
use inferring_types::{DataType, Shape, Tensor};

/// The rows of a tensor whose rows lie along `axis`; `None` where it has no such axis.
pub(crate) fn count(tensor: &Tensor, axis: usize) -> Option<u64> {
    tensor.shape().dimensions().get(axis).copied()
}

/// The same shape with `size` as the size of its dimension `axis`.
pub(crate) fn with_size(shape: &Shape, axis: usize, size: u64) -> Shape {
    let dimensions = shape.dimensions().iter().enumerate();
    Shape::new(dimensions.map(|(index, &old)| if index == axis { size } else { old }))
}

/// Tensors that differ in the size of `axis` alone, one behind the other along it.
///
/// At least one tensor, and all have that axis: a model is held to that before its rows are
/// joined.
pub(crate) fn join<'a>(tensors: impl Iterator<Item = &'a Tensor> + Clone, axis: usize) -> Tensor {
    let first = tensors.clone().next().expect("at least one tensor");
    let rows = |tensor: &Tensor| count(tensor, axis).expect("a tensor of rows has their axis");
    let length: usize = tensors.clone().map(|tensor| tensor.data().len()).sum();
    let mut data = BytesMut::with_capacity(length);
    let layout = Layout::of(first.shape(), axis, length);
    if layout.blocks == 1 {
        tensors.clone().for_each(|tensor| data.extend_from_slice(tensor.data()));
    } else {
        let mut sources: Vec<_> = tensors.clone().map(|t| (Elements::of(t), rows(t))).collect();
        for _ in 0..layout.blocks {
            for (elements, rows) in &mut sources {
                data.extend_from_slice(elements.take(*rows * layout.row));
            }
        }
    }
    let shape = with_size(first.shape(), axis, tensors.map(rows).sum());
    Tensor::new(first.datatype(), shape, data.freeze()).expect("rows of equal shape")
}

/// The parts of `rows` rows each; `None` where the tensor's rows along `axis` are not that many
/// in all.
///
/// Parts are copied: a kept answer must not hold the whole run's memory.
pub(crate) fn split(tensor: &Tensor, axis: usize, rows: &[usize]) -> Option<Vec<Tensor>> {
    let total = rows.iter().sum::<usize>();
    if count(tensor, axis)? != total as u64 {
        return None;
    }
    let layout = Layout::of(tensor.shape(), axis, tensor.data().len());
    let mut elements = Elements::of(tensor);
    let mut parts = vec![Vec::new(); rows.len()];
    for block in 0..layout.blocks {
        for (part, &rows) in parts.iter_mut().zip(rows) {
            let piece = elements.take(rows as u64 * layout.row);
            if block == 0 {
                let blocks = usize::try_from(layout.blocks).expect("blocks of a tensor in memory");
                part.reserve_exact(piece.len() * blocks);
            }
            part.extend_from_slice(piece);
        }
    }
    let tensor = |(part, &rows): (Vec<u8>, &usize)| {
        let shape = with_size(tensor.shape(), axis, rows as u64);
        Tensor::new(tensor.datatype(), shape, Bytes::from(part)).expect("rows of a valid tensor")
    };
    Some(parts.into_iter().zip(rows).map(tensor).collect())
}

/// How rows lie in memory: `blocks` times all rows one behind the other, each row `row` elements
/// of the block.
struct Layout {
    blocks: u64,
    row: u64,
}

impl Layout {
    /// Of a shape whose rows lie along `axis`, with that many bytes of data.
    fn of(shape: &Shape, axis: usize, bytes: usize) -> Self {
        if bytes == 0 {
            // Where there is no element, the other dimensions may be of any size.
            return Self { blocks: 1, row: 0 };
        }
        let (before, after) = shape.dimensions().split_at(axis);
        Self { blocks: before.iter().product(), row: after[1..].iter().product() }
    }
}

/// A tensor's elements, taken from the front.
struct Elements<'a> {
    datatype: DataType,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        Self { datatype: tensor.datatype(), rest: tensor.data() }
    }

    /// The bytes of the next `elements` elements, which are there.
    fn take(&mut self, elements: u64) -> &'a [u8] {
        let length = match self.datatype.element_size() {
            Some(size) => usize::try_from(elements).expect("part of a tensor in memory") * size,
            None => length_of_strings(self.rest, elements),
        };
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Bytes that the first `elements` length-prefixed strings take.
fn length_of_strings(data: &[u8], elements: u64) -> usize {
    (0..elements).fold(0, |at, _| {
        let prefix = data[at..].first_chunk::<4>().expect("checked in Tensor::new");
        at + 4 + u32::from_le_bytes(*prefix) as usize
    })
}

#[cfg(test)]
mod tests {
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
