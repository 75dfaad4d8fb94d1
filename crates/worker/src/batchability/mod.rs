//! Proves, when a model is loaded, whether rows of different requests may share a run.
//!
//! A dynamic first dimension alone proves nothing: it may be time, or the model may subtract
//! the mean over it. So rows are generated, run apart and run together in several orders and
//! numbers, and every answer must be the same. Where that cannot be shown, every request runs
//! alone, which is slower and never wrong.
//!
//! Rows lie along the first axis of every tensor unless a model's settings say otherwise: the
//! state of a recurrent model may have them on its second axis, and a scalar has none.

mod likeness;
mod samples;
mod trial;

use std::time::Duration;

use inferring_backend::Session;
use inferring_types::{Batching, Dimension, RowAxes, Tensor, TensorSpec};

use crate::config::BatchingMode;
use trial::{Budget, Trial};

/// What was found out about a model.
#[derive(Debug)]
pub struct Proof {
    /// Whether rows may share a run, and how that is known.
    pub batching: Batching,
    /// One row of inputs that the model ran, where any was found.
    pub known_good: Option<Vec<Tensor>>,
}

/// How long the check may take. A run that takes longer by itself is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a model on generated rows and compares rows apart with rows together.
pub fn prove(session: &mut dyn Session, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Proof {
    let (mode, axes) = (BatchingMode::Auto, None);
    Question { inputs, outputs, mode, axes, examples: &[], patience: PATIENCE }.answer(session)
}

/// A model, and what its settings say about its rows.
pub(crate) struct Question<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    pub(crate) outputs: &'a [TensorSpec],
    /// Whether rows are joined.
    pub(crate) mode: BatchingMode,
    /// Where rows lie; along every first axis where nothing is said.
    pub(crate) axes: Option<RowAxes>,
    /// Inputs, in declared order, that the model is said to run: what is generated is like them,
    /// and has their values where an input has no rows.
    pub(crate) examples: &'a [Vec<Tensor>],
    /// How long the check may take.
    pub(crate) patience: Duration,
}

impl Question<'_> {
    /// Whether rows may share a run. The model is run at least once, to find inputs that it
    /// runs.
    pub(crate) fn answer(&self, session: &mut dyn Session) -> Proof {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let axes = self.axes.clone();
        let axes = axes.unwrap_or_else(|| RowAxes::first(inputs.len(), outputs.len()));
        let budget = Budget::new(self.patience);
        let alone = |session: &mut dyn Session, reason: String| Proof {
            batching: Batching::Alone { reason },
            known_good: self.known_good(session, &axes, &budget),
        };
        match self.mode {
            BatchingMode::Alone => return alone(session, DECLARED.to_owned()),
            BatchingMode::Rows => {
                if let Some(reason) = self.not_dynamic(&axes) {
                    return alone(session, reason);
                }
                let known_good = self.known_good(session, &axes, &budget);
                let batching = Batching::Rows { reason: DECLARED.to_owned(), axes };
                return Proof { batching, known_good };
            }
            BatchingMode::Auto => {}
        }
        if let Some(reason) = self.not_dynamic(&axes).or_else(|| self.first_dimensions_differ()) {
            return alone(session, reason);
        }
        let trial = match Trial::find(session, self, &axes, trial::ROWS, &budget) {
            Ok(trial) => trial,
            Err(error) => {
                let reason =
                    format!("not proved: the model ran none of the generated inputs ({error})");
                return Proof { batching: Batching::Alone { reason }, known_good: None };
            }
        };
        let batching = match trial.compare(session, &axes, &budget) {
            Ok(()) => Batching::Rows { reason: PROVED.to_owned(), axes },
            Err(reason) => Batching::Alone { reason },
        };
        Proof { batching, known_good: trial.into_first_row() }
    }

    fn known_good(
        &self,
        session: &mut dyn Session,
        axes: &RowAxes,
        budget: &Budget,
    ) -> Option<Vec<Tensor>> {
        Trial::find(session, self, axes, 1, budget).ok()?.into_first_row()
    }

    /// Why the declared shapes speak against joining along `axes`, if they do.
    fn not_dynamic(&self, axes: &RowAxes) -> Option<String> {
        let mut specs =
            self.inputs.iter().zip(&axes.inputs).chain(self.outputs.iter().zip(&axes.outputs));
        let fixed = specs.find_map(|(spec, axis)| {
            let axis = (*axis)?;
            let dimension = spec.shape.dimensions().get(axis);
            (!matches!(dimension, Some(Dimension::Dynamic(_)))).then_some((spec, axis))
        });
        if let Some((spec, axis)) = fixed {
            let which = if axis == 0 { "first dimension".into() } else { format!("axis {axis}") };
            let shape = &spec.shape;
            return Some(format!("`{}` has shape {shape}: its {which} is not dynamic", spec.name));
        }
        axes.inputs.iter().all(Option::is_none).then(|| "no input has rows".to_owned())
    }

    /// Requests that share runs must have equally many rows in all inputs, so a model that says
    /// that its inputs may differ there must not be held to that, unless its settings do.
    fn first_dimensions_differ(&self) -> Option<String> {
        if self.axes.is_some() {
            return None;
        }
        let mut named =
            self.inputs.iter().filter_map(|spec| match spec.shape.dimensions().first() {
                Some(Dimension::Dynamic(Some(symbol))) => Some((spec, symbol)),
                _ => None,
            });
        let (first, symbol) = named.next()?;
        let (other, _) = named.find(|(_, other)| *other != symbol)?;
        Some(format!(
            "`{}` has shape {} and `{}` {}: their first dimensions may differ",
            first.name, first.shape, other.name, other.shape,
        ))
    }
}

