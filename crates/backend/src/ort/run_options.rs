//! What a run of the engine is told, and how it is told to end.
//!
//! The engine ends a run by a mark in the options that the run was given, which it looks at
//! before each operator. A mark that was set stays, so options that were marked serve no other
//! run; all others do, one after the other. [`Run`] sees to it that no mark comes late.

use std::sync::Arc;

use ort::AsPointer as _;
use ort::session::RunOptions;
use ort::sys;

use super::message;
use super::opening::Target;
use crate::{Arena, ExecuteError, Interrupt, Run, UnderWay};

/// What every run of a session is told.
#[derive(Debug, Clone)]
pub(super) struct RunSettings {
    /// The memory that is given back after a run, in the engine's notation, if any.
    shrinking: Option<String>,
}

/// The options of a session's runs, of which there is one at a time.
pub(super) struct ReusableOptions {
    settings: RunSettings,
    /// Made for the first run. None of them was marked, unless a run is under way.
    options: Option<Arc<Marked>>,
}

/// A run of the engine that is under way.
pub(super) struct RunOfEngine<'a> {
    place: &'a mut Option<Arc<Marked>>,
    options: Arc<Marked>,
    under_way: UnderWay<'a>,
}

struct Marked(RunOptions);

impl Interrupt for Marked {
    fn interrupt(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(error = error.message(), "a run cannot be ended");
        }
    }
}

impl RunSettings {
    pub(super) fn new(target: Target, arena: Arena) -> Self {
        let devices = || match target {
            Target::Cpu => "cpu:0".to_owned(),
            Target::Cuda(number) => format!("cpu:0;gpu:{number}"),
        };
        Self { shrinking: (arena == Arena::Shrink).then(devices) }
    }

    fn options(&self) -> Result<RunOptions, ExecuteError> {
        let options = || {
            let mut options = RunOptions::new()?;
            if let Some(devices) = &self.shrinking {
                options.set("memory.enable_memory_arena_shrinkage", devices)?;
            }
            Ok(options)
        };
        options().map_err(|error: ort::Error| ExecuteError(message::clean(error.message())))
    }
}

impl ReusableOptions {
    pub(super) fn new(settings: RunSettings) -> Self {
        Self { settings, options: None }
    }

    /// Begins a run that `run` can end.
    ///
    /// # Errors
    /// The run was interrupted before, or the engine fails to make options.
    pub(super) fn begin<'a>(&'a mut self, run: &'a Run) -> Result<RunOfEngine<'a>, ExecuteError> {
        // Taken out: should this thread panic before the run has ended, nobody knows whether
        // they were marked, and they are not used again.
        let options = match self.options.take() {
            Some(options) => options,
            None => Arc::new(Marked(self.settings.options()?)),
        };
        let engine: Arc<dyn Interrupt> = Arc::clone(&options) as _;
        match run.begin(engine) {
            Ok(under_way) => Ok(RunOfEngine { place: &mut self.options, options, under_way }),
            Err(interrupted) => {
                self.options = Some(options);
                Err(interrupted.into())
            }
        }
    }
}

impl RunOfEngine<'_> {
    /// The options to run with, valid for as long as `self`.
    pub(super) fn options(&self) -> *const sys::OrtRunOptions {
        self.options.0.ptr()
    }

    /// Notes that the engine's call is over, and says whether it was told to end.
    pub(super) fn end(self) -> bool {
        let interrupted = self.under_way.end();
        if !interrupted {
            *self.place = Some(self.options);
        }
        interrupted
    }
}
