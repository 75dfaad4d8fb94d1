//! Tensors joined and split along their first dimension.

use bytes::{Bytes, BytesMut};
use inferring_types::Tensor;

/// Tensors that differ in the first dimension alone, one behind the other along it.
///
/// At least one tensor, and no scalars: a model that takes scalars does not join rows.
pub(crate) fn join<'a>(tensors: impl Iterator<Item = &'a Tensor> + Clone) -> Tensor {
    let first = tensors.clone().next().expect("at least one tensor");
    let rows = |tensor: &Tensor| tensor.shape().dimensions()[0];
    let mut data = BytesMut::with_capacity(tensors.clone().map(|t| t.data().len()).sum());
    tensors.clone().for_each(|tensor| data.extend_from_slice(tensor.data()));
    let shape = first.shape().with_first(tensors.map(rows).sum()).expect("no scalars");
    Tensor::new(first.datatype(), shape, data.freeze()).expect("rows of equal shape")
}

/// The parts of `rows` rows each; `None` where the tensor's rows are not that many in all.
///
/// Parts are copied: a kept answer must not hold the whole run's memory.
pub(crate) fn split(tensor: &Tensor, rows: &[usize]) -> Option<Vec<Tensor>> {
    let total = rows.iter().sum::<usize>();
    if *tensor.shape().dimensions().first()? != total as u64 {
        return None;
    }
    let per_row = tensor.elements().checked_div(total as u64).unwrap_or(0);
    let mut rest = &tensor.data()[..];
    let parts = rows.iter().map(|&rows| {
        let elements = per_row * rows as u64;
        let length = match tensor.datatype().element_size() {
            Some(size) => usize::try_from(elements).expect("part of a tensor in memory") * size,
            None => length_of_strings(rest, elements),
        };
        let (part, tail) = rest.split_at(length);
        rest = tail;
        let shape = tensor.shape().with_first(rows as u64).expect("not a scalar: seen above");
        Tensor::new(tensor.datatype(), shape, Bytes::copy_from_slice(part))
            .expect("whole rows of a valid tensor")
    });
    Some(parts.collect())
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
    use inferring_types::{DataType, Shape};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_split_at_row_boundaries() {
        let data = Bytes::from_static(b"\x01\0\0\0a\x02\0\0\0bc\0\0\0\0");
        let tensor = Tensor::new(DataType::Bytes, [3].into(), data).unwrap();
        let parts = split(&tensor, &[2, 1]).unwrap();
        assert_eq!(&parts[0].data()[..], b"\x01\0\0\0a\x02\0\0\0bc");
        assert_eq!(&parts[1].data()[..], b"\0\0\0\0");
    }

    #[test]
    fn an_output_with_another_number_of_rows_is_refused() {
        let tensor = Tensor::from_f32([3, 2].into(), &[0.0; 6]).unwrap();
        assert!(split(&tensor, &[1, 1]).is_none());
        assert!(split(&Tensor::from_f32(Shape::default(), &[0.0]).unwrap(), &[1]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_joined_splits_back(rows in prop::collection::vec(0usize..5, 1..8)) {
            let mut next = 0.0;
            let tensors: Vec<Tensor> = rows
                .iter()
                .map(|&rows| {
                    let values: Vec<f32> = (0..rows * 3)
                        .map(|_| { next += 1.0; next })
                        .collect();
                    Tensor::from_f32([rows as u64, 3].into(), &values).unwrap()
                })
                .collect();
            prop_assert_eq!(split(&join(tensors.iter()), &rows).unwrap(), tensors);
        }
    }
}
