//! A worker over an engine that a test controls.

use std::future::Future;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use inferring_backend::fake::{FakeBackend, FakeControl};
use inferring_backend::{Backend, ExecuteError, LoadError, LoadOptions, LoadedModel, Run, Session};
use inferring_repository::Repository;
use inferring_types::{
    BackendStatus, BoxFuture, ContentDigest, DataType, Deadline, DeviceStatus, Dimension,
    InferRequest, InferResponse, InferenceService as _, NamedTensor, NodeStatus, ServiceError,
    Shape, ShapeSpec, StatusSource as _, Tensor, TensorSpec, WorkerStatus,
};
use inferring_worker::{QueueConfig, StartError, Worker, WorkerConfig};

/// No step of any test takes nearly this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough that what else a machine does makes no difference that counts.
const EQUAL_RUN: Duration = Duration::from_millis(5);

pub(crate) type Answer = Result<InferResponse, ServiceError>;

/// A worker, and the engine behind it.
pub(crate) struct Fixture {
    pub(crate) worker: Arc<Worker>,
    pub(crate) engine: Arc<FakeControl>,
    runs_at_start: usize,
}

impl Fixture {
    /// A worker whose instances take all that is there, up to the maximum, and never wait for
    /// more: else it depends on what runs were found to cost, which on a busy machine may be
    /// anything.
    pub(crate) fn eager(backend: &FakeBackend, config: &WorkerConfig) -> Self {
        Self::with(backend, &eager(config))
    }

    /// A worker whose runs all take about equally long, however many rows they have.
    pub(crate) fn of_equal_runs(backend: &FakeBackend, config: &WorkerConfig) -> Self {
        backend.control().set_cost(|_| EQUAL_RUN);
        Self::with(backend, config)
    }

    /// A worker with one model `[N,4]` and the settings that a user gets.
    pub(crate) fn new() -> Self {
        Self::with(&FakeBackend::new(), &WorkerConfig::default())
    }

    pub(crate) fn with(backend: &FakeBackend, config: &WorkerConfig) -> Self {
        let worker = start(&["model"], backend, config);
        let engine = backend.control();
        let runs_at_start = engine.rows_of_runs().len();
        Self { worker, engine, runs_at_start }
    }

    /// A worker with one model `[N,D]`: anything of rank two fits.
    pub(crate) fn of_any_width(config: &WorkerConfig) -> Self {
        Self::with(&any_width(), config)
    }

    /// The rows of each run since the start, without those of the check at load.
    pub(crate) fn rows_of_runs(&self) -> Vec<u64> {
        self.engine.rows_of_runs().split_off(self.runs_at_start)
    }

    pub(crate) fn runs(&self) -> usize {
        self.rows_of_runs().len()
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&self, request: InferRequest) -> Answer {
        within_patience(self.worker.infer(request)).await
    }

    /// Asks as far as the request goes without waiting: into the queue, or to another's flight.
    /// The engine is held meanwhile; otherwise the answer may be there at once.
    pub(crate) fn begin(&self, request: InferRequest) -> BoxFuture<'_, Answer> {
        let begun = self.try_to_begin(request);
        begun.unwrap_or_else(|answer| panic!("answered at once: {answer:?}"))
    }

    /// The same, or what it is answered at once.
    pub(crate) fn try_to_begin(
        &self,
        request: InferRequest,
    ) -> Result<BoxFuture<'_, Answer>, Box<Answer>> {
        let mut answer = self.worker.infer(request);
        match pin!(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(answer),
            Poll::Ready(answer) => Err(Box::new(answer)),
        }
    }

    /// Keeps one instance busy, with a request whose answer is returned, until the engine is
    /// released. Until then, requests gather in the queue.
    pub(crate) fn occupy(&self) -> BoxFuture<'_, Answer> {
        self.engine.hold();
        let answer = self.begin(request([1, 4], &[-1.0, -2.0, -3.0, -4.0]));
        assert!(self.engine.wait_until_running(1, PATIENCE));
        answer
    }

    pub(crate) async fn status(&self) -> WorkerStatus {
        status(&self.worker).await
    }
}

impl Drop for Fixture {
    /// A test that fails while it holds the engine must not wait for the held runs for ever.
    fn drop(&mut self) {
        self.engine.release();
    }
}

pub(crate) fn any_width() -> FakeBackend {
    FakeBackend::new().with_shape([Dimension::Dynamic(None), Dimension::Dynamic(None)])
}

