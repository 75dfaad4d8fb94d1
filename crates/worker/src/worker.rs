//! The worker itself: a request's way from arrival to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_backend::Backend;
use inferring_types::{
    BackendStatus, BatchStatus, BoxFuture, CacheOutcome, Deadline, Gauge, InferRequest,
    InferResponse, InferenceService, ModelCatalog, ModelMetadata, ModelSelector, NamedTensor,
    NodeStatus, Served, ServiceError, StatusSource, TensorName, WorkerId, WorkerStatus,
};

use crate::cache::{Answer, Lookup, ResultCache, Ticket};
use crate::config::WorkerConfig;
use crate::model::Model;
use crate::registry::{self, ModelFile, StartError};

/// Serves the models of this process.
pub struct Worker {
    id: WorkerId,
    incarnation: u64,
    started: Instant,
    backend: BackendStatus,
    models: ModelCatalog<Arc<Model>>,
    cache: Arc<ResultCache>,
    draining: AtomicBool,
    requests: AtomicU64,
    in_flight: Gauge,
    errors: AtomicU64,
}

impl Worker {
    /// Loads `files` and starts serving them. This blocks while models are loaded and checked.
    ///
    /// # Errors
    /// [`StartError`], naming the file and what is wrong with it.
    pub fn start(
        id: WorkerId,
        files: &[ModelFile],
        backend: &dyn Backend,
        config: &WorkerConfig,
    ) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self {
            id,
            incarnation: fastrand::u64(1..),
            started: Instant::now(),
            backend: backend.status(),
            models: registry::load_all(files, backend, config)?,
            cache: ResultCache::new(&config.cache),
            draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            in_flight: Gauge::default(),
            errors: AtomicU64::new(0),
        }))
    }

    /// Says so in health checks from now on, so that gateways send nothing more. What comes
    /// all the same is still answered.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Runs what is queued and ends the instances; later requests are refused. This blocks.
    pub fn close(&self) {
        self.start_draining();
        for model in self.models.iter() {
            model.close();
        }
    }

    async fn answer(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        let accepted = Instant::now();
        if request.deadline.has_passed(accepted) {
            return Err(ServiceError::deadline_exceeded(
                "the deadline had passed when the request arrived",
            ));
        }
        let model = self.models.find(request.selector())?;
        check_outputs(&model.metadata, &request.outputs)?;
        let inputs = model.metadata.arrange(request.inputs)?;
        let key = model.cache_key(&inputs);
        let deadline = request.deadline;
        let (answer, cache) = match self.cache.get_or_lead(key, deadline, accepted) {
            Lookup::Hit(answer) => (answer, CacheOutcome::Hit),
            Lookup::Join(ticket) => (wait(ticket, deadline).await?, CacheOutcome::Joined),
            Lookup::Lead(ticket, leader) => {
                let inputs = inputs.into_iter().map(|input| input.tensor).collect();
                model.batcher.submit(inputs, accepted, leader);
                (wait(ticket, deadline).await?, CacheOutcome::Computed)
            }
        };
        Ok(InferResponse {
            id: request.id,
            model: model.metadata.name.clone(),
            version: model.metadata.version.clone(),
            outputs: select(&answer.outputs, &request.outputs),
            served: self.served(&answer, cache, accepted),
        })
    }

    fn served(&self, answer: &Answer, cache: CacheOutcome, accepted: Instant) -> Served {
        let hit = cache == CacheOutcome::Hit;
        Served {
            worker: self.id.clone(),
            cache,
            inference_time: accepted.elapsed(),
            queue_time: if hit { Duration::ZERO } else { answer.queue_time },
            execution_time: if hit { Duration::ZERO } else { answer.execution_time },
            batch_size: if hit { 0 } else { answer.batch_size },
        }
    }

    fn snapshot(&self) -> WorkerStatus {
        let models: Vec<_> = self.models.iter().map(|model| model.status()).collect();
        let batches = models.iter().fold(BatchStatus::default(), |sum, m| sum.plus(m.batches));
        WorkerStatus {
            id: self.id.clone(),
            incarnation: self.incarnation,
            ready: !self.draining.load(Ordering::Relaxed),
            uptime: self.started.elapsed(),
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.in_flight.value(),
            errors: self.errors.load(Ordering::Relaxed),
            cache: self.cache.status(),
            batches,
            models,
            backend: self.backend.clone(),
            resident_memory_bytes: resident_memory_bytes(),
        }
    }
}

impl InferenceService for Worker {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.models.iter().map(|model| model.metadata.clone()).collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        self.models.find(asked).map(|model| model.metadata.clone())
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async move {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let _in_flight = self.in_flight.enter();
            let result = self.answer(request).await;
            if result.is_err() {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
            result
        })
    }
}

impl StatusSource for Worker {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { Ok(NodeStatus::Worker(Box::new(self.snapshot()))) })
    }
}

async fn wait(ticket: Ticket, deadline: Deadline) -> Result<Arc<Answer>, ServiceError> {
    tokio::time::timeout_at(deadline.at().into(), ticket.wait()).await.unwrap_or_else(|_| {
        Err(ServiceError::deadline_exceeded("the deadline passed before the answer was computed"))
    })
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
