//! What a model's own settings change about how it is served.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_backend::fake::FakeBackend;
use inferring_backend::{Backend, Device, GraphOptimization, LoadError, LoadOptions, LoadedModel};
use inferring_repository::Repository;
use inferring_types::{
    BackendStatus, CacheOutcome, DataType, Deadline, InferRequest, InferenceService as _,
    ModelConfig, ModelMetadata, ModelRepository as _, ModelSelector, NamedTensor, RowAxes,
    SequenceSpec, ShapeSpec, StateSpec, Tensor, TensorSpec, VersionPolicy,
};
use inferring_worker::{CacheConfig, QueueConfig, Worker, WorkerConfig};

use crate::fixture::{
    Answer, PATIENCE, any_width, eager, queueing, request, row, shape, status, tensor,
    within_patience,
};
use crate::folder::{Folder, Served, ask, serve};

/// A worker with one model `m` of these settings.
fn with(backend: FakeBackend, settings: &str) -> Served {
    let files = [("m/1/model.onnx", "0"), ("m/config.toml", settings)];
    Served::over(backend, &files, &WorkerConfig::default())
}

fn metadata(served: &Served) -> Arc<ModelMetadata> {
    served.worker.model(ModelSelector::default()).unwrap()
}

async fn config(served: &Served) -> ModelConfig {
    served.worker.config(ModelSelector::default()).await.unwrap()
}

/// A request of several rows to the recurrent model, whose scale is the same for all.
fn step(rows: &[[f32; 4]], scale: i64) -> InferRequest {
    let count = rows.len() as u64;
    let state: Vec<f32> = (0..6 * count).map(|n| n as f32 * 0.5).collect();
    let scale = Tensor::new(DataType::Int64, [].into(), scale.to_le_bytes().to_vec().into());
    let inputs = [
        ("input", tensor([count, 4], rows.as_flattened())),
        ("state", tensor([2, count, 3], &state)),
        ("scale", scale.unwrap()),
    ];
    InferRequest {
        model: "m".parse().unwrap(),
        inputs: inputs.map(|(name, tensor)| NamedTensor::new(name.into(), tensor)).into(),
        ..row(0.0)
    }
}

fn tensors(answer: &Answer) -> Vec<Tensor> {
    let answer = answer.as_ref().unwrap_or_else(|error| panic!("{}", error.chain()));
    answer.outputs.iter().map(|output| output.tensor.clone()).collect()
}

const RECURRENT: &str = "[inputs.state]\nbatch_axis = 1\n[outputs.next_state]\nbatch_axis = 1";

#[tokio::test]
async fn a_recurrent_models_rows_are_joined_along_the_axes_that_are_declared() {
    let files = [("m/1/model.onnx", "0"), ("m/config.toml", RECURRENT)];
    let served = Served::over(FakeBackend::recurrent(), &files, &eager(&WorkerConfig::default()));
    let batching = metadata(&served).batching.clone();
    assert!(batching.joins_rows() && batching.reason().contains("proved"), "{batching:?}");
    let axes = RowAxes { inputs: vec![Some(0), Some(1), None], outputs: vec![Some(0), Some(1)] };
    assert_eq!(batching.axes(), Some(&axes));

    // What each request is answered when it runs alone.
    let requests: Vec<_> = [1usize, 2, 3, 1, 2]
        .iter()
        .enumerate()
        .map(|(n, &rows)| {
            let rows: Vec<_> = (0..rows).map(|row| [n as f32, row as f32, 2.0, -1.0]).collect();
            step(&rows, if n == 3 { 5 } else { 2 })
        })
        .collect();
    let alone = with(FakeBackend::recurrent(), "[batching]\nmode = \"alone\"");
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(tensors(&alone.worker.infer(request.clone()).await));
    }

    let before = served.engine.rows_of_runs().len();
    served.engine.hold();
    let busy = tokio::spawn(ask_for(&served.worker, step(&[[9.0; 4]], 2)));
    assert!(wait_until_running(&served).await);
    let begun: Vec<_> =
        requests.iter().map(|r| tokio::spawn(ask_for(&served.worker, r.clone()))).collect();
    queued(&served, 5).await;
    served.engine.release();
    within_patience(busy).await.unwrap().unwrap();
    for (begun, expected) in begun.into_iter().zip(expected) {
        assert_eq!(tensors(&within_patience(begun).await.unwrap()), expected);
    }
    let mut runs = served.engine.rows_of_runs().split_off(before);
    runs.sort_unstable();
    // One of another scale runs by itself; the others, of 1, 2, 3 and 2 rows, together.
    assert_eq!(runs, [1, 1, 8]);
}

