//! A node that gives back what it gets.

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime};

use inferring_types::{
    Announced, BackendStatus, BatchStatus, Batching, BoxFuture, CacheOutcome, CacheStatus,
    ContentDigest, DataType, DeviceStatus, Dimension, IndexEntry, InferRequest, InferResponse,
    InferenceService, LoadRequest, ModelCatalog, ModelConfig, ModelMetadata, ModelName,
    ModelRepository, ModelSelector, ModelState, ModelStatistics, ModelStatus, ModelVersion,
    NodeAdmin, NodeStatus, Reservation, RouteReason, Routed, Served, ServiceError, ShapeSpec,
    StatusSource, TensorSpec, VersionPolicy, WorkerLoad, WorkerStatus,
};

/// The first value of a request that is answered only when the test says so.
pub(crate) const HELD: f32 = -1.0;

/// The first value of a request that meets a defect.
pub(crate) const DEFECT: f32 = -2.0;

/// The first value of a request that finds the queue full, for another 1500 ms.
pub(crate) const FULL: f32 = -3.0;

/// The first value of a request that a gateway would have had answered by its second worker.
pub(crate) const ROUTED: f32 = -4.0;

/// The first value of a request for which a gateway would have asked two workers in vain.
pub(crate) const LOST: f32 = -5.0;

/// The first value of a request that another worker may know how to answer.
pub(crate) const STRANGE: f32 = -7.0;

/// What a worker would have told of its queue.
pub(crate) const LOAD: WorkerLoad =
    WorkerLoad { wait: Duration::from_micros(120), run: Duration::from_micros(45) };

/// How a gateway would have come to the second worker.
const SECOND: Routed =
    Routed { attempt: 2, reason: RouteReason::Retry, time: Duration::from_micros(25) };

/// Serves the model `echo` in two versions: one input `x`, one output of the same content.
pub(crate) struct EchoNode {
    pub(crate) is_ready: AtomicBool,
    /// Requests that have begun and not ended.
    pub(crate) in_flight: AtomicUsize,
    /// As many as there ever were of them.
    pub(crate) in_flight_max: AtomicUsize,
    /// Lets go of those that are held, and of all that come after.
    pub(crate) releases: tokio::sync::watch::Sender<bool>,
    /// The threads on which it was made ready.
    pub(crate) warm_threads: Mutex<HashSet<ThreadId>>,
    /// The threads that it attends to.
    pub(crate) attended_threads: Arc<Mutex<HashSet<ThreadId>>>,
    /// Whether it takes no large requests.
    pub(crate) is_full: AtomicBool,
    /// What was announced to it.
    pub(crate) announced: Mutex<Vec<Announcement>>,
    /// Requests for which something is kept free.
    pub(crate) expected: Arc<AtomicUsize>,
    /// As many of them as there were when a request was last handed over.
    pub(crate) expected_then: AtomicUsize,
}

/// What a head told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) model: Option<String>,
    pub(crate) body_bytes: Option<u64>,
    pub(crate) tensor_bytes: Option<u64>,
    pub(crate) remaining: Duration,
}

