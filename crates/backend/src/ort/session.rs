//! One loaded model, and how it runs.
//!
//! Several sessions can have one loaded model between them, where it runs on the CPU: the
//! engine's sessions may be run by several threads at once, its weights are only read, and what
//! a run computes with is the run's own. Each session then has nothing of its own but the options
//! of its runs. See `docs/adr/0010-one-model-many-threads.md` for why no other device is trusted.
#![expect(unsafe_code, reason = "a run through the C API; the block says why it is sound")]

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;

use inferring_types::{Shape, Tensor, TensorSpec};
use ort::AsPointer as _;
use ort::memory::MemoryInfo;
use ort::session::Session as Engine;
use smallvec::SmallVec;

use super::destination::{Destination, Room};
use super::json;
use super::opening::{Opened, Target};
use super::run_options::{ReusableOptions, RunSettings};
use super::signature::{Output, Signature};
use super::tensor::{Input, Value, check};
use crate::{ExecuteError, Interrupted, Run, Session};

/// A loaded model with everything prepared that a run needs.
struct Loaded {
    engine: Engine,
    target: Target,
    settings: RunSettings,
    inputs: Vec<TensorSpec>,
    input_names: Vec<CString>,
    outputs: Vec<Output>,
    output_names: Vec<CString>,
    /// Of each output that can be written where the answer is to lie.
    destinations: Vec<Option<Destination>>,
    memory: MemoryInfo<'static>,
}

/// For each output the room that it is to be written into, if any.
type Rooms = SmallVec<[Option<Room>; 4]>;

impl Loaded {
    /// Rooms for the outputs of a run with these inputs.
    fn rooms(&self, inputs: &[Tensor]) -> Rooms {
        let room = |destination: &Option<Destination>| {
            destination.as_ref().and_then(|destination| destination.room(inputs, &self.memory))
        };
        self.destinations.iter().map(room).collect()
    }

    /// Gives up the destinations of these outputs: a run failed with them and succeeded without.
    /// Where some have other shapes than was declared it was those, and else any.
    fn distrust(&self, used: &[usize], inputs: &[Tensor], outputs: &[Tensor]) {
        let used = used.iter().filter_map(|&index| {
            Some((self.destinations[index].as_ref()?, outputs[index].shape(), &self.outputs[index]))
        });
        let used = used.collect::<SmallVec<[_; 4]>>();
        let is_wrong = |(destination, shape, _): &(&Destination, &Shape, &Output)| {
            !destination.foretells(inputs, shape)
        };
        let any_is_wrong = used.iter().any(is_wrong);
        for (destination, shape, output) in used {
            if !any_is_wrong || is_wrong(&(destination, shape, output)) {
                let (name, declared) = (&output.spec.name, &output.spec.shape);
                tracing::debug!(output = %name, %declared, actual = %shape, "it keeps to no declared shape");
                destination.distrust();
            }
        }
    }
}

/// A session over a loaded model.
pub(super) struct OrtSession {
    loaded: Arc<Loaded>,
    options: ReusableOptions,
}

/// A name in the form that the C API takes.
fn c_string(spec: &TensorSpec) -> CString {
    CString::new(spec.name.as_str())
        .expect("the engine gave the name as a C string, which holds no NUL")
}

impl OrtSession {
    /// A session over a loaded model of that signature.
    pub(super) fn new(opened: Opened, signature: Signature) -> Self {
        let destination = |output: &Output| match (opened.target, &output.type_as_texts) {
            (Target::Cpu, None) => Destination::of(&output.spec, &signature.inputs),
            _ => None,
        };
        Self::over(Arc::new(Loaded {
            destinations: signature.outputs.iter().map(destination).collect(),
            engine: opened.engine,
            target: opened.target,
            settings: opened.settings,
            input_names: signature.inputs.iter().map(c_string).collect(),
            inputs: signature.inputs,
            output_names: signature.outputs.iter().map(|output| c_string(&output.spec)).collect(),
            outputs: signature.outputs,
            memory: MemoryInfo::default(),
        }))
    }

    fn over(loaded: Arc<Loaded>) -> Self {
        Self { options: ReusableOptions::new(loaded.settings.clone()), loaded }
    }

