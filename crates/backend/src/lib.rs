//! Executes models.
//!
//! [`Backend`] and [`Session`] are the seam: the worker batches and caches over them and never
//! names the engine behind. [`ort`](mod@ort) is ONNX Runtime; [`fake`] is an engine for tests
//! that counts its runs and can be held, delayed and made to fail.

pub mod fake;
pub mod ort;

use std::path::{Path, PathBuf};

use inferring_types::{BackendStatus, ContentDigest, DeviceStatus, Tensor, TensorSpec};

/// An execution engine.
pub trait Backend: Send + Sync {
    /// Name, version and where its library was found.
    fn status(&self) -> BackendStatus;

    /// Loads a model file into a new session of its own.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and what is wrong with it.
    fn load(&self, path: &Path) -> Result<LoadedModel, LoadError>;
}

/// A model, ready to run.
pub struct LoadedModel {
    /// Declared inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Declared outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// Digest of the model file's bytes.
    pub digest: ContentDigest,
    /// Size of the model file, in bytes.
    pub size_bytes: u64,
    /// Where it runs.
    pub device: DeviceStatus,
    /// Runs it.
    pub session: Box<dyn Session>,
}

/// One loaded instance of a model. It runs one batch at a time, on the caller's thread.
pub trait Session: Send {
    /// Runs the model.
    ///
    /// `inputs` are in declared order and fit the declared datatypes and shapes; the outputs
    /// come back in declared order.
    ///
    /// # Errors
    /// [`ExecuteError`] in the engine's own words.
    fn execute(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError>;
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
