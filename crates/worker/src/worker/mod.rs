//! The worker itself: a request's way from arrival to answer.

mod inquiry;
mod parts;
mod reply;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use inferring_backend::Backend;
use inferring_repository::Repository;
use inferring_types::{
    Announced, BackendStatus, BatchStatus, Blame, BoxFuture, CacheOutcome, Gauge, InferRequest,
    InferResponse, InferenceService, ModelMetadata, ModelSelector, NamedTensor, NodeAdmin,
    NodeStatus, Reservation, Served, ServiceError, StatusSource, TensorName, WorkerId,
    WorkerStatus,
};

use crate::batcher::Order;
use crate::cache::{ResultCache, Sharing};
use crate::config::WorkerConfig;
use crate::loader::{Loader, StartError};
use crate::model::Model;
use crate::reading;
use crate::registry::Registry;
use crate::sequences;
use crate::system;
use crate::turn;
use crate::watch::Watcher;
use inquiry::Inquiry;
use reply::Reply;

/// Serves the models of a repository.
pub struct Worker {
    id: WorkerId,
    incarnation: u64,
    started: Instant,
    backend: BackendStatus,
    pub(crate) registry: Arc<Registry>,
    pub(crate) loader: Arc<Loader>,
    watcher: Watcher,
    cache: Arc<ResultCache>,
    draining: AtomicBool,
    requests: AtomicU64,
    in_flight: Gauge,
    errors: AtomicU64,
}

impl Worker {
    /// A worker that has loaded nothing yet: it tells how it is, and refuses everything else until
    /// [`Self::load_models`] has come back.
    pub fn new(
        id: WorkerId,
        repository: Repository,
        backend: Arc<dyn Backend>,
        config: &WorkerConfig,
    ) -> Arc<Self> {
        let status = backend.status();
        let (cache, registry) = (ResultCache::new(&config.cache), Arc::new(Registry::default()));
        let loader =
            Loader::new(repository, backend, config.clone(), registry.clone(), cache.clone());
        Arc::new(Self {
            id,
            incarnation: fastrand::u64(1..),
            started: system::now(),
            backend: status,
            registry,
            loader,
            watcher: Watcher::default(),
            cache,
            draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            in_flight: Gauge::default(),
            errors: AtomicU64::new(0),
        })
    }

    /// Loads the models of the repository and takes requests from then on. This blocks while
    /// models are loaded and checked. It is done once: what changes later is loaded by itself.
    ///
    /// # Errors
    /// [`StartError`]: a model that was named by itself, or with `strict` any model, cannot be
    /// loaded, or there is none that can be. It names the model and what is wrong with it. A
    /// worker that could not load its models never takes requests.
    pub fn load_models(&self) -> Result<(), StartError> {
        let snapshot = self.loader.start()?;
        match self.loader.watch_interval() {
            Some(interval) => self.watcher.start(self.loader.clone(), snapshot, interval),
            None => Ok(()),
        }
        .map_err(StartError::Thread)
    }

    /// A worker that has loaded its models. This blocks as [`Self::load_models`] does.
    ///
    /// # Errors
    /// As [`Self::load_models`]; then nothing of the worker is left.
    pub fn start(
        id: WorkerId,
        repository: Repository,
        backend: Arc<dyn Backend>,
        config: &WorkerConfig,
    ) -> Result<Arc<Self>, StartError> {
        let worker = Self::new(id, repository, backend, config);
        worker.load_models()?;
        Ok(worker)
    }

    /// Says so in health checks from now on, so that gateways send nothing more. What comes
    /// all the same is still answered.
    pub fn start_draining(&self) {
        self.set_draining(true);
    }

    /// Finishes a load that is under way, runs what is queued and ends the instances; later
    /// requests are refused. This blocks.
    pub fn close(&self) {
        self.start_draining();
        self.watcher.stop();
        self.loader.close();
    }

    async fn answer(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        let accepted = system::now();
        if request.deadline.has_passed(accepted) {
            return Err(too_late());
        }
        // Held until the answer is there: the model ends when nobody holds it any more.
        let model = self.registry.find(request.selector())?;
        let (statistics, reading) = (&model.executor.statistics, &model.executor.reading);
        let bytes = request.inputs.iter().map(|input| input.tensor.size_bytes() as u64);
        let is_large = reading::is_large(bytes.sum());
        match self.answer_by(&model, request, accepted).await {
            Ok(response) => {
                let served = &response.served;
                if is_large {
                    reading.record(served.cache != CacheOutcome::Computed);
                }
                statistics.answered(served.cache, accepted, served.inference_time);
                Ok(response)
            }
            Err(error) => {
                if is_large && error.blame() != Blame::Client {
                    reading.record(false);
                }
                let now = system::now();
                statistics.failed(now.saturating_duration_since(accepted));
                Err(error.with_load(model.executor.batcher.load(now)))
            }
        }
    }

