//! Tensors laid together along the axis of their rows, and taken apart again.
//!
//! Rows may differ in length along one other axis. What is short is filled up to the longest, and
//! taking apart leaves the filling behind. Both ways the elements are visited in the order in
//! which they lie in memory, so that each is copied once, in pieces as long as they can be.

use bytes::{Bytes, BytesMut};
use inferring_types::{DataType, Shape, Tensor};
use smallvec::SmallVec;

/// The axes that matter of tensors that are laid together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes {
    /// Along which rows lie.
    pub(crate) rows: usize,
    /// Along which they may differ in length; another one.
    pub(crate) length: Option<usize>,
}

/// What one of the tensors takes of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: u64,
    /// Its size along the axis of lengths; of no meaning where there is none.
    pub(crate) length: u64,
}

/// These tensors, at least one, as one: their rows one behind the other, and those that are
/// shorter than the longest filled up with `filling`, the bytes of an element.
///
/// They have the axes, and differ in the sizes of these alone. Where the memory of `data` is large
/// enough and nobody else's any more, the whole lies there.
pub(crate) fn join<'a>(
    tensors: impl Iterator<Item = &'a Tensor>,
    axes: Axes,
    filling: &[u8],
    data: &mut BytesMut,
) -> Tensor {
    let mut sources = SmallVec::<[Elements<'_>; 32]>::new();
    let mut parts = SmallVec::<[Part; 32]>::new();
    let (mut first, mut elements, mut bytes) = (None, 0, 0);
    for tensor in tensors {
        let sizes = tensor.shape().dimensions();
        first.get_or_insert(tensor);
        elements += tensor.elements();
        bytes += tensor.size_bytes();
        parts.push(Part { rows: sizes[axes.rows], length: axes.length.map_or(0, |l| sizes[l]) });
        sources.push(Elements::of(tensor));
    }
    let first = first.expect("at least one tensor");
    let shape = shape_of_all(first.shape(), axes, &parts);
    let filled_up = shape.elements().expect("tensors in memory, filled up") - elements;
    let length = bytes + filled_up as usize * filling.len();
    if !data.try_reclaim(length) {
        *data = BytesMut::with_capacity(length);
    }
    walk(&shape, axes, &parts, |piece| match piece {
        Piece::Of(part, elements) => {
            sources[part].take(elements, |bytes| data.extend_from_slice(bytes));
        }
        Piece::Filling(elements) => fill(data, filling, elements),
    });
    let data = data.split().freeze();
    Tensor::new(first.datatype(), shape, data).expect("tensors that fit together")
}

/// The tensors of which `whole` was made by [`join`], or that a model answered in their place;
/// `None` where `whole` is not as large as these parts together along either axis. Those from
/// the place `wanted` on are left out.
///
/// They are copied: what is kept of one must not hold the memory of all.
pub(crate) fn split(
    whole: &Tensor,
    axes: Axes,
    parts: &[Part],
    wanted: usize,
) -> Option<Vec<Tensor>> {
    let sizes = whole.shape().dimensions();
    let is_of_length = |axis: usize| {
        let longest = parts.iter().map(|part| part.length).max();
        sizes.get(axis).copied() == longest
    };
    let rows = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.rows))?;
    if sizes.get(axes.rows) != Some(&rows) || !axes.length.is_none_or(is_of_length) {
        return None;
    }
    let shape = |part: &Part| {
        let shape = with_size(whole.shape(), axes.rows, part.rows);
        axes.length.map_or(shape.clone(), |axis| with_size(&shape, axis, part.length))
    };
    let shapes: SmallVec<[Shape; 32]> = parts[..wanted].iter().map(shape).collect();
    let bytes = |shape: &Shape| {
        let elements = shape.elements().expect("part of a tensor in memory") as usize;
        Vec::with_capacity(elements * whole.datatype().element_size().unwrap_or_default())
    };
    let mut data: SmallVec<[Vec<u8>; 32]> = shapes.iter().map(bytes).collect();
    let mut source = Elements::of(whole);
    walk(whole.shape(), axes, parts, |piece| match piece {
        Piece::Of(part, elements) if part < wanted => {
            source.take(elements, |bytes| data[part].extend_from_slice(bytes));
        }
        Piece::Of(_, elements) | Piece::Filling(elements) => source.take(elements, |_| {}),
    });
    let tensor = |(shape, data): (Shape, Vec<u8>)| {
        Tensor::new(whole.datatype(), shape, Bytes::from(data)).expect("part of a valid tensor")
    };
    Some(shapes.into_iter().zip(data).map(tensor).collect())
}