/// A worker that serves a model of each name.
pub(crate) fn start(
    names: &[&str],
    backend: &(impl Backend + Clone + 'static),
    config: &WorkerConfig,
) -> Arc<Worker> {
    try_start(names, backend, config).unwrap()
}

pub(crate) fn try_start(
    names: &[&str],
    backend: &(impl Backend + Clone + 'static),
    config: &WorkerConfig,
) -> Result<Arc<Worker>, StartError> {
    // These engines read no files, and nothing is loaded after the start.
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> =
        names.iter().map(|name| folder.path().join(format!("{name}.onnx"))).collect();
    paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
    let repository = Repository::open(&paths).unwrap();
    Worker::start("worker".into(), repository, Arc::new(backend.clone()), &one_instance(config))
}

/// The same settings, but an instance takes all that is there: a batch is held back for nothing,
/// and then is as large as it may be.
pub(crate) fn eager(config: &WorkerConfig) -> WorkerConfig {
    let batching = QueueConfig {
        dispatch_when_idle: false,
        delay_max: Duration::ZERO,
        ..config.batching.clone()
    };
    WorkerConfig { batching, ..config.clone() }
}

/// The same settings, with one instance where they leave the number open: how long a run takes
/// and how many cores there are must not decide what a test sees.
pub(crate) fn one_instance(config: &WorkerConfig) -> WorkerConfig {
    let instances = config.instances.or(Some(NonZeroUsize::MIN));
    WorkerConfig { instances, ..config.clone() }
}

/// The default settings with others about the queue.
pub(crate) fn queueing(batching: QueueConfig) -> WorkerConfig {
    WorkerConfig { batching, ..WorkerConfig::default() }
}

pub(crate) async fn status(worker: &Worker) -> WorkerStatus {
    match worker.status().await.unwrap() {
        NodeStatus::Worker(status) => *status,
        NodeStatus::Gateway(_) => panic!("a worker is no gateway"),
    }
}

pub(crate) async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

/// A request to `model` that may take its time.
pub(crate) fn request(shape: impl Into<Shape>, values: &[f32]) -> InferRequest {
    InferRequest::new(
        "model".parse().unwrap(),
        vec![NamedTensor::new("input".into(), tensor(shape, values))],
        Deadline::after(Instant::now(), 10 * PATIENCE),
    )
}

/// A request of one row of four.
pub(crate) fn row(value: f32) -> InferRequest {
    request([1, 4], &[value, 0.0, 1.0, 2.0])
}

/// The answer to [`row`].
pub(crate) fn row_answer(value: f32) -> Vec<f32> {
    expected(4, &[value, 0.0, 1.0, 2.0])
}

/// The same request with so little time.
pub(crate) fn with_timeout(request: InferRequest, timeout: Duration) -> InferRequest {
    InferRequest { deadline: Deadline::after(Instant::now(), timeout), ..request }
}

pub(crate) fn tensor(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.into(), values).unwrap()
}

/// What [`FakeBackend`] answers to rows of this width, by its documentation.
pub(crate) fn expected(width: usize, values: &[f32]) -> Vec<f32> {
    let answers = values.chunks(width).flat_map(|row| {
        let sum = row.iter().sum::<f32>();
        row.iter().map(move |x| 2.0 * x + sum)
    });
    answers.collect()
}

/// The values of the one output.
pub(crate) fn values(answer: &Answer) -> Vec<f32> {
    let answer = answer.as_ref().unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(answer.outputs.len(), 1);
    answer.outputs[0].tensor.to_f32().unwrap()
}

/// What a model computes.
type Function = fn(&[Tensor]) -> Result<Vec<Tensor>, ExecuteError>;

/// A session that computes any function.
pub(crate) struct FunctionSession(pub(crate) Function);

impl Session for FunctionSession {
    fn run(&mut self, inputs: &[Tensor], _: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        (self.0)(inputs)
    }
}

/// An engine whose every model computes one function of one tensor of this shape.
#[derive(Clone)]
pub(crate) struct FunctionBackend {
    pub(crate) shape: ShapeSpec,
    pub(crate) function: Function,
}

impl Backend for FunctionBackend {
    fn status(&self) -> BackendStatus {
        FakeBackend::new().status()
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let bytes = path.as_os_str().as_encoded_bytes();
        Ok(LoadedModel {
            inputs: vec![spec("input", self.shape.clone())],
            outputs: vec![spec("output", self.shape.clone())],
            digest: ContentDigest::of(bytes),
            size_bytes: bytes.len() as u64,
            device: DeviceStatus { provider: "none".to_owned(), fallback_reason: None },
            deterministic: true,
            notes: Vec::new(),
            session: Box::new(FunctionSession(self.function)),
        })
    }
}

pub(crate) fn spec(name: &str, shape: ShapeSpec) -> TensorSpec {
    TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
}

/// A declared shape of FP32; `None` is a dynamic dimension without a symbol.
pub(crate) fn shape(dimensions: &[Option<u64>]) -> ShapeSpec {
    let dimension = |size: &Option<u64>| size.map_or(Dimension::Dynamic(None), Dimension::Fixed);
    ShapeSpec::new(dimensions.iter().map(dimension))
}