    async fn answer_by(
        &self,
        model: &Model,
        request: InferRequest,
        accepted: Instant,
    ) -> Result<InferResponse, ServiceError> {
        check_outputs(&model.metadata, &request.outputs)?;
        let (metadata, executor) = (&model.metadata, &model.executor);
        let (inputs, turn) = sequences::arrange(
            request.inputs,
            request.sequence,
            metadata,
            executor.sequences.as_ref(),
            request.deadline,
        )
        .await?;
        executor.batcher.assembly().check(&inputs)?;
        let inquiry = Inquiry {
            cache: &self.cache,
            executor,
            order: Order {
                accepted,
                deadline: request.deadline,
                class: executor.serving.priorities().class(request.priority),
                is_part: false,
            },
            // A step of a sequence is answered in the light of those before: that is nobody else's.
            alone: turn.is_some() || executor.tenant.sharing() == Sharing::Nothing,
        };
        let Reply { outputs, cache, took } = inquiry.answer(inputs).await?;
        // Nothing is awaited from here on: the state moves on, and the answer is given.
        let outputs = match turn {
            Some(turn) => turn.advance(&outputs, &request.outputs)?,
            None => select(&outputs, &request.outputs),
        };
        let now = system::now();
        Ok(InferResponse {
            id: request.id,
            model: metadata.name.clone(),
            version: metadata.version.clone(),
            outputs,
            served: Served {
                worker: self.id.clone(),
                cache,
                inference_time: now.saturating_duration_since(accepted),
                queue_time: took.queue_time,
                execution_time: took.execution_time,
                batch_size: took.batch_size,
                load: executor.batcher.load(now),
            },
            routed: None,
        })
    }

    fn snapshot(&self) -> WorkerStatus {
        let is_loaded = self.registry.is_loaded();
        let catalog = self.registry.catalog();
        let models: Vec<_> = catalog.iter().map(|model| model.status()).collect();
        let batches = models.iter().fold(BatchStatus::default(), |sum, m| sum.plus(m.batches));
        WorkerStatus {
            id: self.id.clone(),
            incarnation: self.incarnation,
            ready: is_loaded && !self.draining.load(Ordering::Relaxed),
            loading: !is_loaded,
            uptime: system::elapsed(self.started),
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.in_flight.value(),
            errors: self.errors.load(Ordering::Relaxed),
            cache: self.cache.status(),
            batches,
            models,
            loads: self.registry.loads(),
            backend: self.backend.clone(),
            resident_memory_bytes: resident_memory_bytes(),
        }
    }
}

impl InferenceService for Worker {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.registry.catalog().iter().map(|model| model.metadata.clone()).collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        self.registry.find(asked).map(|model| model.metadata.clone())
    }

    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        let serves = |asked| self.registry.catalog().get(asked).is_some();
        let is_open = self.registry.is_loaded() && !self.draining.load(Ordering::Relaxed);
        is_open && asked.is_none_or(serves)
    }

    fn anticipate(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        let accepted = system::now();
        let model = self.registry.find(announced.model)?;
        let executor = &model.executor;
        let anticipated = if announced.deadline.has_passed(accepted) {
            Err(too_late())
        } else {
            executor.anticipate(announced).map_err(|error| {
                let now = system::now();
                executor.statistics.failed(now.saturating_duration_since(accepted));
                error.with_load(executor.batcher.load(now))
            })
        };
        anticipated.map_err(|error| {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.errors.fetch_add(1, Ordering::Relaxed);
            error.at_worker(self.id.clone())
        })
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async move {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let _in_flight = self.in_flight.enter();
            self.answer(request).await.map_err(|error| {
                self.errors.fetch_add(1, Ordering::Relaxed);
                error.at_worker(self.id.clone())
            })
        })
    }

    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(turn::attend()))
    }
}

impl StatusSource for Worker {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { Ok(NodeStatus::Worker(Box::new(self.snapshot()))) })
    }
}

impl NodeAdmin for Worker {
    fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

fn too_late() -> ServiceError {
    ServiceError::deadline_exceeded("the deadline had passed when the request arrived")
}

fn check_outputs(model: &ModelMetadata, asked: &[TensorName]) -> Result<(), ServiceError> {
    let known = |name: &TensorName| model.outputs.iter().any(|spec| spec.name == *name);
    match asked.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(stranger) => {
            let names: Vec<_> = model.outputs.iter().map(|spec| spec.name.as_str()).collect();
            Err(ServiceError::invalid(format!(
                "model `{}` has no output `{stranger}`: it has {}",
                model.name,
                names.join(", "),
            )))
        }
    }
}

/// The outputs asked for, in the model's order; all where none is named.
fn select(outputs: &Arc<[NamedTensor]>, asked: &[TensorName]) -> Arc<[NamedTensor]> {
    let is_asked = |output: &&NamedTensor| asked.contains(&output.name);
    if asked.is_empty() || outputs.iter().all(|output| is_asked(&output)) {
        return outputs.clone();
    }
    outputs.iter().filter(is_asked).cloned().collect()
}

/// Resident memory of this process, where the system tells it.
fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