/// One for whom something is kept free.
struct Expected(Arc<AtomicUsize>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl EchoNode {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_ready: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
            releases: tokio::sync::watch::Sender::new(false),
            warm_threads: Mutex::default(),
            attended_threads: Arc::default(),
            is_full: AtomicBool::new(false),
            announced: Mutex::default(),
            expected: Arc::default(),
            expected_then: AtomicUsize::new(0),
        })
    }

    pub(crate) fn release(&self) {
        self.releases.send_replace(true);
    }

    /// Completes when so many requests are being answered.
    pub(crate) async fn until_in_flight(&self, count: usize) {
        while self.in_flight.load(Ordering::SeqCst) != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Completes when something has been announced.
    pub(crate) async fn announced(&self) {
        while self.announced.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn catalog() -> ModelCatalog<Arc<ModelMetadata>> {
        let version = |version: &str, aliases: &[&str]| {
            let tensor = |name: &str| TensorSpec {
                name: name.into(),
                datatype: DataType::Fp32,
                shape: ShapeSpec::new([Dimension::Dynamic(None), Dimension::Dynamic(None)]),
            };
            Arc::new(ModelMetadata {
                name: "echo".parse().unwrap(),
                version: version.parse().unwrap(),
                aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
                digest: ContentDigest::of(b"echo"),
                size_bytes: 1,
                inputs: vec![tensor("x")],
                outputs: vec![tensor("y")],
                batching: Batching::Alone { reason: "made up".into() },
                batch_size_max: 0,
            })
        };
        ModelCatalog::new([version("1", &["stable"]), version("2", &[])])
    }

    async fn echo(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        let model = self.model(request.selector())?;
        let mut outputs = model.arrange(request.inputs)?;
        let values = outputs[0].tensor.to_f32().unwrap();
        let first = values.first().copied();
        assert_ne!(first, Some(DEFECT), "a defect");
        if first == Some(FULL) {
            return Err(full());
        }
        if first == Some(STRANGE) {
            return Err(ServiceError::invalid("what is it?").retryable());
        }
        if first == Some(LOST) {
            let lost = ServiceError::unreachable("worker `echo_2` does not answer");
            return Err(lost.at_worker("echo_2".into()).routed(SECOND).with_load(LOAD));
        }
        if first == Some(HELD) {
            let mut released = self.releases.subscribe();
            let released = released.wait_for(|&released| released);
            let deadline = tokio::time::Instant::from_std(request.deadline.at());
            if tokio::time::timeout_at(deadline, released).await.is_err() {
                return Err(ServiceError::deadline_exceeded("the deadline passed"));
            }
        }
        outputs[0].name = "y".into();
        Ok(InferResponse {
            id: request.id,
            model: model.name.clone(),
            version: model.version.clone(),
            outputs: outputs.into(),
            served: Served {
                worker: "echo_1".into(),
                cache: CacheOutcome::Computed,
                inference_time: Duration::from_micros(5),
                queue_time: Duration::ZERO,
                execution_time: Duration::from_micros(3),
                batch_size: 1,
                load: LOAD,
            },
            routed: (first == Some(ROUTED)).then_some(SECOND),
        })
    }
}

fn full() -> ServiceError {
    let full = ServiceError::overloaded("the queue is full");
    full.retry_after(Duration::from_millis(1500)).with_load(LOAD)
}

/// Counts a request until it is answered or given up.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl InferenceService for EchoNode {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        Self::catalog().iter().cloned().collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        Self::catalog().find(asked).cloned()
    }

    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        self.is_ready.load(Ordering::SeqCst)
            && asked.is_none_or(|asked| Self::catalog().get(asked).is_some())
    }

    fn anticipate(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        self.announced.lock().unwrap().push(Announcement {
            model: announced.model.name.map(str::to_owned),
            body_bytes: announced.body_bytes,
            tensor_bytes: announced.tensor_bytes,
            remaining: announced.deadline.remaining(Instant::now()),
        });
        if self.is_full.load(Ordering::SeqCst) {
            return Err(full());
        }
        self.expected.fetch_add(1, Ordering::SeqCst);
        Ok(Reservation::new(Expected(self.expected.clone())))
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async {
            self.expected_then.store(self.expected.load(Ordering::SeqCst), Ordering::SeqCst);
            let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.in_flight_max.fetch_max(in_flight, Ordering::SeqCst);
            let _in_flight = InFlight(&self.in_flight);
            self.echo(request).await
        })
    }

    fn keep_warm(&self) -> BoxFuture<'_, ()> {
        self.warm_threads.lock().unwrap().insert(std::thread::current().id());
        Box::pin(std::future::ready(()))
    }

    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        let attended = self.attended_threads.clone();
        Some(Box::pin(async move {
            attended.lock().unwrap().insert(std::thread::current().id());
        }))
    }
}

impl StatusSource for EchoNode {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        let models = self.models().into_iter().map(|metadata| ModelStatus {
            metadata,
            device: DeviceStatus { provider: "Fake".into(), fallback_reason: None },
            batches: BatchStatus::default(),
        });
        let status = WorkerStatus {
            id: "echo_1".into(),
            incarnation: 1,
            ready: self.is_ready.load(Ordering::SeqCst),
            loading: false,
            uptime: Duration::ZERO,
            requests: 0,
            in_flight: 0,
            errors: 0,
            cache: CacheStatus::default(),
            batches: BatchStatus::default(),
            models: models.collect(),
            backend: BackendStatus {
                name: "fake".into(),
                version: "1".into(),
                library: None,
                found_by: None,
            },
            loads: Vec::new(),
            resident_memory_bytes: None,
        };
        Box::pin(async { Ok(NodeStatus::Worker(Box::new(status))) })
    }
}

impl NodeAdmin for EchoNode {
    fn set_draining(&self, draining: bool) {
        self.is_ready.store(!draining, Ordering::SeqCst);
    }
}

impl ModelRepository for EchoNode {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        let entry = |version: &str, state| IndexEntry {
            name: "echo".parse().unwrap(),
            version: Some(version.parse().unwrap()),
            state,
            reason: String::new(),
        };
        let entries = vec![entry("1", ModelState::Ready), entry("3", ModelState::Unavailable)];
        Box::pin(async { Ok(entries) })
    }

    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            match request.config.as_deref() {
                Some("wait") => pending().await,
                Some(config) => Err(ServiceError::invalid(format!("cannot use `{config}`"))),
                None => Ok(()),
            }
        })
    }

    fn unload(&self, model: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            self.model(ModelSelector::named(model.as_str()))?;
            Ok(())
        })
    }

    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async move {
            let model = self.model(model)?;
            Ok(ModelConfig {
                name: model.name.clone(),
                version_policy: VersionPolicy::All,
                batch_size_max: 0,
                inputs: model.inputs.clone(),
                outputs: model.outputs.clone(),
                instances: 1,
                device: DeviceStatus {
                    provider: "CPUExecutionProvider".into(),
                    fallback_reason: None,
                },
                delay_max: Duration::ZERO,
                preferred_batch_sizes: Vec::new(),
                allowed_batch_sizes: Vec::new(),
                priority_levels: 3,
                default_priority: 2,
                sequences: None,
                response_cache: false,
                file_name: "model.onnx".into(),
                batching: model.batching.clone(),
            })
        })
    }

    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async move {
            let model = self.model(model.unwrap_or_default())?;
            let mut statistics = ModelStatistics::new(model.name.clone(), ModelVersion::first());
            statistics.last_inference = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
            statistics.success.add(Duration::from_nanos(7));
            Ok(vec![statistics])
        })
    }
}
