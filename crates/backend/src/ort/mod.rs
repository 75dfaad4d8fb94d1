//! ONNX Runtime, loaded at run time.
//!
//! The program does not link it: [`library`] finds it, and a process that serves no model needs
//! none. [`OrtBackend::start`] makes the one environment of the process, whose threads all its
//! sessions share, and decides by trying where models run; [`OrtBackend`] then loads them.

mod destination;
mod environment;
mod file;
mod json;
pub mod library;
mod message;
mod opening;
mod pool;
mod providers;
mod python;
mod run_options;
mod session;
mod signature;
mod tensor;
mod version;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inferring_types::{BackendStatus, DeviceStatus};

pub use self::environment::disable_telemetry;
pub use crate::device::{Device, UnknownDevice};

use self::environment::{Runtime, Settings};
use self::file::ModelFiles;
use self::library::{LibraryError, Places};
use self::providers::Placement;
use self::session::OrtSession;
use self::signature::Signature;
use crate::{Backend, LoadError, LoadOptions, LoadedModel};

/// How ONNX Runtime is to be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrtConfig {
    /// The shared library, or the folder that holds it; searched for where `None`.
    pub library: Option<PathBuf>,
    /// Where models run.
    pub device: Device,
    /// How many threads the sessions of this process share to run operators, the caller's own
    /// included; where `None`, as many as it may use cores, up to 16.
    pub intra_op_threads: Option<NonZeroUsize>,
    /// Whether idle threads of the pool spin. A lone request is answered a little sooner, and
    /// every other process on the machine pays for it.
    pub spinning: bool,
}

/// Why ONNX Runtime could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no library to load.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The library was loaded, and refused.
    #[error("ONNX Runtime does not start: {0}")]
    Engine(String),
    /// The device that was asked for does not work.
    #[error("cannot run models on {device}: {reason}")]
    Device {
        /// The device that was asked for.
        device: Device,
        /// The loader's own words.
        reason: String,
    },
    /// The process runs the engine already, in another way. It can do so in one way only.
    #[error("ONNX Runtime runs in this process already with {running}; asked for was {asked}")]
    OtherSettings {
        /// What is in force.
        running: String,
        /// What was asked for.
        asked: String,
    },
}

/// ONNX Runtime, started. Copies of it share one environment.
#[derive(Debug, Clone)]
pub struct OrtBackend {
    runtime: Arc<Runtime>,
    placement: Placement,
}

impl OrtBackend {
    /// Finds the library, starts it and tries the device.
    ///
    /// A process has one environment: to start again is fine with the same library and threads
    /// (the device may differ), and an error with others.
    ///
    /// # Errors
    /// [`StartError`]; its message says what to do.
    pub fn start(config: OrtConfig) -> Result<Self, StartError> {
        disable_telemetry();
        let library = Places::of_process(config.library).find()?;
        let settings = Settings {
            library: library.path.clone(),
            intra_op_threads: config.intra_op_threads.unwrap_or_else(environment::default_threads),
            spinning: config.spinning,
        };
        let runtime = Runtime::start(library, settings)?;
        let device = config.device;
        let placement = Placement::decide(device, &runtime)
            .map_err(|reason| StartError::Device { device, reason })?;
        Ok(Self { runtime, placement })
    }

    /// Where models run that name no device of their own, and why not elsewhere.
    pub fn device(&self) -> DeviceStatus {
        self.placement.status()
    }

    fn placement_of(&self, path: &Path, options: &LoadOptions) -> Result<Placement, LoadError> {
        let Some(device) = options.device else { return Ok(self.placement.clone()) };
        Placement::decide(device, &self.runtime).map_err(|reason| LoadError::Device {
            path: path.to_owned(),
            device: device.to_string(),
            reason,
        })
    }
}

impl Backend for OrtBackend {
    fn status(&self) -> BackendStatus {
        self.runtime.status()
    }

    fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let files = ModelFiles::read(path)?;
        let placement = self.placement_of(path, options)?;
        let (opened, device) = placement.open(&self.runtime, path, options)?;
        if !files.are_unchanged() {
            let reason = "its files changed while they were read: load it again".to_owned();
            return Err(LoadError::Refused { path: path.to_owned(), reason });
        }
        let signature = Signature::of(&opened.engine)
            .map_err(|reason| LoadError::Unsupported { path: path.to_owned(), reason })?;
        Ok(LoadedModel {
            inputs: signature.inputs.clone(),
            outputs: signature.outputs.iter().map(|output| output.spec.clone()).collect(),
            digest: files.digest,
            size_bytes: files.size_bytes,
            device,
            deterministic: files.random_operator.is_none(),
            notes: notes(&signature, files.random_operator),
            session: Box::new(OrtSession::new(opened, signature)),
        })
    }

    fn trim(&self) {
        environment::trim();
    }
}

/// What whoever reads about the model should know beside its specifications.
fn notes(signature: &Signature, random_operator: Option<&str>) -> Vec<String> {
    let texts = signature.outputs.iter().filter_map(|output| {
        let (name, notation) = (&output.spec.name, output.type_as_texts.as_ref()?);
        Some(format!("output `{name}` is {notation}, served as JSON texts"))
    });
    let random = random_operator
        .map(|operator| format!("it draws random numbers ({operator}): no answer is kept"));
    texts.chain(random).collect()
}
