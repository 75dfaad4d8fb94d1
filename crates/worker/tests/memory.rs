//! A model that is unloaded gives its memory back, through all of the worker.
//!
//! It measures the memory of the process, so this file holds one test. It needs ONNX Runtime's
//! shared library and fails without it, saying how to get it.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../../backend/tests/it/onnx.rs"]
#[expect(dead_code, reason = "shared with tests that write more kinds of models")]
mod onnx;
#[path = "../../backend/tests/it/resident.rs"]
mod resident;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_repository::Repository;
use inferring_types::{
    DataType, Deadline, InferRequest, InferenceService as _, LoadRequest, ModelName,
    ModelRepository as _, ModelState, NamedTensor, Tensor,
};
use inferring_worker::{Worker, WorkerConfig};
use onnx::Size;
use resident::resident;

const MIB: u64 = 1 << 20;
const CYCLES: usize = 50;
/// Different requests in each cycle, whose answers, of 8 KiB each, are kept until it ends.
const REQUESTS: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(60);

/// What 50 cycles may leave behind beyond the first, which starts threads and touches code and
/// data of the engine. It was 0.9 MiB at most and did not grow. One model that is not given back is
/// more than this, and so are the answers of all cycles.
const GROWTH_MAX: u64 = 4 * MIB;

/// A model with 8 MiB of weights: `x` `[N,1024]` times a matrix, `y` `[N,2048]`.
fn model() -> Vec<u8> {
    let float = onnx::element(DataType::Fp32);
    let weights = vec![0_u8; 8 << 20];
    onnx::model_with_weights(
        &[onnx::node("MatMul", &["x", "w"], &["product"]), onnx::node("Exp", &["product"], &["y"])],
        &[("x", onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(1024)]))],
        &[("y", onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(2048)]))],
        &[onnx::constant(float, &[1024, 2048], &weights).text(8, "w")],
    )
}

fn request(name: &ModelName, number: u64) -> InferRequest {
    let mut values = vec![0.0; 1024];
    values[0] = number as f32;
    let tensor = Tensor::from_f32([1, 1024].into(), &values).unwrap();
    InferRequest::new(
        name.clone(),
        vec![NamedTensor::new("x".into(), tensor)],
        Deadline::after(Instant::now(), PATIENCE),
    )
}

/// Loads the model, asks it and unloads it; the memory in use before and after that.
async fn cycle(worker: &Worker, name: &ModelName) -> (u64, u64) {
    let load = LoadRequest { model: name.clone(), config: None, files: Vec::new() };
    worker.load(load).await.unwrap();
    for number in 0..REQUESTS {
        let answer = worker.infer(request(name, number)).await.unwrap();
        assert!(answer.outputs[0].tensor.data().ends_with(&1.0f32.to_le_bytes()));
    }
    let loaded = resident();
    worker.unload(name.clone()).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while worker.index().await.unwrap()[0].state != ModelState::Unavailable {
        assert!(Instant::now() < until, "{:?}", worker.index().await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (loaded, resident())
}

#[tokio::test]
async fn fifty_cycles_of_load_ask_and_unload_leave_no_more_than_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("big/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), model()).unwrap();
    let backend = OrtBackend::start(OrtConfig {
        device: Device::Cpu,
        intra_op_threads: NonZeroUsize::new(1),
        ..OrtConfig::default()
    });
    let backend = Arc::new(backend.unwrap_or_else(|error| panic!("{error}")));
    let repository = Repository::open([folder.path()]).unwrap();
    let config = WorkerConfig::default();
    let worker = Worker::start("worker".into(), repository, backend, &config).unwrap();
    let name: ModelName = "big".parse().unwrap();
    let (loaded, first) = cycle(&worker, &name).await;
    assert!(loaded > first + 8 * MIB, "{loaded} bytes with the model, {first} without");
    for number in 2..=CYCLES {
        let (_, after) = cycle(&worker, &name).await;
        if number == CYCLES {
            println!("{} KiB more than after the first", after.saturating_sub(first) / 1024);
        }
        assert!(
            after <= first + GROWTH_MAX,
            "{} MiB after {number} cycles, {} MiB after the first",
            after / MIB,
            first / MIB,
        );
    }
}
