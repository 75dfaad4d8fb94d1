//! Executes models.
//!
//! [`Backend`] and [`Session`] are the seam: the worker batches and caches over them and never
//! names the engine behind. [`ort`](mod@ort) is ONNX Runtime; [`fake`] is an engine for tests
//! that counts its runs and can be held, delayed and made to fail. A [`Run`] is what others hold
//! of a run that blocks a thread: with it they end it.
//!
//! # What isolates models from each other
//! A run that fails, panics or is ended concerns nobody but those who wait for it. A crash does: the
//! engine is native code in this process, and an operator that writes where it must not, or a model
//! that takes the last of the memory, ends the process with all its models and requests. There is
//! no boundary within a process. A worker is one process: what must not fall with a model that is
//! not trusted is served by another worker, and the gateway in front of both is a process of its
//! own that sends a dead worker's requests elsewhere.

mod cores;
mod device;
pub mod fake;
mod options;
pub mod ort;
mod run;
mod sync;

use std::path::{Path, PathBuf};

use inferring_types::{BackendStatus, ContentDigest, DeviceStatus, Tensor, TensorSpec};

pub use self::cores::{Cores, Pinning, pin_current_thread};
pub use self::device::{Device, UnknownDevice};
pub use self::options::{Arena, ExecutionMode, GraphOptimization, LoadOptions};
pub use self::run::{Interrupt, Interrupted, Run, UnderWay};

/// An execution engine.
pub trait Backend: Send + Sync {
    /// Name, version and where its library was found.
    fn status(&self) -> BackendStatus;

    /// Loads a model file into a new session of its own.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and what is wrong with it.
    fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError>;

    /// Gives memory that dropped sessions have freed back to the system. It takes milliseconds
    /// and is worth them after models were unloaded, never after a run.
    fn trim(&self) {}
}

/// A model, ready to run.
pub struct LoadedModel {
    /// Declared inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Declared outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// Digest of the model file's bytes, and of those of the files that its weights lie in.
    pub digest: ContentDigest,
    /// Size of the model file and of the files that its weights lie in, in bytes.
    pub size_bytes: u64,
    /// Where it runs.
    pub device: DeviceStatus,
    /// Whether equal inputs give equal outputs. Where it draws random numbers they do not, and
    /// no answer may be given twice.
    pub deterministic: bool,
    /// What whoever reads about the model should know beside its specifications, a sentence
    /// each: of an output that is no tensor, its type and the form in which it is served.
    pub notes: Vec<String>,
    /// Runs it.
    pub session: Box<dyn Session>,
}

/// One loaded model, to run on one thread. It runs one batch at a time, on the caller's thread.
pub trait Session: Send {
    /// Runs the model.
    ///
    /// `inputs` are in declared order and fit the declared datatypes and shapes; the outputs
    /// come back in declared order. Whoever holds `run` can end it: it then fails, unless it was
    /// as good as over.
    ///
    /// # Errors
    /// [`ExecuteError`] in the engine's own words, or that the run was interrupted.
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError>;

    /// Runs the model, and nobody can end it.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn execute(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
        self.run(inputs, &Run::new())
    }

    /// Another session over the same loaded model: it costs no memory worth the name, gives the
    /// same answers, and its runs may overlap with those of this one. `None` where the model has
    /// to be loaded once more for that.
    fn share(&self) -> Option<Box<dyn Session>> {
        None
    }
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read model file `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The engine refused the file.
    #[error("`{path}` is not a model that can be loaded: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The engine's reason.
        reason: String,
    },
    /// The model uses something that is not served.
    #[error("`{path}` cannot be served: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it uses, and what is served instead.
        reason: String,
    },
    /// The device that was asked for cannot be used.
    #[error("cannot run `{path}` on {device}: {reason}")]
    Device {
        /// The file.
        path: PathBuf,
        /// The device that was asked for.
        device: String,
        /// The loader's own words.
        reason: String,
    },
}

/// Why a run failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ExecuteError(pub String);

impl From<Interrupted> for ExecuteError {
    fn from(interrupted: Interrupted) -> Self {
        Self(interrupted.to_string())
    }
}

/// Holds inputs against what a model declares: what an engine would only call a generic failure, or
/// not notice.
fn check_inputs(declared: &[TensorSpec], given: &[Tensor]) -> Result<(), ExecuteError> {
    if given.len() != declared.len() {
        let (expected, got) = (declared.len(), given.len());
        return Err(ExecuteError(format!("the model takes {expected} inputs, got {got}")));
    }
    for (spec, tensor) in declared.iter().zip(given) {
        if tensor.datatype() != spec.datatype || !spec.shape.admits(tensor.shape()) {
            return Err(ExecuteError(format!(
                "input `{}`: expected {} {}, got {} {}",
                spec.name,
                spec.datatype,
                spec.shape,
                tensor.datatype(),
                tensor.shape(),
            )));
        }
    }
    Ok(())
}
