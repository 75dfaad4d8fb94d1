//! A request taken apart along its rows: each part has a key of its own, and computations are
//! put together of parts.

use std::ops::Range;

use inferring_types::{NamedTensor, RowAxes, Tensor};
use smallvec::SmallVec;

use crate::cache::{Key, KeyHasher};
use crate::rows::{self, Rows};

/// The parts of a request, each of equally many neighbouring rows; the last may have fewer.
pub(super) struct Parts<'a> {
    inputs: &'a [NamedTensor],
    /// Of each input, where it has any.
    rows: SmallVec<[Option<Rows<'a>>; 2]>,
    count: usize,
    size: usize,
    /// Rows of a run at most.
    run: usize,
}

impl<'a> Parts<'a> {
    /// How many rows these inputs have. Without rows, without more than one, or without a single
    /// byte in them, they are one part whatever its size: then there is no more to say than 1.
    pub(super) fn rows_of(inputs: &[NamedTensor], axes: &RowAxes) -> usize {
        let with_rows = || {
            let inputs = inputs.iter().zip(&axes.inputs);
            inputs.filter_map(|(input, axis)| Some((&input.tensor, (*axis)?)))
        };
        // Inputs with rows have equally many: a request is held to that when it is arranged.
        let count = with_rows().find_map(|(tensor, axis)| rows::count(tensor, axis));
        match count.and_then(|count| usize::try_from(count).ok()) {
            // Rows that are nothing but a number in the shape may be more than any memory holds.
            Some(count) if count > 1 && with_rows().any(|(tensor, _)| tensor.size_bytes() > 0) => {
                count
            }
            _ => 1,
        }
    }

    /// Parts of `size` rows of inputs that have `count`, as [`Parts::rows_of`] says; runs are to have
    /// `run` at most.
    pub(super) fn new(
        inputs: &'a [NamedTensor],
        axes: &RowAxes,
        count: usize,
        size: usize,
        run: usize,
    ) -> Self {
        let rows = inputs.iter().zip(&axes.inputs).map(|(input, axis)| {
            axis.map(|axis| Rows::of(&input.tensor, axis).expect("arranged inputs have that axis"))
        });
        Self { inputs, rows: rows.collect(), count, size, run }
    }

    /// How many parts there are.
    pub(super) fn len(&self) -> usize {
        self.count.div_ceil(self.size)
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.count
    }

    /// How many rows a computation has at most.
    pub(super) fn rows_of_run(&self) -> usize {
        self.run
    }

    /// The rows of a part.
    pub(super) fn rows_of_part(&self, part: usize) -> Range<usize> {
        let start = part * self.size;
        start..(start + self.size).min(self.count)
    }

    /// The keys of some parts, behind `prefix`. The key of a part is the key of a request that
    /// consists of that part alone.
    pub(super) fn keys(&self, prefix: &KeyHasher, parts: &[usize]) -> Vec<Key> {
        let key = |&part: &usize| {
            let range = self.rows_of_part(part);
            let mut hasher = prefix.clone();
            for (input, rows) in self.inputs.iter().zip(&self.rows) {
                let Some(rows) = rows else {
                    hasher.tensor(input);
                    continue;
                };
                let (shape, length) = (rows.shape_of(range.len()), rows.length(range.clone()));
                hasher.tensor_in_pieces(&input.name, input.tensor.datatype(), &shape, length);
                for piece in rows.pieces(range.clone()) {
                    hasher.piece(piece);
                }
            }
            hasher.finish()
        };
        parts.iter().map(key).collect()
    }

    /// The inputs of a computation of some parts, in ascending order.
    pub(super) fn inputs_of(&self, parts: &[usize]) -> Vec<Tensor> {
        let mut ranges: SmallVec<[Range<usize>; 4]> = SmallVec::new();
        for range in parts.iter().map(|&part| self.rows_of_part(part)) {
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        let tensor = |(input, rows): (&NamedTensor, &Option<Rows<'_>>)| match rows {
            Some(rows) => rows.take(&ranges),
            None => input.tensor.clone(),
        };
        self.inputs.iter().zip(&self.rows).map(tensor).collect()
    }

    /// All inputs as they are.
    pub(super) fn all_inputs(&self) -> Vec<Tensor> {
        self.inputs.iter().map(|input| input.tensor.clone()).collect()
    }

    /// Bytes of one row, on average.
    pub(super) fn row_bytes(&self) -> usize {
        Self::row_bytes_of(self.inputs, self.count)
    }

    /// The same of inputs that have so many rows.
    pub(super) fn row_bytes_of(inputs: &[NamedTensor], count: usize) -> usize {
        let bytes: usize = inputs.iter().map(|input| input.tensor.size_bytes()).sum();
        bytes.div_ceil(count)
    }
}
