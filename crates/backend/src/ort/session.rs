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

use inferring_types::{Tensor, TensorSpec};
use ort::AsPointer as _;
use ort::memory::MemoryInfo;
use ort::session::Session as Engine;
use smallvec::SmallVec;

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
    memory: MemoryInfo<'static>,
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
        Self::over(Arc::new(Loaded {
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

    /// A value for each output; `None` where an optional one is absent.
    fn run_values(
        &mut self,
        inputs: &[Input<'_>],
        run: &Run,
    ) -> Result<SmallVec<[Option<Value>; 4]>, ExecuteError> {
        let loaded = &*self.loaded;
        let values = inputs.iter().map(Input::as_ptr).collect::<SmallVec<[_; 8]>>();
        let pointers =
            |names: &[CString]| names.iter().map(|n| n.as_ptr()).collect::<SmallVec<[_; 8]>>();
        let (input_names, output_names) =
            (pointers(&loaded.input_names), pointers(&loaded.output_names));
        let mut results = SmallVec::<[_; 4]>::from_elem(ptr::null_mut(), loaded.outputs.len());
        let under_way = self.options.begin(run)?;
        // SAFETY: every list has the length that is passed with it (`check_inputs` compared the
        // number of inputs), and what it points at lives in `self` or `inputs` until the call is
        // over; so do the run's options. Another thread may be in the same call: only sessions on
        // the CPU are shared, which the engine says may be run by several threads, and each call
        // has values and options of its own. Results are null on entry, so the engine makes
        // them; each belongs to us from then on.
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
        let results = results.into_iter().map(Value::of_nullable).collect();
        match status {
            Ok(()) => Ok(results),
            // The engine has no word of its own for it.
            Err(_) if interrupted => Err(Interrupted.into()),
            Err(error) => Err(error),
        }
    }
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        crate::check_inputs(&self.loaded.inputs, inputs)?;
        let values = inputs
            .iter()
            .map(|tensor| Input::new(tensor, &self.loaded.memory))
            .collect::<Result<SmallVec<[_; 4]>, _>>()?;
        let results = self.run_values(&values, run)?;
        let outputs = self.loaded.outputs.iter().zip(&results).map(|(output, value)| {
            if output.type_as_texts.is_some() {
                return json::to_texts(value.as_ref());
            }
            let missing = || ExecuteError(format!("the model gave no `{}`", output.spec.name));
            value.as_ref().ok_or_else(missing)?.to_tensor()
        });
        outputs.collect()
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        let share = || Box::new(Self::over(Arc::clone(&self.loaded))) as Box<dyn Session>;
        (self.loaded.target == Target::Cpu).then(share)
    }
}
