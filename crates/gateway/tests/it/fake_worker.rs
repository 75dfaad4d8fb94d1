//! A worker that does as a test tells it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inferring_types::{
    BackendStatus, BatchStatus, Batching, BoxFuture, CacheOutcome, CacheStatus, ContentDigest,
    DataType, DeviceStatus, Dimension, DrainListener, IndexEntry, InferRequest, InferResponse,
    InferenceService, LoadRequest, ModelCatalog, ModelConfig, ModelMetadata, ModelName,
    ModelRepository, ModelSelector, ModelStatistics, ModelStatus, ModelVersion, NodeStatus, Served,
    ServiceError, ShapeSpec, StatusSource, TensorSpec, VersionPolicy, WorkerId, WorkerLoad,
    WorkerStatus,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How a worker answers requests.
#[derive(Clone)]
pub(crate) enum Answer {
    /// With the inputs.
    Echo,
    /// With the inputs, later.
    After(Duration),
    /// With the inputs, when somebody attends to a thread.
    WhenAttended,
    /// With the inputs, after that time in the queue.
    Queued(Duration),
    /// With this error.
    Error(ServiceError),
    /// With this error, later.
    ErrorAfter(Duration, ServiceError),
    /// One of so many requests with this error, the others with the inputs.
    OneOf(u64, ServiceError),
    /// Never.
    Never,
}

/// How a worker answers probes.
#[derive(Clone, Copy)]
pub(crate) enum Presence {
    There,
    Loading,
    Draining,
    Refusing,
    Silent,
}

struct Script {
    answer: Answer,
    presence: Presence,
    incarnation: u64,
    /// How long its answers to probes are on their way.
    probe_delay: Duration,
    listener: Option<DrainListener>,
    models: Vec<Arc<ModelMetadata>>,
    index: Vec<IndexEntry>,
    load_error: Option<ServiceError>,
    load: WorkerLoad,
}

/// A worker that does as it is told, and writes into the fleet's journal that it was asked.
pub(crate) struct FakeWorker {
    pub(crate) id: WorkerId,
    script: Mutex<Script>,
    journal: Arc<Mutex<Vec<WorkerId>>>,
    broken: Notify,
    attended: Arc<Notify>,
    cancelled: AtomicU64,
    /// How often it was asked while one of some was to fail.
    asked: AtomicU64,
}

/// A request that a worker is busy with. Whoever asks may give it up.
struct Busy<'a> {
    worker: &'a FakeWorker,
    is_done: bool,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.worker.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FakeWorker {
    /// One that serves the model `m` and answers with the inputs.
    pub(crate) fn new(id: WorkerId, journal: Arc<Mutex<Vec<WorkerId>>>) -> Self {
        let script = Mutex::new(Script {
            answer: Answer::Echo,
            presence: Presence::There,
            incarnation: 1,
            probe_delay: Duration::ZERO,
            listener: None,
            models: vec![model("m")],
            index: Vec::new(),
            load_error: None,
            load: WorkerLoad::default(),
        });
        let (broken, attended, cancelled) = (Notify::new(), Arc::default(), AtomicU64::new(0));
        let asked = AtomicU64::new(0);
        Self { id, script, journal, broken, attended, cancelled, asked }
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id.clone()
    }

    pub(crate) fn answers(&self, answer: Answer) {
        self.script.lock().answer = answer;
    }

    pub(crate) fn is(&self, presence: Presence) {
        self.script.lock().presence = presence;
    }

    /// Says beside its answers that it drains.
    pub(crate) fn says_it_drains(&self) {
        let listener = self.script.lock().listener.clone();
        listener.expect("a gateway listens")();
    }

    /// What it answers to probes from now on arrives so much later.
    pub(crate) fn answers_probes_after(&self, delay: Duration) {
        self.script.lock().probe_delay = delay;
    }

    /// Nobody listens at its address: neither for requests nor for probes.
    pub(crate) fn dies(&self) {
        self.answers(Answer::Error(ServiceError::unreachable("connection refused").unsent()));
        self.is(Presence::Refusing);
    }

    /// Is killed: the connections of the requests that it is busy with break, and nobody listens
    /// any more.
    pub(crate) fn is_killed(&self) {
        self.dies();
        self.broken.notify_waiters();
    }

    /// Requests that were given up while it was busy with them.
    pub(crate) fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Is there and answers, as a new process.
    pub(crate) fn restarts(&self) {
        let mut script = self.script.lock();
        script.answer = Answer::Echo;
        script.presence = Presence::There;
        script.incarnation += 1;
    }

    /// Is there and answers, as the process that it was.
    pub(crate) fn recovers(&self) {
        self.answers(Answer::Echo);
        self.is(Presence::There);
    }

    /// Tells this of its queue with each answer.
    pub(crate) fn tells(&self, load: WorkerLoad) {
        self.script.lock().load = load;
    }

    pub(crate) fn serves(&self, models: &[&str]) {
        self.script.lock().models = models.iter().map(|name| model(name)).collect();
    }

    pub(crate) fn lists(&self, index: Vec<IndexEntry>) {
        self.script.lock().index = index;
    }

    pub(crate) fn refuses_loads(&self, error: ServiceError) {
        self.script.lock().load_error = Some(error);
    }

    fn served(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        ModelCatalog::new(self.script.lock().models.iter().cloned()).find(asked).cloned()
    }

    async fn execute(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        let answer = self.script.lock().answer.clone();
        let (mut queue_time, mut execution_time) = (Duration::ZERO, Duration::ZERO);
        match answer {
            Answer::Echo => {}
            Answer::After(delay) => {
                tokio::time::sleep(delay).await;
                execution_time = delay;
            }
            Answer::WhenAttended => self.attended.notified().await,
            Answer::Queued(delay) => {
                tokio::time::sleep(delay).await;
                queue_time = delay;
            }
            Answer::Error(error) => return Err(error),
            Answer::ErrorAfter(delay, error) => {
                tokio::time::sleep(delay).await;
                return Err(error);
            }
            Answer::OneOf(many, error) => {
                if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(many) {
                    return Err(error);
                }
            }
            Answer::Never => pending().await,
        }
        let mut response = self.echo(request);
        response.served.queue_time = queue_time;
        response.served.execution_time = execution_time;
        Ok(response)
    }

    fn echo(&self, request: InferRequest) -> InferResponse {
        InferResponse {
            id: request.id,
            model: request.model,
            version: ModelVersion::first(),
            outputs: request.inputs.into(),
            served: Served {
                worker: self.id(),
                cache: CacheOutcome::Computed,
                inference_time: Duration::ZERO,
                queue_time: Duration::ZERO,
                execution_time: Duration::ZERO,
                batch_size: 1,
                load: self.script.lock().load,
            },
            routed: None,
        }
    }
}

