//! Rows looked at where they lie.

use std::ops::Range;

use bytes::BytesMut;
use inferring_types::{SegmentedBytes, Shape, Tensor};

use super::{count, with_size};

/// A tensor seen row by row.
pub(crate) struct Rows<'a> {
    tensor: &'a Tensor,
    axis: usize,
    count: usize,
    /// How often all rows come one behind the other.
    blocks: usize,
    /// How many bytes a row has in a block, or where each row begins, block by block, and the
    /// last one ends.
    places: Places,
}

enum Places {
    Even(usize),
    Uneven(Vec<usize>),
}

impl<'a> Rows<'a> {
    /// The rows of a tensor along `axis`; `None` where it has no such axis.
    pub(crate) fn of(tensor: &'a Tensor, axis: usize) -> Option<Self> {
        let count = usize::try_from(count(tensor, axis)?).ok()?;
        let (before, after) = tensor.shape().dimensions().split_at(axis);
        // Where there is no element, the other dimensions may be of any size.
        let is_empty = tensor.size_bytes() == 0;
        let product = |sizes: &[u64]| if is_empty { 0 } else { sizes.iter().product::<u64>() };
        let blocks = usize::try_from(product(before).max(1)).ok()?;
        let elements = usize::try_from(product(&after[1..])).ok()?;
        let places = match tensor.datatype().element_size() {
            Some(size) => Places::Even(elements * size),
            None if is_empty => Places::Even(0),
            None => {
                let mut lengths = tensor.strings().map(|text| 4 + text.len());
                let mut place = 0;
                let ends = (0..blocks * count).map(|_| {
                    place += lengths.by_ref().take(elements).sum::<usize>();
                    place
                });
                Places::Uneven([0].into_iter().chain(ends).collect())
            }
        };
        Some(Self { tensor, axis, count, blocks, places })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The shape of a tensor of `count` such rows.
    pub(crate) fn shape_of(&self, count: usize) -> Shape {
        with_size(self.tensor.shape(), self.axis, count as u64)
    }

    /// The bytes of some neighbouring rows, in at least as many pieces as there are blocks.
    pub(crate) fn pieces(&self, rows: Range<usize>) -> impl Iterator<Item = &'a [u8]> {
        (0..self.blocks).flat_map(move |block| self.pieces_in(block, rows.clone()))
    }

    /// How many bytes some neighbouring rows have.
    pub(crate) fn length(&self, rows: Range<usize>) -> usize {
        match &self.places {
            Places::Even(row) => self.blocks * rows.len() * row,
            Places::Uneven(_) => self.pieces(rows).map(<[u8]>::len).sum(),
        }
    }

    /// A tensor of the rows in these ranges, one behind the other. All rows in their order are
    /// the tensor itself, and neighbouring rows a part of its memory where they lie together.
    pub(crate) fn take(&self, ranges: &[Range<usize>]) -> Tensor {
        match ranges {
            [all] if *all == (0..self.count) => self.tensor.clone(),
            [one] if self.blocks == 1 => {
                let data = self.tensor.slice(self.place(0, one.clone()));
                self.tensor_of(one.len(), data)
            }
            _ => {
                let parts: Vec<_> = ranges.iter().map(|range| (self, range.clone())).collect();
                gather(&parts).expect("rows of one tensor fit each other")
            }
        }
    }

    fn pieces_in(&self, block: usize, rows: Range<usize>) -> impl Iterator<Item = &'a [u8]> {
        self.tensor.slices(self.place(block, rows))
    }

    /// Where some neighbouring rows lie in a block.
    fn place(&self, block: usize, rows: Range<usize>) -> Range<usize> {
        let before = block * self.count;
        match &self.places {
            Places::Even(row) => (before + rows.start) * row..(before + rows.end) * row,
            Places::Uneven(places) => places[before + rows.start]..places[before + rows.end],
        }
    }

    fn tensor_of(&self, count: usize, data: SegmentedBytes) -> Tensor {
        Tensor::segmented(self.tensor.datatype(), self.shape_of(count), data)
            .expect("rows of a valid tensor")
    }
}

