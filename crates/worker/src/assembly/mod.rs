//! How requests become one run, and a run's outputs answers again.
//!
//! Which requests may share a run is told by their [`LaneKey`]; those of one key are joined row
//! by row. An input without rows is the same for all of them, which the key sees to; an output
//! without rows is everybody's.
//!
//! Where a model's settings say how its inputs are filled up, requests of nearly the same length
//! share runs as well: each run is as long as its longest request, and every request gets the
//! answer of its own length.

mod declared;
pub(crate) mod fixed_rows;
mod key;
mod length;
mod padding;
mod room;

use inferring_backend::ExecuteError;
use inferring_types::{NamedTensor, RowAxes, ServiceError, Tensor, TensorSpec};
use smallvec::SmallVec;

pub(crate) use key::LaneKey;
pub(crate) use length::bucket;
pub(crate) use padding::{PaddedInput, Padding};
pub(crate) use room::Room;

use crate::grid::{self, Axes, Part};
use crate::rows;

/// What is known of a model that decides how its requests are joined.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Assembly {
    /// Where rows lie, for a model whose requests may share a run.
    axes: Option<RowAxes>,
    padding: Padding,
}

impl Assembly {
    /// More rows count as this many: such a job runs alone anyway, and sums do not overflow.
    const ROWS_MAX: u64 = u32::MAX as u64;

    /// Every request runs alone.
    pub(crate) fn alone() -> Self {
        Self::default()
    }

    /// Requests share runs row by row, and such as differ in length where `padding` says so.
    pub(crate) fn of_rows(axes: RowAxes, padding: Padding) -> Self {
        Self { axes: Some(axes), padding }
    }

    /// Whether requests may share a run.
    pub(crate) fn joins_rows(&self) -> bool {
        self.axes.is_some()
    }

    /// Where rows lie, where requests may share a run.
    pub(crate) fn axes(&self) -> Option<&RowAxes> {
        self.axes.as_ref()
    }

