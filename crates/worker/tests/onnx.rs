//! Real models on ONNX Runtime: what is proved about them, and that joined requests are answered
//! as lone ones are.
//!
//! These tests need ONNX Runtime's shared library and fail without it, saying how to get it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "onnx/attention.rs"]
mod attention;
#[path = "../../backend/tests/it/onnx.rs"]
#[expect(dead_code, reason = "shared with tests that write more kinds of models")]
mod onnx;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use half::f16;
use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_repository::Repository;
use inferring_types::{
    Blame, CacheOutcome, DataType, Deadline, Dimension, ErrorKind, InferRequest,
    InferenceService as _, ModelSelector, NamedTensor, NodeStatus, Shape, StatusSource as _,
    Tensor, TensorSpec,
};
use inferring_worker::{BatchingMode, CacheConfig, QueueConfig, Worker, WorkerConfig};
use onnx::{Message, Size};

/// The backend of this process, on the CPU.
fn backend() -> OrtBackend {
    static BACKEND: LazyLock<OrtBackend> = LazyLock::new(|| {
        let config = OrtConfig {
            device: Device::Cpu,
            intra_op_threads: NonZeroUsize::new(1),
            ..OrtConfig::default()
        };
        OrtBackend::start(config).unwrap_or_else(|error| panic!("{error}"))
    });
    BACKEND.clone()
}