/// One tensor of rows of several, one behind the other: at least one part. `None` where their
/// rows do not fit each other.
pub(crate) fn gather(parts: &[(&Rows<'_>, Range<usize>)]) -> Option<Tensor> {
    let first = parts[0].0;
    let shape = first.shape_of(0);
    let fits = |rows: &Rows<'_>| {
        rows.axis == first.axis
            && rows.tensor.datatype() == first.tensor.datatype()
            && rows.shape_of(0) == shape
    };
    if !parts.iter().all(|(rows, _)| std::ptr::eq(*rows, first) || fits(rows)) {
        return None;
    }
    let length = parts.iter().map(|(rows, range)| rows.length(range.clone())).sum();
    let mut data = BytesMut::with_capacity(length);
    for block in 0..first.blocks {
        for (rows, range) in parts {
            let pieces = rows.pieces_in(block, range.clone());
            pieces.for_each(|piece| data.extend_from_slice(piece));
        }
    }
    let count = parts.iter().map(|(_, range)| range.len()).sum();
    Some(first.tensor_of(count, data.freeze().into()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inferring_types::DataType;
    use proptest::prelude::*;

    use super::*;
    use crate::rows;

    fn texts(shape: Shape, random: &mut fastrand::Rng) -> Tensor {
        let mut data = Vec::new();
        for _ in 0..shape.elements().unwrap() {
            let text: String = (0..random.usize(..5)).map(|_| random.alphanumeric()).collect();
            data.extend((text.len() as u32).to_le_bytes());
            data.extend(text.as_bytes());
        }
        Tensor::new(DataType::Bytes, shape, data.into()).unwrap()
    }

    fn numbers(shape: Shape, random: &mut fastrand::Rng) -> Tensor {
        let values: Vec<f32> = (0..shape.elements().unwrap()).map(|_| random.f32()).collect();
        Tensor::from_f32(shape, &values).unwrap()
    }

    #[test]
    fn neighbouring_rows_of_the_first_axis_are_not_copied() {
        let tensor = Tensor::from_f32([3, 2].into(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let rows = Rows::of(&tensor, 0).unwrap();
        let part = rows.take(std::slice::from_ref(&(1..3)));
        assert_eq!(part, Tensor::from_f32([2, 2].into(), &[3.0, 4.0, 5.0, 6.0]).unwrap());
        assert_eq!(part.data().as_ptr(), tensor.data()[8..].as_ptr());
        assert_eq!(
            rows.take(std::slice::from_ref(&(0..3))).data().as_ptr(),
            tensor.data().as_ptr()
        );
        assert!(Rows::of(&tensor, 2).is_none());
        let segmented = rows::in_segments(&tensor, 12);
        let part = Rows::of(&segmented, 0).unwrap().take(std::slice::from_ref(&(1..3)));
        let places = |tensor: &Tensor| -> Vec<_> {
            tensor.segments().iter().map(|segment| segment.as_ptr_range().end).collect()
        };
        assert_eq!(places(&part), places(&segmented));
    }

    #[test]
    fn rows_that_do_not_fit_each_other_are_not_gathered() {
        let of = |shape: [u64; 2]| Tensor::from_f32(shape.into(), &[0.0; 6]).unwrap();
        let (two, three) = (of([3, 2]), of([2, 3]));
        let (two, three) = (Rows::of(&two, 0).unwrap(), Rows::of(&three, 0).unwrap());
        assert!(gather(&[(&two, 0..1), (&three, 0..1)]).is_none());
        assert!(gather(&[(&two, 0..1), (&two, 0..1)]).is_some());
    }

    #[test]
    fn rows_without_bytes_are_rows() {
        let empty = Tensor::new(DataType::Fp32, [1 << 40, 3, 0].into(), Bytes::new()).unwrap();
        let rows = Rows::of(&empty, 1).unwrap();
        assert_eq!((rows.count(), rows.length(0..3)), (3, 0));
        assert_eq!(rows.take(&[2..3, 0..1]).shape(), &[1 << 40, 2, 0].into());
    }

    proptest! {
        /// Rows taken in any order are the same as rows split and joined one by one.
        #[test]
        fn rows_are_taken_as_if_one_by_one(
            sizes in prop::collection::vec(1u64..4, 1..4),
            axis in any::<prop::sample::Index>(),
            count in 1usize..6,
            chosen in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3), 1..6),
            is_text in any::<bool>(),
            segment in 1usize..100,
            seed in any::<u64>(),
        ) {
            let axis = axis.index(sizes.len());
            let shape = with_size(&Shape::new(sizes), axis, count as u64);
            let mut random = fastrand::Rng::with_seed(seed);
            let tensor = if is_text { texts } else { numbers }(shape, &mut random);
            let tensor = rows::in_segments(&tensor, segment);
            let view = Rows::of(&tensor, axis).unwrap();
            prop_assert_eq!(view.count(), count);
            let single = rows::split(&tensor, axis, &vec![1; count]).unwrap();
            let ranges: Vec<_> = chosen
                .into_iter()
                .map(|(start, length)| {
                    let start = start.index(count);
                    start..(start + length).min(count)
                })
                .collect();
            for range in &ranges {
                let length: usize = view.pieces(range.clone()).map(<[u8]>::len).sum();
                prop_assert_eq!(view.length(range.clone()), length);
            }
            let apart: Vec<_> = ranges.iter().cloned().flatten().map(|row| &single[row]).collect();
            let taken = view.take(&ranges);
            if apart.is_empty() {
                prop_assert_eq!(rows::count(&taken, axis), Some(0));
            } else {
                prop_assert_eq!(taken, rows::join(apart.into_iter(), axis));
            }
        }
    }
}