impl InferenceService for FakeWorker {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.script.lock().models.clone()
    }

    fn model(&self, _: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        unreachable!("a gateway knows models from statuses")
    }

    fn is_ready(&self, _: Option<ModelSelector<'_>>) -> bool {
        matches!(self.script.lock().presence, Presence::There)
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async move {
            self.journal.lock().push(self.id());
            let mut busy = Busy { worker: self, is_done: false };
            let broken = self.broken.notified();
            let result = tokio::select! {
                result = self.execute(request) => result,
                () = broken => Err(ServiceError::unreachable("the connection broke off")),
            };
            busy.is_done = true;
            result
        })
    }

    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        let attended = self.attended.clone();
        Some(Box::pin(async move { attended.notify_one() }))
    }
}

impl ModelRepository for FakeWorker {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        Box::pin(async { Ok(self.script.lock().index.clone()) })
    }

    /// Loads version 2, from then on, unless the script says why not.
    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            let mut script = self.script.lock();
            if let Some(error) = &script.load_error {
                return Err(error.clone());
            }
            let mut loaded = (*model(request.model.as_str())).clone();
            loaded.version = "2".parse().unwrap();
            script.models.retain(|model| model.name != request.model);
            script.models.push(loaded.into());
            Ok(())
        })
    }

    fn unload(&self, name: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            let mut script = self.script.lock();
            let before = script.models.len();
            script.models.retain(|model| model.name != name);
            if script.models.len() < before {
                Ok(())
            } else {
                Err(ServiceError::not_found("no such model"))
            }
        })
    }

    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async move {
            let served = self.served(model)?;
            Ok(ModelConfig {
                name: served.name.clone(),
                version_policy: VersionPolicy::default(),
                batch_size_max: 0,
                inputs: served.inputs.clone(),
                outputs: served.outputs.clone(),
                instances: 1,
                device: DeviceStatus { provider: "Fake".into(), fallback_reason: None },
                delay_max: Duration::ZERO,
                preferred_batch_sizes: Vec::new(),
                allowed_batch_sizes: Vec::new(),
                priority_levels: 3,
                default_priority: 2,
                sequences: None,
                response_cache: true,
                file_name: "model.onnx".into(),
                batching: served.batching.clone(),
            })
        })
    }

    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async move {
            let served = self.served(model.unwrap_or_default())?;
            let mut statistics = ModelStatistics::new(served.name.clone(), served.version.clone());
            statistics.inferences = 10;
            Ok(vec![statistics])
        })
    }
}

impl StatusSource for FakeWorker {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async {
            let presence = self.script.lock().presence;
            match presence {
                Presence::Refusing => return Err(ServiceError::unreachable("connection refused")),
                Presence::Silent => pending().await,
                Presence::There | Presence::Loading | Presence::Draining => {}
            }
            let status = self.node_status(presence);
            let delay = self.script.lock().probe_delay;
            tokio::time::sleep(delay).await;
            Ok(status)
        })
    }

    fn on_draining(&self, listener: DrainListener) {
        self.script.lock().listener = Some(listener);
    }
}

impl FakeWorker {
    fn node_status(&self, presence: Presence) -> NodeStatus {
        let script = self.script.lock();
        let loading = matches!(presence, Presence::Loading);
        let served = script.models.iter().filter(|_| !loading);
        let models = served.cloned().map(|metadata| ModelStatus {
            metadata,
            device: DeviceStatus { provider: "Fake".into(), fallback_reason: None },
            batches: BatchStatus::default(),
        });
        NodeStatus::Worker(Box::new(WorkerStatus {
            id: self.id(),
            incarnation: script.incarnation,
            ready: matches!(presence, Presence::There),
            loading,
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
        }))
    }
}

/// A model of one number.
fn model(name: &str) -> Arc<ModelMetadata> {
    let number = TensorSpec {
        name: "x".into(),
        datatype: DataType::Fp32,
        shape: ShapeSpec::new([Dimension::Fixed(1)]),
    };
    Arc::new(ModelMetadata {
        name: name.parse().unwrap(),
        version: ModelVersion::first(),
        aliases: Vec::new(),
        digest: ContentDigest::of(name.as_bytes()),
        size_bytes: 1,
        inputs: vec![number.clone()],
        outputs: vec![number],
        batching: Batching::Alone { reason: "a test".into() },
        batch_size_max: 0,
    })
}
