//! Sessions over one loaded model cost no memory worth the name.
//!
//! It measures the memory of the process, so this file holds one test.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "it/onnx.rs"]
#[expect(dead_code, reason = "shared with tests that write more kinds of models")]
mod onnx;
#[path = "it/resident.rs"]
mod resident;

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_types::{DataType, Tensor};
use tempfile::TempDir;

use crate::onnx::Size;
use crate::resident::resident;

const MIB: u64 = 1 << 20;
const WEIGHTS: u64 = 64 * MIB;
const SESSIONS: usize = 4;

/// A model with 64 MiB of weights: `x` `[N,4096]` times a matrix of 4096 x 4096.
fn model() -> Vec<u8> {
    let float = onnx::element(DataType::Fp32);
    let rows = || onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(4096)]);
    let weights = vec![0_u8; WEIGHTS as usize];
    onnx::model_with_weights(
        &[onnx::node("MatMul", &["x", "w"], &["y"])],
        &[("x", rows())],
        &[("y", rows())],
        &[onnx::constant(float, &[4096, 4096], &weights).text(8, "w")],
    )
}

#[test]
fn shared_sessions_cost_their_runs_and_loaded_ones_their_weights() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model()).unwrap();
    let backend = OrtBackend::start(OrtConfig {
        device: Device::Cpu,
        intra_op_threads: NonZeroUsize::new(2),
        ..OrtConfig::default()
    });
    let backend = backend.unwrap_or_else(|error| panic!("{error}"));
    let mut model = backend.load(&path, &LoadOptions::default()).unwrap();
    let input = Tensor::from_f32([1, 4096].into(), &[1.0; 4096]).unwrap();
    let input = std::slice::from_ref(&input);
    model.session.execute(input).unwrap();
    backend.trim();
    let one = resident();

    let mut sessions = vec![model.session];
    for _ in 1..SESSIONS {
        sessions.push(sessions[0].share().unwrap());
    }
    let barrier = Barrier::new(SESSIONS);
    thread::scope(|scope| {
        for session in &mut sessions {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..10 {
                    session.execute(input).unwrap();
                }
            });
        }
    });
    let shared = resident();
    assert!(shared < one + WEIGHTS / 8, "{} MiB, then {} MiB", one / MIB, shared / MIB);

    let mut again = backend.load(&path, &LoadOptions::default()).unwrap();
    again.session.execute(input).unwrap();
    let loaded = resident();
    assert!(loaded > shared + WEIGHTS / 2, "{} MiB, then {} MiB", shared / MIB, loaded / MIB);
}