/// The same shape with `size` as the size of its dimension `axis`.
pub(crate) fn with_size(shape: &Shape, axis: usize, size: u64) -> Shape {
    let dimensions = shape.dimensions().iter().enumerate();
    Shape::new(dimensions.map(|(index, &old)| if index == axis { size } else { old }))
}

fn shape_of_all(one: &Shape, axes: Axes, parts: &[Part]) -> Shape {
    let shape = with_size(one, axes.rows, parts.iter().map(|part| part.rows).sum());
    let longest = parts.iter().map(|part| part.length).max().unwrap_or_default();
    axes.length.map_or(shape.clone(), |axis| with_size(&shape, axis, longest))
}

fn fill(data: &mut BytesMut, filling: &[u8], elements: u64) {
    let count = usize::try_from(elements).expect("part of a tensor in memory");
    if filling.iter().all(|&byte| byte == 0) {
        data.resize(data.len() + count * filling.len(), 0);
    } else {
        (0..count).for_each(|_| data.extend_from_slice(filling));
    }
}

/// Elements of the whole that lie one behind the other.
enum Piece {
    /// So many, of the part in that place.
    Of(usize, u64),
    /// So many, which fill up a part.
    Filling(u64),
}

/// Visits all elements of a tensor of that shape, made of these parts, in the order in which they
/// lie in memory.
fn walk(shape: &Shape, axes: Axes, parts: &[Part], mut visit: impl FnMut(Piece)) {
    if shape.elements() == Some(0) {
        // The other dimensions may be of any size.
        return;
    }
    let sizes = shape.dimensions();
    let product = |range: std::ops::Range<usize>| sizes[range].iter().product::<u64>();
    let parts = || parts.iter().enumerate();
    match axes.length {
        Some(length) if length < axes.rows => {
            let row = product(axes.rows + 1..sizes.len());
            for _ in 0..product(0..length) {
                for at in 0..sizes[length] {
                    for _ in 0..product(length + 1..axes.rows) {
                        for (place, part) in parts() {
                            let elements = part.rows * row;
                            visit(if at < part.length {
                                Piece::Of(place, elements)
                            } else {
                                Piece::Filling(elements)
                            });
                        }
                    }
                }
            }
        }
        _ => {
            // A row is one line, or several of the length.
            let (lines, longest, unit) = match axes.length {
                Some(length) => (
                    product(axes.rows + 1..length),
                    sizes[length],
                    product(length + 1..sizes.len()),
                ),
                None => (1, 1, product(axes.rows + 1..sizes.len())),
            };
            for _ in 0..product(0..axes.rows) {
                for (place, part) in parts() {
                    let lines = part.rows * lines;
                    if axes.length.is_none() || part.length == longest {
                        visit(Piece::Of(place, lines * longest * unit));
                        continue;
                    }
                    for _ in 0..lines {
                        visit(Piece::Of(place, part.length * unit));
                        visit(Piece::Filling((longest - part.length) * unit));
                    }
                }
            }
        }
    }
}

/// A tensor's elements, taken from the front.
struct Elements<'a> {
    datatype: DataType,
    /// What is left of the segment that is taken from, and those behind it.
    rest: &'a [u8],
    segments: std::slice::Iter<'a, Bytes>,
}

impl<'a> Elements<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        Self { datatype: tensor.datatype(), rest: &[], segments: tensor.segments().iter() }
    }

    /// Visits the bytes of the next `elements` elements, which are there.
    fn take(&mut self, elements: u64, mut visit: impl FnMut(&'a [u8])) {
        let elements = usize::try_from(elements).expect("part of a tensor in memory");
        let mut missing = match self.datatype.element_size() {
            Some(size) => elements * size,
            None => self.length_of_strings(elements),
        };
        while missing > 0 {
            if self.rest.is_empty() {
                self.rest = self.segments.next().expect("elements that are there");
            }
            let (taken, rest) = self.rest.split_at(missing.min(self.rest.len()));
            (self.rest, missing) = (rest, missing - taken.len());
            visit(taken);
        }
    }

    /// Bytes that the next `elements` length-prefixed strings take, all of which lie in one segment.
    fn length_of_strings(&mut self, elements: usize) -> usize {
        if self.rest.is_empty() {
            self.rest = self.segments.next().map_or(&[][..], |segment| segment);
        }
        (0..elements).fold(0, |at, _| {
            let prefix = self.rest[at..].first_chunk::<4>().expect("checked in Tensor::new");
            at + 4 + u32::from_le_bytes(*prefix) as usize
        })
    }
}
