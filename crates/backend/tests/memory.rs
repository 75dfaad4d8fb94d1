//! An unloaded model's memory goes back to the system.
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
use std::path::Path;

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_types::{DataType, Tensor};
use tempfile::TempDir;

use crate::onnx::Size;
use crate::resident::resident;

const MIB: u64 = 1 << 20;
/// Rows in one run: what a run computes in between then takes 4 MiB a tensor.
const ROWS: u64 = 128;
const CYCLES: usize = 50;

/// What 50 cycles may leave behind beyond the first, which starts threads and touches code and
/// data of the engine. In 50 cycles of a model of 32 MiB it was 0.1 MiB, in 50 of magika none.
/// One that was not given back, or 100 kB kept in each cycle, is more than this.
const GROWTH_MAX: u64 = 4 * MIB;

/// A model with 32 MiB of weights: `x` `[N,1024]` times a matrix, and the sum of what is above 0.
fn model() -> Vec<u8> {
    let float = onnx::element(DataType::Fp32);
    let weights = vec![0_u8; 32 << 20];
    onnx::model_with_weights(
        &[
            onnx::node("MatMul", &["x", "w"], &["product"]),
            onnx::node("Exp", &["product"], &["positive"]),
            onnx::node("ReduceSum", &["positive"], &["y"]),
        ],
        &[("x", onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(1024)]))],
        &[("y", onnx::tensor(float, &[Size::Fixed(1), Size::Fixed(1)]))],
        &[onnx::constant(float, &[1024, 8192], &weights).text(8, "w")],
    )
}

/// Loads, runs and drops the model; the memory in use before the drop, and after the trim.
fn cycle(backend: &OrtBackend, path: &Path) -> (u64, u64) {
    let mut model = backend.load(path, &LoadOptions::default()).unwrap();
    let input = Tensor::from_f32([ROWS, 1024].into(), &[0.0; (ROWS * 1024) as usize]).unwrap();
    let outputs = model.session.execute(&[input]).unwrap();
    assert_eq!(outputs[0].to_f32().unwrap(), [(ROWS * 8192) as f32]);
    let loaded = resident();
    drop(model);
    backend.trim();
    (loaded, resident())
}

#[test]
fn fifty_cycles_of_load_run_and_drop_leave_no_more_than_the_first() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model()).unwrap();
    let backend = OrtBackend::start(OrtConfig {
        device: Device::Cpu,
        intra_op_threads: NonZeroUsize::new(2),
        ..OrtConfig::default()
    });
    let backend = backend.unwrap_or_else(|error| panic!("{error}"));
    let (loaded, first) = cycle(&backend, &path);
    assert!(loaded > first + 32 * MIB, "{loaded} bytes with the model, {first} without");
    for number in 2..=CYCLES {
        let (_, after) = cycle(&backend, &path);
        assert!(
            after <= first + GROWTH_MAX,
            "{} MiB after {number} cycles, {} MiB after the first",
            after / MIB,
            first / MIB,
        );
    }
}
