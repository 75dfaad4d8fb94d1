//! How requests become one run, and a run's outputs answers again.
//!
//! Which requests may share a run is told by their [`LaneKey`]; those of one key are joined row
//! by row. An input without rows is the same for all of them, which the key sees to; an output
//! without rows is everybody's.

mod key;
mod padding;

use inferring_backend::ExecuteError;
use inferring_types::{RowAxes, Tensor, TensorSpec};

pub(crate) use key::LaneKey;
pub(crate) use padding::Padding;

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

    /// What a job of these inputs has in common with all that it may share a run with. Where
    /// requests run alone it is the same for all, so that they wait in one line.
    pub(crate) fn key(&self, inputs: &[Tensor]) -> LaneKey {
        self.axes().map_or_else(LaneKey::default, |axes| LaneKey::of_rows(inputs, axes))
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

    /// Bytes of one row of these inputs, those without rows included.
    pub(crate) fn row_bytes(&self, inputs: &[Tensor]) -> u64 {
        let rows = self.rows(inputs).max(1) as u64;
        let bytes = |(place, input): (usize, &Tensor)| {
            let bytes = input.data().len() as u64;
            let has_rows = self.axes().is_some_and(|axes| axes.inputs[place].is_some());
            if has_rows { bytes / rows } else { bytes }
        };
        inputs.iter().enumerate().map(bytes).sum()
    }

    /// The inputs of a run of these jobs, which are of one lane and at least one, with
    /// `run_rows` rows: where the jobs have fewer, their last row is repeated. The inputs of a
    /// lone job that takes the whole run are its own, shared and not copied.
    pub(crate) fn join(&self, jobs: &[&[Tensor]], run_rows: usize) -> Vec<Tensor> {
        if let Some(lone) = self.lone(jobs, run_rows) {
            return lone.to_vec();
        }
        let axes = self.several();
        let spare = self.spare_rows(jobs, run_rows);
        let join = |(place, axis): (usize, &Option<usize>)| {
            let tensors = jobs.iter().map(|job| &job[place]);
            match axis {
                Some(axis) if spare > 0 => {
                    let last = last_row(tensors.clone(), *axis);
                    let repeated = last.iter().flat_map(|row| std::iter::repeat_n(row, spare));
                    rows::join(tensors.chain(repeated), *axis)
                }
                Some(axis) => rows::join(tensors, *axis),
                None => jobs[0][place].clone(),
            }
        };
        axes.inputs.iter().enumerate().map(join).collect()
    }

    /// For each job that was joined by [`Assembly::join`], its part of every output; `outputs`
    /// and `specs` are in the model's order.
    ///
    /// # Errors
    /// An output has not one row for each row of the inputs, so that nobody can say whose they
    /// are. This never befalls a lone job that takes the whole run: all outputs are its own,
    /// whatever their shape.
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
        let mut counts: Vec<usize> = jobs.iter().map(|job| self.rows(job)).collect();
        counts.push(self.spare_rows(jobs, run_rows));
        let mut by_job: Vec<_> = jobs.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
        for ((output, axis), spec) in outputs.into_iter().zip(&self.several().outputs).zip(specs) {
            let parts = match axis {
                Some(axis) => rows::split(&output, *axis, &counts)
                    .ok_or_else(|| wrong_rows(spec, &output, &counts))?,
                None => vec![output; jobs.len()],
            };
            by_job.iter_mut().zip(parts).for_each(|(job, part)| job.push(part));
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

fn wrong_rows(spec: &TensorSpec, output: &Tensor, rows: &[usize]) -> ExecuteError {
    ExecuteError(format!(
        "output `{}` has shape {} for {} rows: the model does not keep rows apart",
        spec.name,
        output.shape(),
        rows.iter().sum::<usize>(),
    ))
}

#[cfg(test)]
mod tests;
