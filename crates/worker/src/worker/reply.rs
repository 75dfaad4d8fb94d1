//! An answer put together of what came from several places.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use inferring_types::{CacheOutcome, NamedTensor};

use crate::cache::{Answer, OutputAxes};
use crate::rows::{self, Rows};

/// The answer to a request.
pub(super) struct Reply {
    /// All outputs of the model, in its order.
    pub(super) outputs: Arc<[NamedTensor]>,
    pub(super) cache: CacheOutcome,
    pub(super) took: Took,
}

/// What computing took; nothing where all was known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    pub(super) queue_time: Duration,
    pub(super) execution_time: Duration,
    /// Rows in the run.
    pub(super) batch_size: u32,
}

impl Took {
    pub(super) fn of(answer: &Answer) -> Self {
        let Answer { queue_time, execution_time, batch_size, .. } = *answer;
        Self { queue_time, execution_time, batch_size }
    }

    /// The slower of two.
    pub(super) fn or_slower(self, other: Self) -> Self {
        let time = |took: &Self| took.queue_time + took.execution_time;
        if time(&self) < time(&other) { other } else { self }
    }
}

/// Some neighbouring rows of an answer.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) answer: Arc<Answer>,
    pub(super) rows: Range<usize>,
    /// How many rows the answer has in all.
    pub(super) of: usize,
}

impl Piece {
    /// Adds the rows to a list of pieces, to the last of them where they follow it.
    pub(super) fn add_to(self, pieces: &mut Vec<Self>) {
        match pieces.last_mut() {
            Some(last)
                if Arc::ptr_eq(&last.answer, &self.answer) && last.rows.end == self.rows.start =>
            {
                last.rows.end = self.rows.end;
            }
            _ => pieces.push(self),
        }
    }
}

/// The outputs of all rows of these pieces, at least one, in order. They are copied only where
/// they come from several places. An output without rows is everybody's.
///
/// `None` where an output has not one row for each row of the inputs, or rows of different runs
/// do not fit each other: then nobody can say what the answer is but a run of all rows.
pub(super) fn assemble(pieces: &[Piece], axes: &OutputAxes) -> Option<Arc<[NamedTensor]>> {
    let first = &pieces[0].answer.outputs;
    let output = |(place, axis): (usize, &Option<usize>)| {
        let output = &first[place];
        let Some(axis) = *axis else {
            return Some(output.clone());
        };
        let views = pieces.iter().map(|piece| {
            let rows = Rows::of(&piece.answer.outputs[place].tensor, axis)?;
            (rows.count() == piece.of).then_some(rows)
        });
        let views = views.collect::<Option<Vec<_>>>()?;
        let tensor = match &views[..] {
            [lone] => lone.take(std::slice::from_ref(&pieces[0].rows)),
            _ => {
                let ranges = pieces.iter().map(|piece| piece.rows.clone());
                rows::gather(&views.iter().zip(ranges).collect::<Vec<_>>())?
            }
        };
        Some(NamedTensor::new(output.name.clone(), tensor))
    };
    match pieces {
        [all] if all.rows == (0..all.of) && fits(all, axes) => Some(first.clone()),
        _ => axes.iter().enumerate().map(output).collect(),
    }
}

fn fits(piece: &Piece, axes: &OutputAxes) -> bool {
    piece.answer.outputs.iter().zip(axes).all(|(output, axis)| {
        axis.is_none_or(|axis| rows::count(&output.tensor, axis) == Some(piece.of as u64))
    })
}
