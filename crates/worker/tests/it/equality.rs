//! Batched, split, joined, known or alone: an answer is the same to the bit; and what is not
//! equal is never taken for equal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_backend::fake::FakeBackend;
use inferring_backend::{Backend, LoadError, LoadOptions, LoadedModel};
use inferring_repository::Repository;
use inferring_types::{
    BackendStatus, CacheOutcome, ContentDigest, DataType, InferRequest, InferenceService as _,
    NamedTensor, Shape, Tensor, TensorSpec,
};
use inferring_worker::{CacheConfig, QueueConfig, Worker, WorkerConfig};
use proptest::prelude::*;

use crate::fixture::{PATIENCE, any_width, queueing, row, shape, start, within_patience};

/// An engine whose model `ints` takes INT32 and whose others take FP32, all from the same bytes.
#[derive(Clone)]
struct Typed;

impl Backend for Typed {
    fn status(&self) -> BackendStatus {
        FakeBackend::new().status()
    }

    fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let is_ints = path.ends_with("ints.onnx");
        let datatype = if is_ints { DataType::Int32 } else { DataType::Fp32 };
        let spec =
            |name: &str| TensorSpec { name: name.into(), datatype, shape: shape(&[None, None]) };
        let engine = FakeBackend::computing(vec![spec("x")], vec![spec("y")], move |inputs| {
            // Tells what it was given: the type, and the width of rows.
            let width = inputs[0].shape().dimensions()[1] as u8;
            let told = if is_ints { 1u8 } else { 101 }.wrapping_add(width);
            let data = vec![told; inputs[0].data().len()];
            Ok(vec![Tensor::new(datatype, inputs[0].shape().clone(), data.into()).unwrap()])
        });
        Ok(LoadedModel { digest: ContentDigest::of(b"the same"), ..engine.load(path, options)? })
    }
}

/// A well-known server leaves shape and datatype out of its keys and answers `[3,2]` with what it
/// computed for `[2,3]`.
#[tokio::test]
async fn equal_bytes_of_another_shape_or_type_are_answered_each_for_itself() {
    let worker = start(&["ints", "floats"], &Typed, &WorkerConfig::default());
    let data = bytes::Bytes::from_static(&[0; 24]);
    for (model, datatype, base) in [("ints", DataType::Int32, 1), ("floats", DataType::Fp32, 101)] {
        for sizes in [[2, 3], [3, 2], [1, 6], [6, 1]] {
            let tensor = Tensor::new(datatype, sizes.into(), data.clone()).unwrap();
            let ask = || {
                let inputs = vec![NamedTensor::new("x".into(), tensor.clone())];
                let model = model.parse().unwrap();
                worker.infer(InferRequest { model, inputs, ..row(0.0) })
            };
            let answer = within_patience(ask()).await.unwrap();
            assert_eq!(answer.served.cache, CacheOutcome::Computed, "{model} {sizes:?}");
            assert_eq!(answer.outputs[0].tensor.shape(), &sizes.into());
            let expected = base + sizes[1] as u8;
            assert!(answer.outputs[0].tensor.data().iter().all(|&byte| byte == expected));
            let again = within_patience(ask()).await.unwrap();
            assert_eq!(again.served.cache, CacheOutcome::Hit);
            assert_eq!(again.outputs, answer.outputs);
        }
    }
}

/// A body comes in parts, and a request is the same wherever they were cut: as a whole, and row by
/// row.
#[tokio::test]
async fn bytes_in_segments_are_computed_and_known_as_in_one_piece() {
    const ROWS: u64 = 8;
    let worker = start(&["any"], &any_width(), &WorkerConfig::default());
    let values: Vec<f32> = (0..ROWS * 10_000).map(|value| value as f32).collect();
    let whole = Tensor::from_f32([ROWS, 10_000].into(), &values).unwrap();
    let cut = |size: usize| {
        let segments = whole.data().chunks(size).map(bytes::Bytes::copy_from_slice).collect();
        Tensor::segmented(DataType::Fp32, whole.shape().clone(), segments).unwrap()
    };
    let ask = async |worker: &Worker, tensor: Tensor| {
        let inputs = vec![NamedTensor::new("input".into(), tensor)];
        let request = InferRequest { model: "any".parse().unwrap(), inputs, ..row(0.0) };
        within_patience(worker.infer(request)).await.unwrap()
    };
    let computed = ask(&worker, cut(70_001)).await;
    assert_eq!(computed.served.cache, CacheOutcome::Computed);
    for size in [usize::MAX, 1_000, 65_536, 300_000] {
        let known = ask(&worker, cut(size)).await;
        assert_eq!(known.served.cache, CacheOutcome::Hit, "segments of {size} bytes");
        assert_eq!(known.outputs, computed.outputs);
    }
    let last = Tensor::from_f32([1, 10_000].into(), &values[70_000..]).unwrap();
    assert_eq!(ask(&worker, last).await.served.cache, CacheOutcome::Hit);
    let fresh = start(&["any"], &any_width(), &WorkerConfig::default());
    assert_eq!(ask(&fresh, whole.clone()).await.outputs, computed.outputs);
}

