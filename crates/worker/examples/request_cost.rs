//! What a request costs inside the worker, without network and without a model's own work.
//!
//! ```text
//! cargo run --release -p inferring-worker --example request_cost [requests]
//! ```
//!
//! Prints, per request, wall time and the CPU time of all threads, for answers from the cache and
//! for computed ones, alone and 64 at a time. To count instructions of one kind alone:
//! `valgrind --tool=callgrind .../request_cost 10000 hits`.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run has nothing to say")]

mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::fake::FakeBackend;
use inferring_repository::Repository;
use inferring_types::{
    BatchStatus, Deadline, InferRequest, InferenceService as _, NamedTensor, NodeStatus,
    StatusSource as _, Tensor,
};
use inferring_worker::{Worker, WorkerConfig};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use usage::cpu_time;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let requests = arguments.next().map_or(200_000, |text| text.parse().unwrap());
    let kind = arguments.next();
    // The engine reads no file; the repository wants to see one.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "").unwrap();
    let repository = Repository::open([path]).unwrap();
    let backend = Arc::new(FakeBackend::new());
    let worker =
        Worker::start("worker".into(), repository, backend, &WorkerConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (name, concurrency, distinct) in
        [("hits", 1, false), ("misses", 1, true), ("misses-64", 64, true)]
    {
        if kind.as_ref().is_none_or(|kind| kind == name) {
            let before = batches(&runtime, &worker);
            let (wall, cpu) = (Instant::now(), cpu_time());
            runtime.block_on(ask(&worker, requests, concurrency, distinct));
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
            let (wall, cpu) = (micros(wall.elapsed()), micros(cpu_time() - cpu));
            let after = batches(&runtime, &worker);
            let runs = (after.batches - before.batches).max(1);
            let rows = (after.rows - before.rows) as f64 / runs as f64;
            println!(
                "{name:10} {wall:8.3} µs wall {cpu:8.3} µs CPU per request, {rows:5.1} rows a run"
            );
        }
    }
}

fn batches(runtime: &Runtime, worker: &Worker) -> BatchStatus {
    match runtime.block_on(worker.status()).unwrap() {
        NodeStatus::Worker(status) => status.batches,
        NodeStatus::Gateway(_) => unreachable!("it is a worker"),
    }
}

/// Asks `requests` times, `concurrency` at a time: always the same, or never the same twice.
async fn ask(worker: &Arc<Worker>, requests: usize, concurrency: usize, distinct: bool) {
    let mut clients = JoinSet::new();
    for client in 0..concurrency {
        let worker = worker.clone();
        clients.spawn(async move {
            for turn in 0..requests / concurrency {
                let number = if distinct { turn * concurrency + client } else { 0 };
                worker.infer(request(number, concurrency)).await.unwrap();
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

fn request(number: usize, series: usize) -> InferRequest {
    let values = [(number >> 16) as f32, (number & 0xffff) as f32, series as f32, 1.0];
    let tensor = Tensor::from_f32([1, 4].into(), &values).unwrap();
    InferRequest::new(
        "model".parse().unwrap(),
        vec![NamedTensor::new("input".into(), tensor)],
        Deadline::after(Instant::now(), Duration::from_secs(30)),
    )
}