    /// What answers depend on beside the model and its inputs, in any form: rows that are joined,
    /// or lengths that are filled up, by a declaration which is not true change answers.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{self:?}")
    }

    /// Holds the inputs of one request, in declared order, against each other: those that are
    /// filled up must be equally long, for otherwise a run would hide what is wrong with them.
    ///
    /// # Errors
    /// `InvalidArgument`, blamed on the client, that names two inputs of different length.
    pub(crate) fn check(&self, inputs: &[NamedTensor]) -> Result<(), ServiceError> {
        let mut padded = inputs.iter().zip(&self.padding.inputs).filter_map(|(input, padded)| {
            Some((input, padded.as_ref()?.axis, padded.as_ref()?.length(&input.tensor)))
        });
        let Some((first, first_axis, length)) = padded.next() else {
            return Ok(());
        };
        match padded.find(|(_, _, other)| *other != length) {
            None => Ok(()),
            Some((odd, odd_axis, _)) => Err(ServiceError::invalid(format!(
                "inputs that are padded must be equally long: `{}` has shape {} (its length is \
                 along axis {first_axis}), `{}` {} (along axis {odd_axis})",
                first.name,
                first.tensor.shape(),
                odd.name,
                odd.tensor.shape(),
            ))),
        }
    }

    /// What a job of these inputs has in common with all that it may share a run with. Where
    /// requests run alone it is the same for all, so that they wait in one line.
    pub(crate) fn key(&self, inputs: &[Tensor]) -> LaneKey {
        let of_rows = |axes| LaneKey::of_rows(inputs, axes, &self.padding);
        self.axes().map_or_else(LaneKey::default, of_rows)
    }

    /// How much of a run these inputs take: their rows, or 1 where rows are not joined.
    pub(crate) fn rows(&self, inputs: &[Tensor]) -> usize {
        let rows = self.axes().and_then(|axes| {
            // Inputs with rows have equally many: a request is held to that when it is arranged.
            let mut inputs = inputs.iter().zip(&axes.inputs);
            inputs.find_map(|(input, axis)| rows::count(input, (*axis)?))
        });
        rows.map_or(1, |rows| rows.min(Self::ROWS_MAX)) as usize
    }

    /// Bytes of one row of these inputs, those without rows included. Where an input is filled
    /// up, they are reckoned for the longest that it may share a run with: so they are the same
    /// for all of a lane.
    pub(crate) fn row_bytes(&self, inputs: &[Tensor]) -> u64 {
        let rows = self.rows(inputs).max(1) as u64;
        let bytes = |(place, input): (usize, &Tensor)| {
            let bytes = input.size_bytes() as u64;
            if self.axes().is_none_or(|axes| axes.inputs[place].is_none()) {
                return bytes;
            }
            match self.padding.of_input(place).and_then(|padded| padded.length(input)) {
                Some(length @ 1..) => (bytes / rows / length).saturating_mul(bucket(length).1),
                _ => bytes / rows,
            }
        };
        inputs.iter().enumerate().map(bytes).sum()
    }

    /// Bytes of one row of any request, where the model fixes all that decides them.
    pub(crate) fn fixed_row_bytes(&self, inputs: &[TensorSpec]) -> Option<u64> {
        let bytes = |(place, input): (usize, &TensorSpec)| {
            let rows = self.axes().and_then(|axes| axes.inputs[place]);
            let sizes = input.shape.dimensions().iter().enumerate();
            let mut sizes = sizes.filter(|(axis, _)| Some(*axis) != rows);
            let element = input.datatype.element_size()? as u64;
            sizes.try_fold(element, |bytes, (_, size)| bytes.checked_mul(size.fixed()?))
        };
        let is_ranked = inputs.iter().all(|input| input.shape.is_ranked());
        let mut bytes = inputs.iter().enumerate().map(bytes);
        bytes.try_fold(0, |sum: u64, bytes| sum.checked_add(bytes?)).filter(|_| is_ranked)
    }

    /// The inputs of a run of these jobs, which are of one lane and at least one, with
    /// `run_rows` rows: where the jobs have fewer, their last row is repeated. The inputs of a
    /// lone job that takes the whole run are its own, shared and not copied.
    pub(crate) fn join(&self, jobs: &[&[Tensor]], run_rows: usize) -> Vec<Tensor> {
        self.join_in(&mut Room::default(), jobs, run_rows)
    }

    /// The same, with what is copied in memory that runs before it have left.
    pub(crate) fn join_in(
        &self,
        room: &mut Room,
        jobs: &[&[Tensor]],
        run_rows: usize,
    ) -> Vec<Tensor> {
        if let Some(lone) = self.lone(jobs, run_rows) {
            return lone.to_vec();
        }
        let spare = self.spare_rows(jobs, run_rows);
        let join = |(place, rows): (usize, &Option<usize>)| {
            let Some(rows) = *rows else {
                return jobs[0][place].clone();
            };
            let padded = self.padding.of_input(place);
            let axes = Axes { rows, length: padded.map(|padded| padded.axis) };
            let filling = padded.map_or(&[][..], |padded| &padded.element);
            let tensors = jobs.iter().map(|job| &job[place]);
            let data = room.of_input(place);
            if spare == 0 {
                return grid::join(tensors, axes, filling, data);
            }
            let last = last_row(tensors.clone(), rows);
            let repeated = last.iter().flat_map(|row| std::iter::repeat_n(row, spare));
            grid::join(tensors.chain(repeated), axes, filling, data)
        };
        self.several().inputs.iter().enumerate().map(join).collect()
    }

    /// For each job that was joined by [`Assembly::join`], its part of every output; `outputs`
    /// and `specs` are in the model's order.
    ///
    /// # Errors
    /// An output has not one row for each row of the inputs, or is not as long as they are where
    /// it is said to be, so that nobody can say what is whose. This never befalls a lone job that
    /// takes the whole run: all outputs are its own, whatever their shape.
    pub(crate) fn split(
        &self,
        outputs: Vec<Tensor>,
        jobs: &[&[Tensor]],
        run_rows: usize,
        specs: &[TensorSpec],
    ) -> Result<Vec<Vec<Tensor>>, ExecuteError> {
        if self.lone(jobs, run_rows).is_some() {
            return Ok(vec![outputs]);
        }
        let part = |job: &&[Tensor]| Part {
            rows: self.rows(job) as u64,
            length: self.padding.length(job),
        };
        let mut parts: SmallVec<[Part; 32]> = jobs.iter().map(part).collect();
        let is_filled_up = parts.iter().any(|part| part.length != parts[0].length);
        // They belong to nobody, and so does all of their length.
        parts.push(Part { rows: self.spare_rows(jobs, run_rows) as u64, length: 0 });
        let mut by_job: Vec<_> = jobs.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
        let axes = self.several().outputs.iter().enumerate();
        for ((output, (place, rows)), spec) in outputs.into_iter().zip(axes).zip(specs) {
            let own = match *rows {
                Some(rows) => {
                    let length = self.padding.of_output(place).filter(|_| is_filled_up);
                    grid::split(&output, Axes { rows, length }, &parts, jobs.len())
                        .ok_or_else(|| misshapen(spec, &output, &parts, length))?
                }
                None => vec![output; jobs.len()],
            };
            by_job.iter_mut().zip(own).for_each(|(job, own)| job.push(own));
        }
        Ok(by_job)
    }

    /// The inputs of the only job, where it takes the whole run.
    fn lone<'a>(&self, jobs: &[&'a [Tensor]], run_rows: usize) -> Option<&'a [Tensor]> {
        match jobs {
            [job] if self.rows(job) >= run_rows => Some(job),
            _ => None,
        }
    }

    fn several(&self) -> &RowAxes {
        self.axes().expect("jobs of a model that does not join rows run alone")
    }

    /// How many rows of the run belong to nobody. There are none where there is no row to repeat.
    fn spare_rows(&self, jobs: &[&[Tensor]], run_rows: usize) -> usize {
        let rows: usize = jobs.iter().map(|job| self.rows(job)).sum();
        if rows == 0 { 0 } else { run_rows.saturating_sub(rows) }
    }
}

/// The last row of the last of these tensors that has any.
fn last_row<'a>(
    tensors: impl DoubleEndedIterator<Item = &'a Tensor>,
    axis: usize,
) -> Option<Tensor> {
    let with_rows = |tensor: &&Tensor| rows::count(tensor, axis).is_some_and(|rows| rows > 0);
    let tensor = tensors.rev().find(with_rows)?;
    let before = usize::try_from(rows::count(tensor, axis)? - 1).ok()?;
    rows::split(tensor, axis, &[before, 1])?.pop()
}

fn misshapen(
    spec: &TensorSpec,
    output: &Tensor,
    parts: &[Part],
    length_axis: Option<usize>,
) -> ExecuteError {
    let rows = parts.iter().map(|part| part.rows).sum::<u64>();
    let length = length_axis.map_or_else(String::new, |axis| {
        let longest = parts.iter().map(|part| part.length).max().unwrap_or_default();
        format!(" of length {longest} along axis {axis}")
    });
    ExecuteError(format!(
        "output `{}` has shape {} for {rows} rows{length}: the model does not keep rows apart",
        spec.name,
        output.shape(),
    ))
}

#[cfg(test)]
mod tests;