/// Who computes what, and what is asked.
#[derive(Debug, Clone)]
struct Case {
    /// Rows on the second axis and an input without rows, or rows on the first axis.
    recurrent: bool,
    rows_max: usize,
    instances: usize,
    entries: usize,
    /// How many different rows there are.
    variety: u8,
    requests: usize,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let cached = prop_oneof![Just(0), Just(3), Just(100_000)];
    let parts =
        (any::<bool>(), 1usize..=32, 1usize..3, cached, 1u8..=255, 2usize..12, any::<u64>());
    parts.prop_map(|(recurrent, rows_max, instances, entries, variety, requests, seed)| Case {
        recurrent,
        rows_max,
        instances,
        entries,
        variety,
        requests,
        seed,
    })
}

impl Case {
    fn backend(&self) -> FakeBackend {
        if self.recurrent { FakeBackend::recurrent() } else { any_width() }
    }

    fn start(&self, backend: &FakeBackend) -> Arc<Worker> {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("model/1");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(version.join("model.onnx"), "").unwrap();
        if self.recurrent {
            let axes = "[inputs.state]\nbatch_axis = 1\n[outputs.next_state]\nbatch_axis = 1\n";
            std::fs::write(folder.path().join("model/config.toml"), axes).unwrap();
        }
        let queue =
            QueueConfig { size_max: self.rows_max.try_into().unwrap(), ..QueueConfig::default() };
        let config = WorkerConfig {
            cache: CacheConfig { entries: self.entries, ..CacheConfig::default() },
            instances: Some(self.instances.try_into().unwrap()),
            ..queueing(queue)
        };
        let repository = Repository::open([folder.path()]).unwrap();
        let worker =
            Worker::start("worker".into(), repository, Arc::new(backend.clone()), &config).unwrap();
        assert!(worker.models()[0].batching.joins_rows());
        worker
    }

    fn inputs(&self, random: &mut Rng) -> Vec<NamedTensor> {
        let rows: Vec<f32> =
            (0..random.usize(0..70)).map(|_| f32::from(random.u8(..self.variety))).collect();
        let count = rows.len() as u64;
        let floats = |name: &str, shape: Shape, values: Vec<f32>| {
            NamedTensor::new(name.into(), Tensor::from_f32(shape, &values).unwrap())
        };
        if !self.recurrent {
            let width = random.usize(1..4);
            let values = rows.iter().flat_map(|&row| (0..width).map(move |n| row * 0.3 + n as f32));
            return vec![floats("input", [count, width as u64].into(), values.collect())];
        }
        let input = rows.iter().flat_map(|&row| [row, 0.1, row * 0.7, 2.0]).collect();
        let state = (0..2u8)
            .flat_map(|block| rows.iter().flat_map(move |&row| [row, f32::from(block), 0.3]))
            .collect();
        let scale = random.i64(1..3).to_le_bytes().to_vec();
        let scale = Tensor::new(DataType::Int64, Shape::default(), scale.into()).unwrap();
        vec![
            floats("input", [count, 4].into(), input),
            floats("state", [2, count, 3].into(), state),
            NamedTensor::new("scale".into(), scale),
        ]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_answer_is_the_same_however_it_comes_about(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut random = Rng::with_seed(case.seed);
            let backend = case.backend();
            let worker = case.start(&backend);
            // A session of its own computes each request as it is.
            let alone = case.backend().load(Path::new("alone"), &LoadOptions::default());
            let mut alone = alone.unwrap().session;
            let requests: Vec<_> = (0..case.requests).map(|_| case.inputs(&mut random)).collect();
            for round in 0..2 {
                let clients = requests.iter().map(|inputs| {
                    let request = InferRequest { inputs: inputs.clone(), ..row(0.0) };
                    let patience = match random.u8(..4) {
                        0 => Duration::from_micros(random.u64(0..500)),
                        _ => PATIENCE,
                    };
                    let worker = worker.clone();
                    let client =
                        async move { tokio::time::timeout(patience, worker.infer(request)).await };
                    (inputs, tokio::spawn(client), patience)
                });
                let mut answers = Vec::new();
                for (inputs, client, patience) in clients.collect::<Vec<_>>() {
                    match client.await.unwrap() {
                        Ok(answer) => answers.push((inputs, answer.unwrap())),
                        Err(_) => assert!(patience < PATIENCE, "a request that never ends"),
                    }
                }
                for (inputs, answer) in answers {
                    let tensors: Vec<_> = inputs.iter().map(|input| input.tensor.clone()).collect();
                    let expected = alone.execute(&tensors).unwrap();
                    let given: Vec<_> =
                        answer.outputs.iter().map(|output| output.tensor.clone()).collect();
                    assert_eq!(given, expected, "round {round}: {:?}", answer.served);
                }
            }
        });
    }
}
