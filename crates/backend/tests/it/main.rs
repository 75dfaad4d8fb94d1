//! ONNX Runtime through the backend, on real models.
//!
//! These tests need ONNX Runtime's shared library and fail without it, saying how to get it. What
//! a process can do only once is tested in files of its own beside this folder.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod datatypes;
mod external;
mod interrupts;
mod onnx;
mod options;
mod refusals;
mod sharing;
mod signatures;
mod texts;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadError, LoadOptions, LoadedModel};
use tempfile::TempDir;

/// The backend of this process, on the CPU.
fn backend() -> OrtBackend {
    static BACKEND: LazyLock<OrtBackend> = LazyLock::new(|| {
        let config = OrtConfig {
            device: Device::Cpu,
            intra_op_threads: NonZeroUsize::new(2),
            ..OrtConfig::default()
        };
        OrtBackend::start(config).unwrap_or_else(|error| panic!("{error}"))
    });
    BACKEND.clone()
}

/// The folder of the models that the repository keeps for tests.
fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/models")
}

/// The iris classifier.
fn iris() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/iris/iris.onnx")
}

fn load(path: &Path) -> LoadedModel {
    backend().load(path, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Loads a model that a test has made.
fn try_load_bytes(model: &[u8]) -> Result<LoadedModel, LoadError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model).unwrap();
    backend().load(&path, &LoadOptions::default())
}

fn load_bytes(model: &[u8]) -> LoadedModel {
    try_load_bytes(model).unwrap_or_else(|error| panic!("{error}"))
}