fn ask_for(
    worker: &Arc<Worker>,
    request: InferRequest,
) -> impl Future<Output = Answer> + Send + use<> {
    let worker = worker.clone();
    async move { worker.infer(request).await }
}

async fn wait_until_running(served: &Served) -> bool {
    let engine = served.engine.clone();
    let wait = move || engine.wait_until_running(1, PATIENCE);
    tokio::task::spawn_blocking(wait).await.unwrap()
}

/// Waits until so many requests wait for an instance.
async fn queued(served: &Served, requests: u64) {
    within_patience(async {
        while status(&served.worker).await.batches.queued < requests {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn axes_that_are_not_declared_or_not_true_join_nothing() {
    for (settings, reason) in [
        ("", "`state` has shape [2,N,3]: its first dimension is not dynamic"),
        ("[inputs.scale]\nbatch_axis = \"none\"", "proved"),
        ("[inputs.state]\nbatch_axis = 2", "`state` has shape [2,N,3]: its axis 2 is not dynamic"),
        (
            "[inputs.input]\nbatch_axis = \"none\"\n[inputs.state]\nbatch_axis = \"none\"",
            "no input has rows",
        ),
    ] {
        let served = with(FakeBackend::recurrent(), settings);
        let batching = metadata(&served).batching.clone();
        assert!(!batching.joins_rows(), "{settings}: {batching:?}");
        assert!(batching.reason().contains(reason), "{settings}: {}", batching.reason());
        let answer = within_patience(served.worker.infer(step(&[[1.0; 4]; 3], 2))).await;
        assert_eq!(answer.unwrap().served.batch_size, 1);
    }
}

/// What a model does may hang on an input without rows: a sample says which value is in use, and
/// rows are compared under it.
#[tokio::test]
async fn the_check_takes_inputs_without_rows_from_the_samples() {
    let spec = |name: &str, datatype, shape| TensorSpec { name: name.into(), datatype, shape };
    let rows = |name| spec(name, DataType::Fp32, shape(&[None, Some(2)]));
    let rate = spec("rate", DataType::Int64, shape(&[]));
    // At this rate, and no other, the model adds up its rows.
    let mixes_at_16000 = |inputs: &[Tensor]| {
        let numbers = inputs[0].to_f32().unwrap();
        let sum = match inputs[1].data().first_chunk().map(|rate| i64::from_le_bytes(*rate)) {
            Some(16000) => numbers.iter().sum::<f32>(),
            _ => 0.0,
        };
        let answers: Vec<f32> = numbers.iter().map(|x| x + sum).collect();
        Ok(vec![tensor(inputs[0].shape().clone(), &answers)])
    };
    let axes = "[inputs.rate]\nbatch_axis = \"none\"\n";
    let at = |rate: u32| format!("{axes}[[warmup]]\nname = \"s\"\ninputs.rate.values = [{rate}]");
    for (settings, joins) in [(axes.to_owned(), true), (at(8000), true), (at(16000), false)] {
        let (inputs, outputs) = (vec![rows("x"), rate.clone()], vec![rows("y")]);
        let served = with(FakeBackend::computing(inputs, outputs, mixes_at_16000), &settings);
        let batching = metadata(&served).batching.clone();
        assert_eq!(batching.joins_rows(), joins, "{settings}: {batching:?}");
    }
}

#[tokio::test]
async fn an_output_without_rows_is_everybodys_where_that_is_proved() {
    let float =
        |name: &str, shape| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape };
    let rows = || float("x", shape(&[None, Some(2)]));
    let whole =
        |shape: ShapeSpec| vec![float("y", self::shape(&[None, Some(2)])), float("z", shape)];
    let settings = "[outputs.z]\nbatch_axis = \"none\"";
    let same = |inputs: &[Tensor]| Ok(vec![inputs[0].clone(), tensor([3], &[1.0, 2.0, 3.0])]);
    let backend = FakeBackend::computing(vec![rows()], whole(shape(&[Some(3)])), same);
    let served = with(backend, settings);
    assert!(metadata(&served).batching.joins_rows(), "{:?}", metadata(&served).batching);
    // The number of rows is no such thing, and neither is their sum.
    let sum = |inputs: &[Tensor]| {
        let sum = inputs[0].to_f32().unwrap().iter().sum::<f32>();
        Ok(vec![inputs[0].clone(), tensor([1], &[sum])])
    };
    let count = |inputs: &[Tensor]| {
        let rows = inputs[0].shape().dimensions()[0] as f32;
        Ok(vec![inputs[0].clone(), tensor([1], &[rows])])
    };
    let one = || whole(shape(&[Some(1)]));
    for backend in [
        FakeBackend::computing(vec![rows()], one(), sum),
        FakeBackend::computing(vec![rows()], one(), count),
    ] {
        let served = with(backend, settings);
        let batching = metadata(&served).batching.clone();
        assert!(batching.reason().contains("influence each other"), "{batching:?}");
    }
}

#[tokio::test]
async fn a_model_without_inputs_answers_and_its_answer_is_kept() {
    let served = with(FakeBackend::constant(), "");
    let asked = || InferRequest { model: "m".parse().unwrap(), inputs: Vec::new(), ..row(0.0) };
    for outcome in [CacheOutcome::Computed, CacheOutcome::Hit] {
        let answer = within_patience(served.worker.infer(asked())).await;
        assert_eq!(tensors(&answer), [tensor([4], &[1.0, 2.0, 3.0, 4.0])]);
        assert_eq!(answer.unwrap().served.cache, outcome);
    }
}

/// An engine whose models draw random numbers.
struct Random(FakeBackend);

impl Backend for Random {
    fn status(&self) -> BackendStatus {
        self.0.status()
    }

    fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        Ok(LoadedModel { deterministic: false, ..self.0.load(path, options)? })
    }
}

#[tokio::test]
async fn what_a_random_model_draws_for_one_is_given_to_nobody_else() {
    let folder = Folder::of(&[("m/1/model.onnx", "0")]);
    let backend = FakeBackend::new();
    let engine = backend.control();
    let repository = Repository::open([folder.path()]).unwrap();
    let config = WorkerConfig::default();
    let worker = Worker::start("w".into(), repository, Arc::new(Random(backend)), &config).unwrap();
    let config = worker.config(ModelSelector::default()).await.unwrap();
    assert!(!config.response_cache);
    let runs = engine.rows();
    engine.hold();
    let begun: Vec<_> =
        (0..4).map(|_| tokio::spawn(ask_for(&worker, ask("m", None, 1.0)))).collect();
    within_patience(async {
        while status(&worker).await.in_flight < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    engine.release();
    for answer in begun {
        let answer = within_patience(answer).await.unwrap().unwrap();
        assert_eq!(answer.served.cache, CacheOutcome::Computed);
    }
    worker.infer(ask("m", None, 1.0)).await.unwrap();
    assert_eq!(engine.rows() - runs, 5, "a row for each request");
    assert_eq!(status(&worker).await.cache.entries, 0);
}

#[tokio::test]
async fn answers_are_kept_unless_a_model_or_the_worker_says_otherwise() {
    let files = [
        ("kept/1/model.onnx", "0"),
        ("not/1/model.onnx", "0"),
        ("not/config.toml", "cache = false"),
    ];
    let served = Served::of(&files);
    for (model, second) in [("kept", CacheOutcome::Hit), ("not", CacheOutcome::Computed)] {
        served.worker.infer(ask(model, None, 1.0)).await.unwrap();
        let answer = served.worker.infer(ask(model, None, 1.0)).await.unwrap();
        assert_eq!(answer.served.cache, second, "{model}");
        let config = served.worker.config(ModelSelector::named(model)).await.unwrap();
        assert_eq!(config.response_cache, second == CacheOutcome::Hit);
    }
    let none = CacheConfig { entries: 0, ..CacheConfig::default() };
    let served = Served::with(&files, &WorkerConfig { cache: none, ..WorkerConfig::default() });
    let config = served.worker.config(ModelSelector::named("kept")).await.unwrap();
    assert!(!config.response_cache);
}

#[tokio::test]
async fn settings_reach_the_engine_and_the_books() {
    let settings = "instances = 3\ndevice = \"cpu\"\nintra_op_threads = 2\n\
        optimization = \"extended\"\nversions = { latest = 2 }\n\
        [batching]\nsize_max = 8\npreferred_sizes = [4]\ndelay_max = \"3ms\"\n\
        dispatch_when_idle = false";
    let served = with(FakeBackend::new(), settings);
    let loaded = served.engine.loaded();
    assert_eq!(loaded.len(), 3);
    let expected = LoadOptions {
        device: Some(Device::Cpu),
        intra_op_threads: NonZeroUsize::new(2),
        optimization: GraphOptimization::Extended,
        ..LoadOptions::default()
    };
    assert!(loaded.iter().all(|(_, options)| *options == expected), "{loaded:?}");
    let config = config(&served).await;
    assert_eq!(config.version_policy, VersionPolicy::Latest(NonZeroUsize::new(2).unwrap()));
    assert_eq!((config.instances, config.batch_size_max), (3, 8));
    assert_eq!(config.delay_max, Duration::from_millis(3));
    assert_eq!(config.preferred_batch_sizes, [4]);
    assert_eq!(config.file_name, "model.onnx");
    assert_eq!(config.device.provider, "CPUExecutionProvider");
    assert_eq!(config.inputs, metadata(&served).inputs);
}

#[tokio::test]
async fn a_configuration_tells_of_priorities_allowed_sizes_and_sequences() {
    let silent = config(&with(FakeBackend::new(), "")).await;
    assert_eq!((silent.priority_levels, silent.default_priority), (3, 2));
    assert_eq!((silent.allowed_batch_sizes, silent.sequences), (Vec::new(), None));
    let settings = format!(
        "{RECURRENT}\n[batching]\nallowed_sizes = [1, 4]\npriority_levels = 5\n\
         default_priority = 4\n[sequences]\nidle_timeout = \"5s\"\n\
         state = [{{ input = \"state\", output = \"next_state\" }}]"
    );
    let config = config(&with(FakeBackend::recurrent(), &settings)).await;
    assert_eq!((config.priority_levels, config.default_priority), (5, 4));
    assert_eq!((config.allowed_batch_sizes, config.batch_size_max), (vec![1, 4], 4));
    let sequences = SequenceSpec {
        idle_timeout: Duration::from_secs(5),
        count_max: 1024,
        states: vec![StateSpec { input: "state".into(), output: "next_state".into() }],
    };
    assert_eq!(config.sequences, Some(sequences));
}

#[tokio::test]
async fn a_batch_of_a_preferred_size_waits_for_no_more() {
    let settings = "[batching]\nsize_max = 8\npreferred_sizes = [3]\ndispatch_when_idle = false\n\
                    delay_max = \"1h\"";
    let served = with(FakeBackend::new(), settings);
    let before = served.engine.rows_of_runs().len();
    let begun = (0..3u8).map(|n| ask_for(&served.worker, ask("m", None, f32::from(n))));
    for answer in begun.map(tokio::spawn).collect::<Vec<_>>() {
        within_patience(answer).await.unwrap().unwrap();
    }
    assert_eq!(served.engine.rows_of_runs().split_off(before), [3]);
}

/// Whoever waits by the clock wakes late, and a run of a fast model takes less time than that.
#[tokio::test]
async fn a_request_that_is_held_back_is_answered_before_its_deadline() {
    let settings = "[batching]\nsize_max = 8\ndispatch_when_idle = false\ndelay_max = \"1h\"";
    let served = with(FakeBackend::new(), settings);
    // A machine may be so busy that some come too late. Without a margin all did.
    for number in 0..50_u8 {
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(50));
        let request = InferRequest { deadline, ..ask("m", None, f32::from(number)) };
        if within_patience(served.worker.infer(request)).await.is_ok() {
            return;
        }
    }
    panic!("none of 50 was answered in time");
}

#[tokio::test]
async fn a_triton_configuration_bounds_batches() {
    let tensors = "input [{ name: \"input\" data_type: TYPE_FP32 dims: [ 4 ] }]\n\
                   output [{ name: \"output\" data_type: TYPE_FP32 dims: [ 4 ] }]";
    for (max, expected) in [(0, 0), (6, 6)] {
        let tensors = if max == 0 { tensors.replace("[ 4 ]", "[ -1, 4 ]") } else { tensors.into() };
        let text = format!("max_batch_size: {max}\n{tensors}");
        let files = [("m/1/model.onnx", "0"), ("m/config.pbtxt", &*text)];
        let served = Served::of(&files);
        assert_eq!(metadata(&served).batch_size_max, expected, "{:?}", metadata(&served));
        assert_eq!(metadata(&served).inputs[0].shape.to_string(), "[N,4]");
    }
}

#[tokio::test]
async fn settings_that_do_not_fit_the_model_fail_its_load() {
    for (settings, reason) in [
        ("[inputs.pixels]\nbatch_axis = 0", "the model has no input `pixels`: it has `input`"),
        ("[inputs.input]\ndatatype = \"INT64\"", "`input` is said to be INT64, and is FP32"),
        ("[outputs.output]\nshape = [-1, 5]", "said to have shape [?,5], and has [N,4]"),
        ("device = \"cuda:1\"", "the fake engine has no GPU"),
    ] {
        let folder = Folder::of(&[("m/1/model.onnx", "0"), ("m/config.toml", settings)]);
        let error = serve(&folder, FakeBackend::new(), &WorkerConfig::default()).map(|_| ());
        let error = inferring_types::ServiceError::failed("").caused_by(error.unwrap_err());
        assert!(error.chain().to_string().contains(reason), "{}", error.chain());
    }
}

/// A size that the settings fix is held against requests.
#[tokio::test]
async fn a_shape_that_is_narrowed_admits_nothing_else() {
    let served = with(any_width(), "[inputs.input]\nshape = [-1, 3]");
    let ask = |width: u64| {
        let model = "m".parse().unwrap();
        let request = request([1, width], &vec![1.0; width as usize]);
        served.worker.infer(InferRequest { model, ..request })
    };
    assert!(ask(3).await.is_ok());
    let error = ask(4).await.unwrap_err();
    assert!(error.to_string().contains("expected FP32 [?,3]"), "{error}");
}

#[tokio::test]
async fn samples_are_run_on_every_instance_before_a_model_is_served() {
    let settings = "instances = 2\n[batching]\nmode = \"alone\"\n\
        [[warmup]]\nname = \"two\"\nbatch_size = 2\ncount = 3\n\
        [warmup.inputs.input]\nshape = [4]\nvalues = [1, 2, 3, 4]\n\
        [[warmup]]\nname = \"zeros\"\n";
    let served = with(FakeBackend::new(), settings);
    let mut runs = served.engine.rows_of_runs();
    assert_eq!(runs.remove(0), 1, "the search for inputs that it runs");
    runs.sort_unstable();
    // What follows the samples is for learning what a run costs.
    let learning = [1; 6];
    assert_eq!(runs, [&[1, 1][..], &learning, &[2; 6]].concat());
    let statistics = served.worker.statistics(None).await.unwrap();
    assert_eq!(statistics[0].executions, 0, "nobody asked for these");
}

#[tokio::test]
async fn a_model_that_does_not_run_its_samples_is_not_served() {
    let served = Served::of(&[("m/1/model.onnx", "100")]);
    served.folder.write("m/2/model.onnx", "200");
    served.folder.write(
        "m/config.toml",
        "[[warmup]]\nname = \"poison\"\n[warmup.inputs.input]\nshape = [1, 4]\n\
         values = [-777, 0, 0, 0]",
    );
    served.engine.set_poison(Some(-777.0));
    let error = served.load("m").await.unwrap_err().to_string();
    assert!(error.contains("warm-up sample `poison` failed: a row holds the poison"), "{error}");
    assert_eq!(served.number("m", None).await, 100.0);
    let index = served.index().await;
    assert!(index[1].starts_with("m/2 UNAVAILABLE") && index[1].contains("poison"), "{index:?}");
    served.engine.set_poison(None);
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
}

#[tokio::test]
async fn what_a_model_does_is_counted_for_each_version() {
    let files = [
        ("m/1/model.onnx", "100"),
        ("m/2/model.onnx", "200"),
        ("m/config.toml", "versions = \"all\""),
        ("n/1/model.onnx", "0"),
    ];
    let served = Served::with(&files, &queueing(QueueConfig::default()));
    served.engine.hold();
    let busy = tokio::spawn(ask_for(&served.worker, ask("m", Some("2"), 0.0)));
    assert!(wait_until_running(&served).await);
    let values = [1.0, 2.0, 3.0, 1.0];
    let begun = values.map(|v| tokio::spawn(ask_for(&served.worker, ask("m", None, v))));
    queued(&served, 3).await;
    within_patience(async {
        while status(&served.worker).await.in_flight < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    served.engine.release();
    for answer in begun.into_iter().chain([busy]) {
        within_patience(answer).await.unwrap().unwrap();
    }
    served.worker.infer(ask("m", None, 2.0)).await.unwrap();
    served
        .worker
        .infer(InferRequest { inputs: Vec::new(), ..ask("m", None, 2.0) })
        .await
        .unwrap_err();

    let all = served.worker.statistics(None).await.unwrap();
    let names: Vec<_> = all.iter().map(|s| format!("{}/{}", s.name, s.version)).collect();
    assert_eq!(names, ["m/1", "m/2", "n/1"]);
    let both = served.worker.statistics(Some(ModelSelector::named("m"))).await.unwrap();
    assert_eq!(both, all[..2]);
    let newest = ModelSelector::new("m", Some("2"));
    let [two] = &served.worker.statistics(Some(newest)).await.unwrap()[..] else { panic!() };

    assert_eq!((two.success.count, two.fail.count), (6, 1));
    // One of two equal requests joined the other, and one came later.
    assert_eq!((two.cache_hit.count, two.cache_miss.count), (2, 4));
    assert_eq!((two.inferences, two.executions), (4, 2));
    assert_eq!((two.queue.count, two.compute_infer.count), (4, 4));
    let sizes: Vec<_> = two.batches.iter().map(|b| (b.batch_size, b.compute_infer.count)).collect();
    assert_eq!(sizes, [(1, 1), (3, 1)]);
    assert!(two.compute_infer.total > Duration::ZERO && two.queue.total > Duration::ZERO);
    assert!(two.success.total >= two.compute_infer.total / 3);
    let age = two.last_inference.unwrap().elapsed().unwrap_or_default();
    assert!(age < PATIENCE, "{age:?}");
    assert_eq!((all[0].success.count, all[0].last_inference), (0, None));
}
