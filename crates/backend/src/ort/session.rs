//! One loaded model, and how it runs.
#![expect(unsafe_code, reason = "a run through the C API; the block says why it is sound")]

use std::any::Any;
use std::ffi::CString;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use inferring_types::{Tensor, TensorSpec};
use ort::AsPointer as _;
use ort::ep::{CPU, CUDA, cuda::ConvAlgorithmSearch};
use ort::memory::MemoryInfo;
use ort::session::Session as Engine;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use smallvec::SmallVec;

use super::environment::{Runtime, Settings};
use super::run_options::{ReusableOptions, RunSettings};
use super::signature::{Output, Signature};
use super::tensor::{Input, Value, check};
use super::{json, message};
use crate::{
    Arena, ExecuteError, ExecutionMode, GraphOptimization, Interrupted, LoadOptions, Run, Session,
};

/// Where a model's bytes come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file. Weights that it keeps in files beside it are found through its path.
    File(&'a Path),
    /// Bytes that hold everything.
    Bytes(&'a [u8]),
}

/// The device that a session is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Cpu,
    /// The CUDA device of that number.
    Cuda(u32),
}

/// A model that the engine has loaded.
pub(super) struct Opened {
    pub(super) engine: Engine,
    /// What each run is told.
    settings: RunSettings,
}

/// Makes a session, and fails where the target cannot be used.
///
/// # Errors
/// The engine's reason.
pub(super) fn open(
    runtime: &Runtime,
    source: Source<'_>,
    target: Target,
    options: &LoadOptions,
) -> Result<Opened, String> {
    let open = || open_unguarded(runtime, source, target, options);
    let opened = catch_unwind(AssertUnwindSafe(open));
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(message::clean(error.message())),
        // The binding takes for unreachable what a model can declare, such as a sequence of
        // optional values; a model file must not end the process.
        Err(panic) => Err(format!("the engine's binding cannot read it: {}", words_of(&*panic))),
    }
}

fn open_unguarded(
    runtime: &Runtime,
    source: Source<'_>,
    target: Target,
    options: &LoadOptions,
) -> Result<Opened, ort::Error> {
    let builder = configure(Engine::builder(&runtime.environment)?, &runtime.settings, options)?;
    let mut builder = match target {
        // Left alone, the binding asks for the most efficient device that the library knows.
        Target::Cpu => builder.with_auto_device(AutoDevicePolicy::PreferCPU)?,
        Target::Cuda(device) => {
            let cuda = CUDA::default()
                .with_device_id(i32::try_from(device).unwrap_or(i32::MAX))
                // The engine's default measures every algorithm anew for each input shape it
                // meets; batches come in all sizes, and each would stall behind that.
                .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
            builder.with_execution_providers([cuda.build().error_on_failure()])?
        }
    };
    let engine = match source {
        Source::File(path) => builder.commit_from_file(path),
        Source::Bytes(bytes) => builder.commit_from_memory(bytes),
    }?;
    Ok(Opened { engine, settings: RunSettings::new(target, options.arena) })
}

/// A builder with the options that hold for every device.
fn configure(
    builder: SessionBuilder,
    settings: &Settings,
    options: &LoadOptions,
) -> Result<SessionBuilder, ort::Error> {
    let mut builder = builder.with_optimization_level(match options.optimization {
        GraphOptimization::Disable => GraphOptimizationLevel::Disable,
        GraphOptimization::Basic => GraphOptimizationLevel::Level1,
        GraphOptimization::Extended => GraphOptimizationLevel::Level2,
        GraphOptimization::All => GraphOptimizationLevel::All,
    })?;
    if options.needs_own_threads() {
        let threads = options.intra_op_threads.unwrap_or(settings.intra_op_threads);
        builder = builder
            .with_independent_thread_pool()?
            .with_intra_threads(threads.get())?
            .with_intra_op_spinning(settings.spinning)?
            .with_inter_op_spinning(settings.spinning)?;
    }
    if options.execution_mode == ExecutionMode::Parallel {
        builder = builder
            .with_parallel_execution(true)?
            // 0 is the engine's word for its own choice.
            .with_inter_threads(options.inter_op_threads.map_or(0, NonZeroUsize::get))?;
    }
    if options.arena == Arena::Off {
        let cpu = CPU::default().with_arena_allocator(false);
        builder = builder.with_execution_providers([cpu.build()])?;
    }
    Ok(builder)
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// A session with everything prepared that a run needs.
pub(super) struct OrtSession {
    engine: Engine,
    inputs: Vec<TensorSpec>,
    input_names: Vec<CString>,
    outputs: Vec<Output>,
    output_names: Vec<CString>,
    memory: MemoryInfo<'static>,
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
        Self {
            engine: opened.engine,
            input_names: signature.inputs.iter().map(c_string).collect(),
            inputs: signature.inputs,
            output_names: signature.outputs.iter().map(|output| c_string(&output.spec)).collect(),
            outputs: signature.outputs,
            memory: MemoryInfo::default(),
            options: ReusableOptions::new(opened.settings),
        }
    }

    /// A value for each output; `None` where an optional one is absent.
    fn run_values(
        &mut self,
        inputs: &[Input<'_>],
        run: &Run,
    ) -> Result<SmallVec<[Option<Value>; 4]>, ExecuteError> {
        let values = inputs.iter().map(Input::as_ptr).collect::<SmallVec<[_; 8]>>();
        let pointers =
            |names: &[CString]| names.iter().map(|n| n.as_ptr()).collect::<SmallVec<[_; 8]>>();
        let (input_names, output_names) =
            (pointers(&self.input_names), pointers(&self.output_names));
        let mut results = SmallVec::<[_; 4]>::from_elem(ptr::null_mut(), self.outputs.len());
        let under_way = self.options.begin(run)?;
        // SAFETY: every list has the length that is passed with it (`check_inputs` compared the
        // number of inputs), and what it points at lives in `self` or `inputs` until the call is
        // over; so do the run's options. `&mut self` makes this the session's only run. Results
        // are null on entry, so the engine makes them; each belongs to us from then on.
        let status = unsafe {
            check((ort::api().Run)(
                self.engine.ptr().cast_mut(),
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
        crate::check_inputs(&self.inputs, inputs)?;
        let values = inputs
            .iter()
            .map(|tensor| Input::new(tensor, &self.memory))
            .collect::<Result<SmallVec<[_; 4]>, _>>()?;
        let results = self.run_values(&values, run)?;
        let outputs = self.outputs.iter().zip(&results).map(|(output, value)| {
            if output.type_as_texts.is_some() {
                return json::to_texts(value.as_ref());
            }
            let missing = || ExecuteError(format!("the model gave no `{}`", output.spec.name));
            value.as_ref().ok_or_else(missing)?.to_tensor()
        });
        outputs.collect()
    }
}
