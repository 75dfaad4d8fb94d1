//! Proves, when a model is loaded, whether rows of different requests may share a run.
//!
//! A dynamic first dimension alone proves nothing: it may be time, or the model may subtract
//! the mean over it. So rows are generated, run apart and run together in several orders and
//! numbers, and every answer must be the same. Where that cannot be shown, every request runs
//! alone, which is slower and never wrong.
//!
//! Rows lie along the first axis of every tensor unless a model's settings say otherwise: the
//! state of a recurrent model may have them on its second axis, and a scalar has none.
//!
//! Whether rows of different length may share a run is found out in the same way, for inputs that
//! the settings say are filled up.

mod likeness;
mod samples;
mod trial;

use std::time::Duration;

use inferring_backend::{ExecuteError, Run, Session};
use inferring_repository::ModelSettings;
use inferring_types::{Batching, Dimension, RowAxes, Tensor, TensorSpec};

use crate::assembly::{Assembly, Padding};
use crate::config::{BatchingMode, WorkerConfig};
use crate::settings::{Misfit, Serving};
use samples::Domain;
use trial::{Budget, Doubt, ROWS, Search, Trial};

/// What was found out about a model.
#[derive(Debug)]
pub struct Proof {
    /// Whether rows may share a run, and how that is known.
    pub batching: Batching,
    /// Inputs that the model ran, where any were found: one row, or as many as every run has.
    pub known_good: Option<Vec<Tensor>>,
    /// What is done about rows of different length; nothing where they do not share runs.
    padding: Padding,
}

impl Proof {
    /// How requests for the model are joined.
    pub(crate) fn assembly(&self) -> Assembly {
        match self.batching.axes() {
            Some(axes) => Assembly::of_rows(axes.clone(), self.padding.clone()),
            None => Assembly::alone(),
        }
    }
}

/// How long the check may take. A run that takes longer by itself is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a model on generated rows and compares rows apart with rows together.
pub fn prove(session: &mut dyn Session, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Proof {
    let (mode, axes, padding) = (BatchingMode::Auto, None, Padding::none());
    let (run_rows, examples, patience) = (1, &[][..], PATIENCE);
    Question { inputs, outputs, mode, axes, padding, run_rows, examples, patience }.answer(session)
}

/// The same for a model with settings of its own in a worker of that configuration.
///
/// # Errors
/// [`Misfit`] where the settings and the model contradict each other.
pub fn prove_by(
    settings: &ModelSettings,
    config: &WorkerConfig,
    session: &mut dyn Session,
    (inputs, outputs): (&[TensorSpec], &[TensorSpec]),
) -> Result<Proof, Misfit> {
    let serving = Serving::new(settings, config)?;
    let (inputs, outputs) = serving.describe(inputs, outputs)?;
    Ok(Question::of(&serving, &inputs, &outputs, &[])?.answer(session))
}

/// A model, and what its settings say about its rows.
pub(crate) struct Question<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    pub(crate) outputs: &'a [TensorSpec],
    /// Whether rows are joined.
    pub(crate) mode: BatchingMode,
    /// Where rows lie; along every first axis where nothing is said.
    pub(crate) axes: Option<RowAxes>,
    /// Which inputs are filled up where they differ in length.
    pub(crate) padding: Padding,
    /// How many rows a run has at least.
    pub(crate) run_rows: usize,
    /// Inputs, in declared order, that the model is said to run: what is generated is like them,
    /// and has their values where an input has no rows.
    pub(crate) examples: &'a [Vec<Tensor>],
    /// How long the check may take.
    pub(crate) patience: Duration,
}