const DECLARED: &str = "declared in the configuration";
const PROVED: &str = "proved at load: rows together gave the same answers as rows apart";

#[cfg(test)]
mod tests {
    use inferring_backend::{ExecuteError, Run};
    use inferring_types::{DataType, ShapeSpec};

    use super::*;

    /// Doubles what it is given, and counts its runs.
    struct Doubling {
        runs: usize,
    }

    impl Session for Doubling {
        fn run(&mut self, inputs: &[Tensor], _: &Run) -> Result<Vec<Tensor>, ExecuteError> {
            self.runs += 1;
            let doubled: Vec<f32> = inputs[0].to_f32().unwrap().iter().map(|x| 2.0 * x).collect();
            Ok(vec![Tensor::from_f32(inputs[0].shape().clone(), &doubled).unwrap()])
        }
    }

    fn answer(mode: BatchingMode, patience: Duration) -> (Proof, usize) {
        let shape = ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(2)]);
        let specs = [TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape }];
        let mut session = Doubling { runs: 0 };
        let question =
            Question { inputs: &specs, outputs: &specs, mode, axes: None, examples: &[], patience };
        (question.answer(&mut session), session.runs)
    }

    /// However slow a model is, one run of it is awaited: it tells bad inputs from a broken
    /// session later.
    #[test]
    fn a_check_that_runs_out_of_time_proves_nothing_and_knows_a_good_input() {
        let (proof, runs) = answer(BatchingMode::Auto, Duration::ZERO);
        assert_eq!(proof.batching.reason(), "not proved: the check takes longer than 0ns");
        assert!(!proof.batching.joins_rows());
        assert_eq!(proof.known_good.unwrap().len(), 1);
        assert_eq!(runs, 1);
        let (proof, runs) = answer(BatchingMode::Auto, PATIENCE);
        assert!(proof.batching.joins_rows() && runs > 4, "{proof:?}");
    }

    #[test]
    fn what_is_declared_takes_one_run() {
        for mode in [BatchingMode::Rows, BatchingMode::Alone] {
            let (proof, runs) = answer(mode, Duration::ZERO);
            assert_eq!(proof.batching.joins_rows(), mode == BatchingMode::Rows);
            assert!(proof.known_good.is_some());
            assert_eq!(runs, 1);
        }
    }
}
