//! Keeps the state of models between requests, for those that ask for it by a sequence's id.
//!
//! A recurrent model takes its state as an input and gives the next one as an output. A request
//! of a sequence brings the other inputs alone: the state that was kept is added, or zeros where
//! the sequence begins, and the answer's state is kept in its place. Everything in between is as
//! for any request, so rows of different sequences share runs. Answers depend on more than what
//! was sent, and are neither kept nor shared.
//!
//! Requests of one sequence take turns in the order of their arrival. The state moves on in the
//! same step in which the answer is given out: a request that fails, whose time is over or whose
//! client has left before that leaves the state as it was. See docs/adr/0014.
//!
//! What is kept belongs to the loaded version of the model and goes with it: another version's
//! numbers need not mean the same.

mod states;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use inferring_types::{
    Batching, Blame, Deadline, ErrorKind, ModelMetadata, NamedTensor, SequenceId, SequenceStep,
    ServiceError, TensorName, TensorSpec,
};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::settings::{Misfit, Serving};
use crate::system;
use states::{States, Values};
use table::{Arrival, Kept, Limits, Refused, Table};

/// A request's inputs in the model's order; where it is a step of a sequence, once its turn has
/// come, with the state that was kept for it.
///
/// # Errors
/// Those of [`ModelMetadata::arrange`] and of [`Sequences::begin`]; `InvalidArgument` for a step
/// where the model keeps no state.
pub(crate) async fn arrange(
    inputs: Vec<NamedTensor>,
    step: Option<SequenceStep>,
    model: &ModelMetadata,
    sequences: Option<&Arc<Sequences>>,
    deadline: Deadline,
) -> Result<(Vec<NamedTensor>, Option<Turn>), ServiceError> {
    let Some(step) = step else {
        return Ok((model.arrange(inputs)?, None));
    };
    let sequences = sequences.ok_or_else(|| not_kept(model))?;
    let (inputs, turn) = sequences.begin(model, step, inputs, deadline).await?;
    Ok((inputs, Some(turn)))
}

/// The sequences of one loaded version of a model.
pub(crate) struct Sequences {
    states: States,
    table: Mutex<Table<Values>>,
}

impl Sequences {
    /// None yet, of a model of these inputs and outputs; nothing where its settings name no
    /// state.
    ///
    /// # Errors
    /// [`Misfit`] where what they name cannot be a state of a known size.
    pub(crate) fn of_model(
        serving: &Serving,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        batching: &Batching,
    ) -> Result<Option<Arc<Self>>, Misfit> {
        let Some(sequences) = &serving.sequences else {
            return Ok(None);
        };
        // Also where rows are never joined: a request may have several.
        let said = serving.axes(inputs, outputs);
        let axes = said.as_ref().or(batching.axes());
        let names = sequences.states.iter().map(|state| (&*state.input, &*state.output));
        let states = States::find(names, inputs, outputs, axes)?;
        let limits = Limits {
            idle_timeout: sequences.idle_timeout,
            rows: sequences.count_max as u64,
            waiting_requests: serving.queue.queue_requests_max,
            waiting_bytes: serving.queue.queue_bytes_max.as_u64(),
        };
        Ok(Some(Arc::new(Self { states, table: Mutex::new(Table::new(limits)) })))
    }

    /// Adds the state of its sequence to a request's inputs, once it is the request's turn, and
    /// puts them in the model's order.
    ///
    /// # Errors
    /// `InvalidArgument` where the inputs do not fit the model, bring a state or have other rows
    /// than the sequence, and where the sequence is not there and does not begin; `Overloaded`
    /// where there are as many as there may be; `DeadlineExceeded` where its turn never came.
    async fn begin(
        self: &Arc<Self>,
        model: &ModelMetadata,
        step: SequenceStep,
        inputs: Vec<NamedTensor>,
        deadline: Deadline,
    ) -> Result<(Vec<NamedTensor>, Turn), ServiceError> {
        let refusal = Refusal { model, id: &step.id };
        let (mut inputs, rows) = self.complete(&refusal, inputs)?;
        let (seat, turns) = self.sit(&refusal, &step, rows, &inputs)?;
        let turn = turns.lock_owned();
        let turn = tokio::time::timeout_at(deadline.at().into(), turn)
            .await
            .map_err(|_| refusal.no_turn())?;
        let seat = seat.called();
        if !step.start {
            let table = self.table.lock();
            let kept = table.kept(&step.id).ok_or_else(|| refusal.unknown(table.limits()))?;
            if kept.rows != rows {
                return Err(refusal.other_rows(kept.rows, rows));
            }
            self.states.put(&kept.state, &mut inputs);
        }
        Ok((inputs, Turn { seat, rows, end: step.end, _turn: turn }))
    }

    /// Forgets what has been idle for too long, which every new request of a sequence does as
    /// well; says how many there still are.
    pub(crate) fn forget_idle(&self, now: Instant) -> usize {
        let mut table = self.table.lock();
        table.forget_idle(now);
        table.len()
    }

    /// A request's inputs in the model's order, with the state that a sequence begins with, and
    /// how many rows they have.
    fn complete(
        &self,
        refusal: &Refusal<'_>,
        mut inputs: Vec<NamedTensor>,
    ) -> Result<(Vec<NamedTensor>, u64), ServiceError> {
        if let Some(state) = self.states.any_of(&inputs) {
            return Err(refusal.state_given(&state.name));
        }
        let rows = self.states.rows_of(&inputs);
        // Before any memory is taken for them.
        let rows_max = self.table.lock().limits().rows;
        if rows > rows_max {
            return Err(refusal.too_many_rows(rows, rows_max));
        }
        inputs.extend(self.states.beginning(rows));
        Ok((refusal.model.arrange(inputs)?, rows))
    }