impl<'a> Question<'a> {
    /// The question about a model of these inputs and outputs that is to be served so.
    ///
    /// # Errors
    /// [`Misfit`] where the settings and the model contradict each other.
    pub(crate) fn of(
        serving: &Serving,
        inputs: &'a [TensorSpec],
        outputs: &'a [TensorSpec],
        examples: &'a [Vec<Tensor>],
    ) -> Result<Self, Misfit> {
        Ok(Self {
            inputs,
            outputs,
            mode: serving.queue.mode,
            axes: serving.axes(inputs, outputs),
            padding: serving.padding(inputs, outputs)?,
            run_rows: serving.allowed_sizes.first().copied().unwrap_or(1),
            examples,
            patience: PATIENCE,
        })
    }

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
            padding: Padding::none(),
        };
        match self.mode {
            BatchingMode::Alone => return alone(session, DECLARED.to_owned()),
            BatchingMode::Rows => {
                if let Some(reason) = self.not_dynamic(&axes) {
                    return alone(session, reason);
                }
                let assembly = Assembly::of_rows(axes.clone(), Padding::none());
                let (run_rows, assembly) = (self.run_rows, &assembly);
                let row =
                    self.known_good(&mut Filled { session, assembly, run_rows }, &axes, &budget);
                let known_good = row.map(|row| assembly.join(&[&row], run_rows));
                let batching = Batching::Rows { reason: DECLARED.to_owned(), axes };
                return Proof { batching, known_good, padding: self.padding.clone() };
            }
            BatchingMode::Auto => {}
        }
        if let Some(reason) = self.not_dynamic(&axes).or_else(|| self.first_dimensions_differ()) {
            return alone(session, reason);
        }
        let search = Search { question: self, axes: &axes, padding: &Padding::none(), count: ROWS };
        // Wide numbers tell rows apart best.
        let domains = [Domain::Wide, Domain::Narrow];
        let trial = match Trial::find(session, search, &domains, &budget) {
            Ok(trial) => trial,
            Err(error) => {
                let reason = format!("not proved: {}", Doubt::NothingRan(error));
                let (batching, padding) = (Batching::Alone { reason }, Padding::none());
                return Proof { batching, known_good: None, padding };
            }
        };
        let assembly = Assembly::of_rows(axes.clone(), Padding::none());
        let (batching, padding) = match trial.compare(session, &assembly, outputs, &budget) {
            Ok(()) => {
                let (reason, padding) = self.with_padding(session, &axes, &budget);
                (Batching::Rows { reason, axes }, padding)
            }
            Err(doubt) => {
                let reason = match doubt {
                    Doubt::OtherAnswers | Doubt::OtherShape { .. } => {
                        format!("rows influence each other: {doubt}")
                    }
                    _ => format!("not proved: {doubt}"),
                };
                (Batching::Alone { reason }, Padding::none())
            }
        };
        Proof { batching, known_good: trial.into_first_row(), padding }
    }

    /// What is done about rows of different length, where rows share runs, and the reason for
    /// both.
    fn with_padding(
        &self,
        session: &mut dyn Session,
        axes: &RowAxes,
        budget: &Budget,
    ) -> (String, Padding) {
        if !self.padding.is_any() {
            return (PROVED.to_owned(), Padding::none());
        }
        match self.prove_padding(session, axes, budget) {
            Ok(()) => {
                let reason = format!("{PROVED}, and as well where their lengths differ");
                (reason, self.padding.clone())
            }
            Err(doubt) => {
                let reason = match doubt {
                    Doubt::OtherAnswers => format!("not true of rows of different length: {doubt}"),
                    Doubt::OtherShape { .. } => format!(
                        "not true of rows of different length: {doubt}; \
                         its `padded_axis` may not be named"
                    ),
                    _ => format!("not proved of rows of different length: {doubt}"),
                };
                (format!("{PROVED}; {reason}"), Padding::none())
            }
        }
    }

    /// Whether rows that are filled up to the longest of a run are answered as they are apart.
    /// Of the numbers that are made up, all that the model runs must show it: some are no sense
    /// to it, and may hide what others show.
    fn prove_padding(
        &self,
        session: &mut dyn Session,
        axes: &RowAxes,
        budget: &Budget,
    ) -> Result<(), Doubt> {
        let assembly = Assembly::of_rows(axes.clone(), self.padding.clone());
        let search = Search { question: self, axes, padding: &self.padding, count: ROWS };
        let (mut is_shown, mut lacking) = (false, None);
        for domain in [Domain::Wide, Domain::Narrow] {
            let doubt = match Trial::find(session, search, &[domain], budget) {
                Err(error) => Doubt::NothingRan(error),
                Ok(trial) => match trial.compare(session, &assembly, self.outputs, budget) {
                    Ok(()) => {
                        is_shown = true;
                        continue;
                    }
                    Err(doubt @ (Doubt::NothingRan(_) | Doubt::EqualAnswers)) => doubt,
                    Err(doubt) => return Err(doubt),
                },
            };
            lacking = Some(doubt);
        }
        match lacking {
            Some(doubt) if !is_shown => Err(doubt),
            _ => Ok(()),
        }
    }

    fn known_good(
        &self,
        session: &mut dyn Session,
        axes: &RowAxes,
        budget: &Budget,
    ) -> Option<Vec<Tensor>> {
        let search = Search { question: self, axes, padding: &Padding::none(), count: 1 };
        // There is nothing to tell a lone row from, and to some models whole numbers are sizes:
        // large ones would cost much time and memory.
        let domains = [Domain::Narrow, Domain::Wide];
        Trial::find(session, search, &domains, budget).ok()?.into_first_row()
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

/// A session that is given fewer rows than its runs have.
struct Filled<'a> {
    session: &'a mut dyn Session,
    assembly: &'a Assembly,
    run_rows: usize,
}

impl Session for Filled<'_> {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        self.session.run(&self.assembly.join(&[inputs], self.run_rows), run)
    }
}

const DECLARED: &str = "declared in the configuration";
const PROVED: &str = "proved at load: rows together gave the same answers as rows apart";

#[cfg(test)]
mod tests;