    /// A run that writes every output into memory of its own.
    fn run_freely(
        &mut self,
        inputs: &[Tensor],
        values: &[Input<'_>],
        run: &Run,
    ) -> Result<Vec<Tensor>, ExecuteError> {
        let results = self.run_values(values, &Rooms::new(), run)?;
        let outputs =
            self.loaded.outputs.iter().zip(&results).map(read).collect::<Result<Vec<_>, _>>()?;
        for (destination, output) in self.loaded.destinations.iter().zip(&outputs) {
            if let Some(destination) = destination {
                destination.observe(inputs, output.shape());
            }
        }
        Ok(outputs)
    }

    /// A run that writes outputs into these rooms where they have one; `None` where it left one
    /// untouched, which will not have a room again.
    fn run_into(
        &mut self,
        rooms: Rooms,
        values: &[Input<'_>],
        run: &Run,
    ) -> Result<Option<Vec<Tensor>>, ExecuteError> {
        let results = self.run_values(values, &rooms, run)?;
        let loaded = &*self.loaded;
        let results = loaded.outputs.iter().zip(&results);
        let outputs = results.zip(rooms).zip(&loaded.destinations);
        let outputs = outputs.map(|((result, room), destination)| {
            let Some(room) = room else { return read(result).map(Some) };
            let output = room.into_tensor();
            if let (None, Some(destination)) = (&output, destination) {
                destination.distrust();
            }
            Ok(output)
        });
        outputs.collect()
    }

    /// A value for each output that has no room; `None` where an optional one is absent.
    fn run_values(
        &mut self,
        inputs: &[Input<'_>],
        rooms: &[Option<Room>],
        run: &Run,
    ) -> Result<SmallVec<[Option<Value>; 4]>, ExecuteError> {
        let loaded = &*self.loaded;
        let values = inputs.iter().map(Input::as_ptr).collect::<SmallVec<[_; 8]>>();
        let pointers =
            |names: &[CString]| names.iter().map(|n| n.as_ptr()).collect::<SmallVec<[_; 8]>>();
        let (input_names, output_names) =
            (pointers(&loaded.input_names), pointers(&loaded.output_names));
        let mut results = SmallVec::<[_; 4]>::from_elem(ptr::null_mut(), loaded.outputs.len());
        for (result, room) in results.iter_mut().zip(rooms) {
            *result = room.as_ref().map_or(ptr::null_mut(), Room::as_ptr);
        }
        let under_way = self.options.begin(run)?;
        // SAFETY: every list has the length that is passed with it (`check_inputs` compared the
        // number of inputs), and what it points at lives in `self` or `inputs` until the call is
        // over; so do the run's options. Another thread may be in the same call: only sessions on
        // the CPU are shared, which the engine says may be run by several threads, and each call
        // has values and options of its own. Results that are null on entry are made by the
        // engine and belong to us from then on; the others are the rooms', and stay theirs.
        let status = unsafe {
            check((ort::api().Run)(
                loaded.engine.ptr().cast_mut(),
                under_way.options(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                results.as_mut_ptr(),
            ))
        };
        let interrupted = under_way.end();
        // Values are taken over before the status is looked at, so that none is lost.
        let rooms = rooms.iter().map(Option::is_some).chain(std::iter::repeat(false));
        let results = results.into_iter().zip(rooms);
        let results = results
            .map(|(value, is_of_room)| (!is_of_room).then(|| Value::of_nullable(value)).flatten())
            .collect();
        match status {
            Ok(()) => Ok(results),
            // The engine has no word of its own for it.
            Err(_) if interrupted => Err(Interrupted.into()),
            Err(error) => Err(error),
        }
    }
}

/// The output that the engine gave.
fn read((output, value): (&Output, &Option<Value>)) -> Result<Tensor, ExecuteError> {
    if output.type_as_texts.is_some() {
        return json::to_texts(value.as_ref());
    }
    let missing = || ExecuteError(format!("the model gave no `{}`", output.spec.name));
    value.as_ref().ok_or_else(missing)?.to_tensor()
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        crate::check_inputs(&self.loaded.inputs, inputs)?;
        let values = inputs
            .iter()
            .map(|tensor| Input::new(tensor, &self.loaded.memory))
            .collect::<Result<SmallVec<[_; 4]>, _>>()?;
        let rooms = self.loaded.rooms(inputs);
        let used =
            rooms.iter().enumerate().filter_map(|(index, room)| room.as_ref().map(|_| index));
        let used = used.collect::<SmallVec<[usize; 4]>>();
        if used.is_empty() {
            return self.run_freely(inputs, &values, run);
        }
        match self.run_into(rooms, &values, run) {
            Ok(Some(outputs)) => Ok(outputs),
            Ok(None) => self.run_freely(inputs, &values, run),
            // Where it was not for the rooms it fails again, and in the same way. What was
            // interrupted does not begin.
            Err(_) => {
                let outputs = self.run_freely(inputs, &values, run)?;
                self.loaded.distrust(&used, inputs, &outputs);
                Ok(outputs)
            }
        }
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        let share = || Box::new(Self::over(Arc::clone(&self.loaded))) as Box<dyn Session>;
        (self.loaded.target == Target::Cpu).then(share)
    }
}

#[cfg(test)]
mod tests;