    fn sit(
        self: &Arc<Self>,
        refusal: &Refusal<'_>,
        step: &SequenceStep,
        rows: u64,
        inputs: &[NamedTensor],
    ) -> Result<(Seat, Arc<tokio::sync::Mutex<()>>), ServiceError> {
        let bytes = inputs.iter().map(|input| input.tensor.size_bytes() as u64).sum();
        let arrival = Arrival { id: &step.id, start: step.start, rows, bytes };
        let mut table = self.table.lock();
        let seated = table
            .sit(&arrival, system::now())
            .map_err(|refused| refusal.refused(&refused, table.limits()))?;
        let waits = seated.waits.then_some(bytes);
        let seat = Seat { sequences: self.clone(), id: step.id.clone(), waits };
        Ok((seat, seated.turns))
    }
}

/// A request's turn in its sequence. The next one's comes when this is dropped.
pub(crate) struct Turn {
    seat: Seat,
    rows: u64,
    end: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Turn {
    /// Keeps the state of the model's whole answer, and gives the outputs that are asked for, or
    /// where none is, all but the state. The answer counts as given from here on.
    ///
    /// # Errors
    /// `Internal` where the model gave something else as its state than it takes. What was kept
    /// stays.
    pub(crate) fn advance(
        self,
        outputs: &[NamedTensor],
        asked: &[TensorName],
    ) -> Result<Arc<[NamedTensor]>, ServiceError> {
        let Seat { sequences, id, .. } = &self.seat;
        let states = &sequences.states;
        let state = states.take(outputs, self.rows)?;
        let is_asked = |place: usize, output: &NamedTensor| {
            asked.contains(&output.name) || (asked.is_empty() && !states.gives(place))
        };
        let given = outputs.iter().enumerate().filter(|(place, output)| is_asked(*place, output));
        let given = given.map(|(_, output)| output.clone()).collect();
        let kept = (!self.end).then_some(Kept { rows: self.rows, state });
        sequences.table.lock().keep(id, kept);
        Ok(given)
    }
}

/// A request's place in the table, given back when this is dropped.
struct Seat {
    sequences: Arc<Sequences>,
    id: SequenceId,
    /// The bytes of its inputs while it waits behind others.
    waits: Option<u64>,
}

impl Seat {
    /// Its turn has come.
    fn called(mut self) -> Self {
        if let Some(bytes) = self.waits.take() {
            self.sequences.table.lock().call(bytes);
        }
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.sequences.table.lock();
        if let Some(bytes) = self.waits {
            table.call(bytes);
        }
        table.leave(&self.id, system::now());
    }
}

fn not_kept(model: &ModelMetadata) -> ServiceError {
    ServiceError::invalid(format!(
        "model `{}` keeps no state between requests: leave `sequence_id` out and send all inputs; \
         an operator has state kept by `[[sequences.state]]` in the model's config.toml",
        model.name,
    ))
}

/// What is said to a request that is not let in.
struct Refusal<'a> {
    model: &'a ModelMetadata,
    id: &'a SequenceId,
}

impl Refusal<'_> {
    fn refused(&self, refused: &Refused, limits: &Limits) -> ServiceError {
        // Not worth trying on another worker: what begins there does not go on here.
        let overloaded = |message| ServiceError::new(ErrorKind::Overloaded, Blame::Server, message);
        match refused {
            Refused::Unknown => self.unknown(limits),
            Refused::Full { retry_after } => {
                let error = overloaded(format!(
                    "sequence `{}` cannot begin: model `{}` keeps the state of {} and no \
                     more; a sequence makes room when it ends",
                    self.id,
                    self.model.name,
                    counted(limits.rows),
                ));
                retry_after.map_or(error.clone(), |time| error.retry_after(time))
            }
            Refused::Crowded => overloaded(format!(
                "too many requests of model `{}` wait for earlier ones of their sequences: wait \
                 for an answer before the next request",
                self.model.name,
            )),
        }
    }

    fn unknown(&self, limits: &Limits) -> ServiceError {
        ServiceError::invalid(format!(
            "model `{}` knows no sequence `{}`: begin it with `sequence_start`; one is forgotten \
             when it ends, after {:?} without a request, and when the model is loaded anew",
            self.model.name, self.id, limits.idle_timeout,
        ))
        // It may have begun at another worker.
        .retryable()
    }

    fn state_given(&self, state: &TensorName) -> ServiceError {
        ServiceError::invalid(format!(
            "input `{state}` of model `{}` is kept for sequence `{}`: leave it out, or leave \
             `sequence_id` out and keep it yourself",
            self.model.name, self.id,
        ))
    }

    fn other_rows(&self, kept: u64, given: u64) -> ServiceError {
        ServiceError::invalid(format!(
            "sequence `{}` of model `{}` began with {kept} and goes on with as many; the request \
             has {given}",
            self.id,
            self.model.name,
            kept = counted(kept),
        ))
    }

    fn too_many_rows(&self, given: u64, limit: u64) -> ServiceError {
        ServiceError::invalid(format!(
            "a request of sequence `{}` has {given}: sequences of model `{}` have {limit} \
             together at most",
            self.id,
            self.model.name,
            given = counted(given),
        ))
    }

    fn no_turn(&self) -> ServiceError {
        ServiceError::deadline_exceeded(format!(
            "the deadline passed before the earlier requests of sequence `{}` were answered",
            self.id,
        ))
    }
}

fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}
