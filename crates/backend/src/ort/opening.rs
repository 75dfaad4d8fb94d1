//! How the engine opens a model.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ort::ep::{CPU, CUDA, cuda::ConvAlgorithmSearch};
use ort::session::Session as Engine;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};

use super::environment::{Runtime, Settings};
use super::message;
use super::run_options::RunSettings;
use crate::{Arena, ExecutionMode, GraphOptimization, LoadOptions};

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
    /// Where it runs.
    pub(super) target: Target,
    /// What each run is told.
    pub(super) settings: RunSettings,
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
    Ok(Opened { engine, target, settings: RunSettings::new(target, options.arena) })
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
        if let Some(cores) = options.pinning.of_pool(threads) {
            builder = builder.with_config_entry("session.intra_op_thread_affinities", cores)?;
        }
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