fn path(model: &str) -> PathBuf {
    let folder = match model {
        "iris" => "../../models/iris",
        _ => "../integration-tests/models",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{model}.onnx"))
}

fn worker(models: &[&str], config: &WorkerConfig) -> Arc<Worker> {
    let repository = Repository::open(models.iter().map(|model| path(model))).unwrap();
    Worker::start("worker".into(), repository, Arc::new(backend()), config).unwrap()
}

fn prove(model: &str) -> inferring_worker::Proof {
    let mut loaded = backend().load(&path(model), &LoadOptions::default()).unwrap();
    inferring_worker::prove(&mut *loaded.session, &loaded.inputs, &loaded.outputs)
}

#[test]
fn rows_are_proved_independent_where_they_are() {
    for model in [
        "iris",
        "tiny_mlp",
        "int64_scale",
        "f16_scale",
        "f64_scale",
        "two_inputs",
        "two_outputs",
        "uint8_sum",
        "poison_row",
    ] {
        let proof = prove(model);
        assert!(proof.batching.joins_rows(), "{model}: {}", proof.batching.reason());
        assert!(proof.known_good.is_some(), "{model}");
    }
}

#[test]
fn models_that_would_answer_joined_requests_wrongly_run_them_alone() {
    for (model, reason) in [
        ("time_major_cumsum", "rows influence each other"),
        ("batch_norm_like", "not proved: the answers to different generated inputs were equal"),
        ("fixed_batch", "has shape [1,4]: its first dimension is not dynamic"),
        ("fixed_batch3", "has shape [3,2]: its first dimension is not dynamic"),
    ] {
        let proof = prove(model);
        assert!(!proof.batching.joins_rows(), "{model}");
        assert!(proof.batching.reason().contains(reason), "{model}: {}", proof.batching.reason());
        assert!(proof.known_good.is_some(), "{model}");
    }
}

/// Requests of one to three rows, all different.
fn requests(model: &str, inputs: &[TensorSpec], count: usize) -> Vec<InferRequest> {
    let mut random = fastrand::Rng::with_seed(0x0221);
    let request = |number: usize| {
        let rows = 1 + number as u64 % 3;
        let tensors = inputs.iter().map(|spec| {
            let dimensions = spec.shape.dimensions().iter().enumerate();
            let shape = Shape::new(dimensions.map(|(place, dimension)| match dimension {
                Dimension::Fixed(size) => *size,
                Dimension::Dynamic(_) if place == 0 => rows,
                Dimension::Dynamic(_) => 5,
            }));
            let elements = 0..shape.elements().unwrap();
            let data: Vec<u8> = match spec.datatype {
                DataType::Fp32 => elements.flat_map(|_| random.f32().to_le_bytes()).collect(),
                DataType::Fp16 => {
                    elements.flat_map(|_| f16::from_f32(random.f32()).to_le_bytes()).collect()
                }
                DataType::Int64 => elements.flat_map(|_| random.i64(0..10).to_le_bytes()).collect(),
                DataType::Uint8 => elements.map(|_| random.u8(..)).collect(),
                other => panic!("make up {other} here"),
            };
            let tensor = Tensor::new(spec.datatype, shape, data.into()).unwrap();
            NamedTensor::new(spec.name.clone(), tensor)
        });
        InferRequest::new(
            model.parse().unwrap(),
            tensors.collect(),
            Deadline::after(Instant::now(), Duration::from_secs(600)),
        )
    };
    (0..count).map(request).collect()
}

/// Nothing is kept, so that every request runs the model unless an equal one is under way.
fn uncached(batching: QueueConfig) -> WorkerConfig {
    let cache = CacheConfig { entries: 0, ..CacheConfig::default() };
    WorkerConfig { cache, batching, ..WorkerConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joined_requests_are_answered_as_lone_ones() {
    let models =
        ["iris", "tiny_mlp", "int64_scale", "f16_scale", "two_inputs", "two_outputs", "uint8_sum"];
    let alone = QueueConfig { mode: BatchingMode::Alone, ..QueueConfig::default() };
    let alone = worker(&models, &uncached(alone));
    // Batches are waited for, so that there are some on any machine.
    let together = QueueConfig { dispatch_when_idle: false, ..QueueConfig::default() };
    let together = worker(&models, &uncached(together));
    for model in models {
        let inputs = together.model(ModelSelector::named(model)).unwrap().inputs.clone();
        let requests = requests(model, &inputs, 60);
        let joined: Vec<_> = requests
            .iter()
            .map(|request| {
                let (worker, request) = (together.clone(), request.clone());
                tokio::spawn(async move { worker.infer(request).await.unwrap() })
            })
            .collect();
        let mut shared_runs = 0;
        for (request, joined) in requests.into_iter().zip(joined) {
            let rows = request.inputs[0].tensor.shape().dimensions()[0];
            let lone = alone.infer(request).await.unwrap();
            let joined = joined.await.unwrap();
            assert_eq!(lone.outputs.len(), joined.outputs.len(), "{model}");
            for (lone, joined) in lone.outputs.iter().zip(joined.outputs.iter()) {
                assert_eq!(lone.name, joined.name, "{model}");
                assert_alike(model, &lone.tensor, &joined.tensor);
            }
            shared_runs += usize::from(u64::from(joined.served.batch_size) > rows);
        }
        assert!(shared_runs > 0, "{model}: no request shared a run");
    }
}

/// Floats within 1e-5 of each other, relatively; everything else to the bit.
fn assert_alike(model: &str, one: &Tensor, other: &Tensor) {
    assert_eq!((one.datatype(), one.shape()), (other.datatype(), other.shape()), "{model}");
    let (Some(a), Some(b)) = (one.to_f32(), other.to_f32()) else {
        assert_eq!(one.data(), other.data(), "{model}");
        return;
    };
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-3), "{model}: {a} alone, {b} joined");
    }
}

/// The engine fails the whole run for one index outside of the table.
#[tokio::test]
async fn an_index_out_of_range_fails_alone() {
    let together = QueueConfig {
        size_max: 8.try_into().unwrap(),
        delay_max: Duration::from_secs(600),
        dispatch_when_idle: false,
        ..QueueConfig::default()
    };
    let worker = worker(&["poison_row"], &uncached(together));
    let model = worker.model(ModelSelector::default()).unwrap();
    let indices = [0i64, 1, 2, 99, 4, 5, 6, 7];
    let clients = indices.map(|index| {
        let data = index.to_le_bytes().to_vec();
        let tensor = Tensor::new(DataType::Int64, [1, 1].into(), data.into()).unwrap();
        let request = InferRequest::new(
            model.name.clone(),
            vec![NamedTensor::new("index".into(), tensor)],
            Deadline::after(Instant::now(), Duration::from_secs(300)),
        );
        let worker = worker.clone();
        tokio::spawn(async move { worker.infer(request).await })
    });
    let mut answers = Vec::new();
    for (index, client) in indices.into_iter().zip(clients) {
        match client.await.unwrap() {
            Ok(answer) => answers.push(answer.outputs[0].tensor.to_f32().unwrap()),
            Err(error) => {
                assert_eq!(index, 99, "{}", error.chain());
                assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                assert_eq!(error.blame(), Blame::Client);
            }
        }
    }
    assert_eq!(answers.len(), 7);
    answers.dedup();
    assert_eq!(answers.len(), 7, "each got a row of its own");
    let NodeStatus::Worker(status) = worker.status().await.unwrap() else { panic!() };
    assert_eq!((status.batches.batches, status.batches.full, status.errors), (1, 1, 1));
}

