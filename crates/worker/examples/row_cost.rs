//! What a row of a request costs inside the worker, without network and without a model's own
//! work.
//!
//! ```text
//! cargo run --release -p inferring-worker --example row_cost [rows]
//! ```
//!
//! Prints, per row, wall time and the CPU time of all threads for requests of several sizes, all
//! of whose rows are new or known, and the memory that a kept row takes.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run has nothing to say")]

#[path = "../../backend/tests/it/resident.rs"]
mod resident;
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::fake::FakeBackend;
use inferring_repository::Repository;
use inferring_types::{
    Deadline, InferRequest, InferenceService as _, NamedTensor, NodeStatus, StatusSource as _,
    Tensor,
};
use inferring_worker::{Worker, WorkerConfig};
use resident::resident;
use usage::cpu_time;

const SIZES: [usize; 7] = [1, 2, 8, 32, 256, 1024, 1025];

fn main() {
    let rows = std::env::args().nth(1).map_or(200_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    println!(
        "{:>8} {:>20} {:>20} {:>12}",
        "rows", "new, µs (CPU)", "known, µs (CPU)", "bytes kept"
    );
    for size in SIZES {
        let repository = Repository::open([path.clone()]).unwrap();
        let backend = Arc::new(FakeBackend::new());
        let worker =
            Worker::start("worker".into(), repository, backend, &WorkerConfig::default()).unwrap();
        let before = resident();
        let new = measure(rows, || {
            runtime.block_on(ask(&worker, rows, size, 0));
        });
        let grown = resident().saturating_sub(before);
        let NodeStatus::Worker(status) = runtime.block_on(worker.status()).unwrap() else {
            unreachable!("it is a worker")
        };
        let known = measure(rows, || {
            runtime.block_on(ask(&worker, rows, size, 0));
        });
        let kept = status.cache.entries.max(1);
        println!(
            "{size:8} {new:>20} {known:>20} {:>12}",
            format!("{} ({})", grown / kept, status.cache.bytes / kept),
        );
    }
}

fn measure(rows: usize, run: impl FnOnce()) -> String {
    let (wall, cpu) = (Instant::now(), cpu_time());
    run();
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    format!("{:.3} ({:.3})", micros(wall.elapsed()), micros(cpu_time() - cpu))
}

/// Asks for so many rows, `size` at a time, none of them twice.
async fn ask(worker: &Worker, rows: usize, size: usize, from: usize) {
    for turn in 0..rows / size {
        let first = from + turn * size;
        let values: Vec<f32> = (first..first + size)
            .flat_map(|number| [(number >> 16) as f32, (number & 0xffff) as f32, 0.0, 1.0])
            .collect();
        let tensor = Tensor::from_f32([size as u64, 4].into(), &values).unwrap();
        let request = InferRequest::new(
            "model".parse().unwrap(),
            vec![NamedTensor::new("input".into(), tensor)],
            Deadline::after(Instant::now(), Duration::from_secs(30)),
        );
        worker.infer(request).await.unwrap();
    }
}
