//! The engine's environment, of which a process has one.
//!
//! It owns the thread pool that all sessions share: several workers in one process take turns on
//! the same threads and do not multiply them. Being one per process it is made once, by whoever
//! starts first, and never taken down; who starts later with other settings must hear that.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use inferring_types::BackendStatus;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use parking_lot::Mutex;

use super::library::{self, Library, LibraryError};
use super::pool::Helpers;
use super::providers::Probes;
use super::{StartError, message};

/// The environment of this process and what was learnt in it.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) environment: Environment,
    pub(super) probes: Probes,
    pub(super) settings: Settings,
    library: Library,
    version: String,
}

/// What is fixed for the process once the environment is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) library: PathBuf,
    pub(super) intra_op_threads: NonZeroUsize,
    pub(super) spinning: bool,
}

impl Runtime {
    /// The process's environment: a new one, or the one that runs already with these settings.
    ///
    /// # Errors
    /// The library cannot be loaded, the engine refuses, or other settings are in force.
    pub(super) fn start(library: Library, settings: Settings) -> Result<Arc<Self>, StartError> {
        static RUNNING: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
        let mut running = RUNNING.lock();
        if let Some(runtime) = &*running {
            return if runtime.settings == settings {
                Ok(Arc::clone(runtime))
            } else {
                Err(StartError::OtherSettings {
                    running: runtime.settings.to_string(),
                    asked: settings.to_string(),
                })
            };
        }
        let runtime = Arc::new(Self::new(library, settings)?);
        *running = Some(Arc::clone(&runtime));
        Ok(runtime)
    }

    fn new(library: Library, settings: Settings) -> Result<Self, StartError> {
        disable_telemetry();
        return_large_blocks();
        let version = library::version_of(&library)?;
        let builder = ort::init_from(&library.path).map_err(|error| LibraryError::Unloadable {
            path: library.path.clone(),
            found_by: library.found_by.clone(),
            reason: error.to_string(),
        })?;
        let engine = |error: ort::Error| StartError::Engine(message::clean(error.message()));
        let threads = GlobalThreadPoolOptions::default()
            .with_intra_threads(settings.intra_op_threads.get())
            // Branches of one graph run one after the other: what waits beside them are other
            // requests, and they are served better by the same threads.
            .and_then(|threads| threads.with_inter_threads(1))
            .and_then(|threads| threads.with_spin_control(settings.spinning))
            .and_then(|threads| threads.with_thread_manager(Helpers))
            .map_err(engine)?;
        let environment = builder
            .with_name("inferring")
            .with_telemetry(false)
            .with_global_thread_pool(threads)
            .with_logger(Arc::new(log))
            .build()
            .map_err(engine)?;
        // With a logger of our own the engine would tell it everything, at a cost for each run.
        environment.set_log_level(LogLevel::Warning);
        Ok(Self { environment, probes: Probes::default(), settings, library, version })
    }

    pub(super) fn status(&self) -> BackendStatus {
        BackendStatus {
            name: "onnxruntime".to_owned(),
            version: self.version.clone(),
            library: Some(self.library.path.display().to_string()),
            found_by: Some(self.library.found_by.to_string()),
        }
    }
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spinning = if self.spinning { "spinning" } else { "not spinning" };
        write!(f, "`{}`, {} threads, {spinning}", self.library.display(), self.intra_op_threads)
    }
}

/// Turns off what official builds of ONNX Runtime report to their maker, by its environment
/// variable `ORT_DISABLE_TELEMETRY`, unless that is set already.
///
/// Starting a backend does this by itself. To set an environment variable is only free of races
/// while no other thread reads the environment, so a program calls this first in `main`, before
/// it starts a thread.
pub fn disable_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    #[expect(unsafe_code, reason = "the engine has no other switch that acts early enough")]
    // SAFETY: Rust's own readers of the environment share a lock with this. What remains is C
    // code that calls `getenv` at this very moment on another thread: our binary calls this
    // before it has one, and in a program that does not, the library is not loaded yet.
    unsafe {
        std::env::set_var(VARIABLE, "1");
    }
}

/// Has the C library give large blocks back to the system when they are freed.
///
/// By itself it stops doing so once a large block was freed: it then keeps up to 64 MiB for each
/// of its arenas, which are several for each core, and [`trim`] does not reach what lies at the
/// end of one. Weights are allocated by whatever thread loads them, so that loading and unloading
/// a model of 8 MiB left a process between 56 and 98 MiB where it now stays at 36.
///
/// A block as large as this is mapped anew each time, and smaller ones are kept for the next as
/// before. Who sets these by `MALLOC_MMAP_THRESHOLD_` or `MALLOC_TRIM_THRESHOLD_`
/// knows better.
fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 4 << 20;
        for (parameter, variable) in [
            (libc::M_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_"),
            (libc::M_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_"),
        ] {
            if std::env::var_os(variable).is_none() {
                #[expect(unsafe_code, reason = "a call of the C library")]
                // SAFETY: the call takes no pointer and may be made from any thread at any time.
                unsafe {
                    libc::mallopt(parameter, LARGE);
                }
            }
        }
    }
}

/// Gives memory that is free within this process back to the system, as far as the system's
/// allocator can be asked to.
///
/// A dropped session frees everything that it had, but the C library keeps much of what is freed
/// for later: a large block that was freed once raises the size up to which it does so (on
/// glibc, to 32 MiB).
pub(super) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: the call takes no pointer and may be made from any thread at any time. It only
    // gives pages back that no live allocation touches.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// As many threads as this process may use cores, by affinity and by cgroup, up to 16: beyond
/// that a single run seldom becomes faster, and several runs share them.
pub(super) fn default_threads() -> NonZeroUsize {
    const MOST: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(MOST))
}

/// Passes the engine's log on. Whatever is an error there also comes back from the call that
/// caused it, and is reported where it is handled; here it is a detail.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, text: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", location, "{text}"),
        LogLevel::Error | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", location, "{text}");
        }
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", location, "{text}");
        }
    }
}