#[tokio::test]
async fn outputs_asked_for_by_name_come_in_the_models_order() {
    let worker = worker(&["two_outputs"], &WorkerConfig::default());
    let inputs = worker.model(ModelSelector::default()).unwrap().inputs.clone();
    let request = requests("two_outputs", &inputs, 1).pop().unwrap();
    let all = worker.infer(request.clone()).await.unwrap().outputs;
    assert_eq!([all[0].name.as_str(), all[1].name.as_str()], ["double", "total"]);
    for (asked, expected) in [
        (&["total"][..], &all[1..]),
        (&["double"], &all[..1]),
        (&["total", "double"], &all[..]),
        (&["total", "total"], &all[1..]),
    ] {
        let outputs = asked.iter().map(|&name| name.into()).collect();
        let answer = worker.infer(InferRequest { outputs, ..request.clone() }).await.unwrap();
        assert_eq!(&answer.outputs[..], expected, "{asked:?}");
    }
}

/// A worker over one model `m` of these bytes and settings.
fn worker_over(model: &[u8], settings: &str, config: &WorkerConfig) -> Arc<Worker> {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("m/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), model).unwrap();
    std::fs::write(folder.path().join("m/config.toml"), settings).unwrap();
    let repository = Repository::open([folder.path()]).unwrap();
    Worker::start("worker".into(), repository, Arc::new(backend()), config).unwrap()
}

/// What a recurrent model looks like from outside: `x` `[B,S]`, `state` `[2,B,3]` and a scalar
/// `rate` give `y` `[B,S]` and the `next` state.
fn recurrent() -> Vec<u8> {
    let (float, integer) = (onnx::element(DataType::Fp32), onnx::element(DataType::Int64));
    let rows = || onnx::tensor(float, &[Size::Symbol("B"), Size::Symbol("S")]);
    let state = || onnx::tensor(float, &[Size::Fixed(2), Size::Symbol("B"), Size::Fixed(3)]);
    let sum = |from: &str, to: &str, axes: &str, keep: u64| {
        onnx::node("ReduceSum", &[from, axes], &[to]).attribute("keepdims", keep)
    };
    let axes = |axes: &[i64]| {
        let bytes: Vec<u8> = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
        onnx::constant(integer, &[axes.len() as u64], &bytes)
    };
    let weights: [Message; 3] = [
        axes(&[0, 2]).text(8, "of_state"),
        axes(&[1]).text(8, "of_row"),
        axes(&[1]).text(8, "back"),
    ];
    onnx::model_with_weights(
        &[
            sum("state", "memory", "of_state", 0),
            onnx::node("Unsqueeze", &["memory", "back"], &["column"]),
            onnx::node("Cast", &["rate"], &["factor"]).attribute("to", float),
            onnx::node("Mul", &["x", "factor"], &["scaled"]),
            onnx::node("Add", &["scaled", "column"], &["y"]),
            sum("x", "energy", "of_row", 1),
            onnx::node("Add", &["state", "energy"], &["next"]),
        ],
        &[("x", rows()), ("state", state()), ("rate", onnx::tensor(integer, &[]))],
        &[("y", rows()), ("next", state())],
        &weights,
    )
}

fn step(rows: &[[f32; 4]], state: f32, rate: i64) -> InferRequest {
    let count = rows.len() as u64;
    let states: Vec<f32> = (0..6 * count).map(|n| state + n as f32).collect();
    let rate = Tensor::new(DataType::Int64, Shape::default(), rate.to_le_bytes().to_vec().into());
    let inputs = [
        ("x", Tensor::from_f32([count, 4].into(), rows.as_flattened()).unwrap()),
        ("state", Tensor::from_f32([2, count, 3].into(), &states).unwrap()),
        ("rate", rate.unwrap()),
    ];
    InferRequest::new(
        "m".parse().unwrap(),
        inputs.map(|(name, tensor)| NamedTensor::new(name.into(), tensor)).into(),
        Deadline::after(Instant::now(), Duration::from_secs(300)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recurrent_model_is_proved_and_joined_along_declared_axes() {
    let axes = "[inputs.state]\nbatch_axis = 1\n[outputs.next]\nbatch_axis = 1";
    let patient = QueueConfig { dispatch_when_idle: false, ..QueueConfig::default() };
    let together = worker_over(&recurrent(), axes, &uncached(patient));
    let batching = together.model(ModelSelector::default()).unwrap().batching.clone();
    assert!(batching.joins_rows() && batching.reason().contains("proved"), "{batching:?}");
    let alone = worker_over(&recurrent(), "", &uncached(QueueConfig::default()));
    assert!(!alone.model(ModelSelector::default()).unwrap().batching.joins_rows());

    let request = |n: u8| {
        let rows = (0..1 + n % 3).map(|row| [f32::from(n), f32::from(row), 1.0, 0.5]);
        step(&rows.collect::<Vec<_>>(), f32::from(n), i64::from(8 + n % 2))
    };
    let joined: Vec<_> = (0..24)
        .map(|n| {
            let worker = together.clone();
            tokio::spawn(async move { worker.infer(request(n)).await.unwrap() })
        })
        .collect();
    let mut shared = 0;
    for (n, joined) in (0..24).zip(joined) {
        let (lone, joined) = (alone.infer(request(n)).await.unwrap(), joined.await.unwrap());
        for (lone, joined) in lone.outputs.iter().zip(joined.outputs.iter()) {
            assert_alike("recurrent", &lone.tensor, &joined.tensor);
        }
        shared += usize::from(joined.served.batch_size > u32::from(1 + n % 3));
    }
    assert!(shared > 0, "no request shared a run");
}

#[tokio::test]
async fn a_model_that_draws_numbers_draws_anew_for_each_request() {
    let float = onnx::element(DataType::Fp32);
    let shape = || onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(8)]);
    let model = onnx::model(
        &[onnx::node("RandomNormalLike", &["x"], &["y"])],
        &[("x", shape())],
        &[("y", shape())],
    );
    let worker = worker_over(&model, "", &WorkerConfig::default());
    let ask = || async {
        let zeros = Tensor::from_f32([1, 8].into(), &[0.0; 8]).unwrap();
        let inputs = vec![NamedTensor::new("x".into(), zeros)];
        worker.infer(InferRequest { inputs, ..step(&[], 0.0, 0) }).await.unwrap()
    };
    let (one, other) = (ask().await, ask().await);
    assert_eq!([one.served.cache, other.served.cache], [CacheOutcome::Computed; 2]);
    assert_ne!(one.outputs[0].tensor, other.outputs[0].tensor);
}

/// Several loads at once into one engine, as at the start of a worker over a large folder.
#[test]
fn many_models_are_loaded_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..24 {
        let version = folder.path().join(format!("m{number}/1"));
        std::fs::create_dir_all(&version).unwrap();
        std::fs::copy(path("tiny_mlp"), version.join("model.onnx")).unwrap();
    }
    let repository = Repository::open([folder.path()]).unwrap();
    let config = WorkerConfig::default();
    let worker = Worker::start("worker".into(), repository, Arc::new(backend()), &config).unwrap();
    assert!(worker.models().iter().all(|model| model.batching.joins_rows()));
    assert_eq!(worker.models().len(), 24);
}
