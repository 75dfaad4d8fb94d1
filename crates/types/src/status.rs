//! Snapshots of a node's state: everything a health check, a status page or a probe reads.
//!
//! Counters count from the start of the process.

use std::sync::Arc;
use std::time::Duration;

use crate::{BreakerStatus, EjectedStatus, MembershipStatus, ModelMetadata, ModelName, WorkerId};

/// The state of a node, whichever kind it is.
#[derive(Debug, Clone)]
pub enum NodeStatus {
    /// Of a worker.
    Worker(Box<WorkerStatus>),
    /// Of a gateway.
    Gateway(Box<GatewayStatus>),
}

/// The state of a worker.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    /// The worker's id.
    pub id: WorkerId,
    /// A random number drawn when the process started: another number is another process.
    pub incarnation: u64,
    /// Whether it takes requests: loaded and not draining.
    pub ready: bool,
    /// Whether it still loads the models that it starts with. Until then it is not ready.
    pub loading: bool,
    /// Time since it started.
    pub uptime: Duration,
    /// Requests accepted.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// The result cache.
    pub cache: CacheStatus,
    /// Execution in batches, over all models.
    pub batches: BatchStatus,
    /// The loaded models; the first is the default one.
    pub models: Vec<ModelStatus>,
    /// How loading went, of every model that is known.
    pub loads: Vec<LoadStatus>,
    /// What executes them.
    pub backend: BackendStatus,
    /// Resident memory of the process, in bytes; `None` where the system does not tell.
    pub resident_memory_bytes: Option<u64>,
}

/// The state of a result cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Look-ups answered from the cache. A request for a model that joins rows looks up each of
    /// its rows.
    pub hits: u64,
    /// Look-ups that joined another request's computation.
    pub joined: u64,
    /// Look-ups of what had to be computed.
    pub misses: u64,
    /// Answers held now.
    pub entries: u64,
    /// Bytes held now.
    pub bytes: u64,
    /// Answers that were put out to make room.
    pub evictions: u64,
    /// The bound on answers held.
    pub entries_max: u64,
    /// The bound on bytes held.
    pub bytes_max: u64,
}

/// Counts of executed batches, and why each left the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchStatus {
    /// Runs of a model.
    pub batches: u64,
    /// Rows (requests of one row count one) over all those runs.
    pub rows: u64,
    /// Runs that left because the batch was full.
    pub full: u64,
    /// Runs that left because the oldest request had been held back as long as it may.
    pub delay: u64,
    /// Runs that left because waiting, or a larger batch, would have cost a deadline.
    pub deadline: u64,
    /// Runs that left because an instance was idle.
    pub idle: u64,
    /// Requests dropped unexecuted: expired, or nobody waited any more.
    pub dropped: u64,
    /// Requests refused on arrival: the queue was full, or they could not have been answered in
    /// time.
    pub refused: u64,
    /// Runs that were ended early: nobody waited for them any more, or they took too long.
    pub interrupted: u64,
    /// Requests waiting now.
    pub queued: u64,
}

impl BatchStatus {
    /// Mean rows per run; zero before the first.
    pub fn mean_batch_size(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.rows as f64 / self.batches as f64 }
    }

    /// The counts of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            batches: self.batches + other.batches,
            rows: self.rows + other.rows,
            full: self.full + other.full,
            delay: self.delay + other.delay,
            deadline: self.deadline + other.deadline,
            idle: self.idle + other.idle,
            dropped: self.dropped + other.dropped,
            refused: self.refused + other.refused,
            interrupted: self.interrupted + other.interrupted,
            queued: self.queued + other.queued,
        }
    }
}

/// The state of one loaded model.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    /// What it takes and gives.
    pub metadata: Arc<ModelMetadata>,
    /// Where it runs.
    pub device: DeviceStatus,
    /// Its runs.
    pub batches: BatchStatus,
}

/// How often loading a model succeeded and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadStatus {
    /// The model.
    pub model: ModelName,
    /// Loads that succeeded.
    pub succeeded: u64,
    /// Loads that failed.
    pub failed: u64,
}

/// Where a model runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The execution provider in use: `CPUExecutionProvider`, `CUDAExecutionProvider`.
    pub provider: String,
    /// Why a preferred device is not in use, in the loader's own words.
    pub fallback_reason: Option<String>,
}

impl DeviceStatus {
    /// Whether it runs on the processor, and on no accelerator.
    pub fn is_cpu(&self) -> bool {
        self.provider.starts_with("CPU")
    }
}

/// The execution engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStatus {
    /// Its name: `onnxruntime`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its library was found; `None` for an engine without one.
    pub library: Option<String>,
    /// How the library was found: which step of the search, in words.
    pub found_by: Option<String>,
}

/// The state of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayStatus {
    /// Whether it takes requests: at least one worker is reachable, and it is not draining.
    pub ready: bool,
    /// Time since it started.
    pub uptime: Duration,
    /// Requests accepted.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Tries after one that failed.
    pub failovers: u64,
    /// What it asked of workers beyond one try for each request.
    pub tries: TryStatus,
    /// The bound on what it accepts at once.
    pub admission: AdmissionStatus,
    /// The list of its workers.
    pub membership: MembershipStatus,
    /// Whether so few of its workers are well that all that are there are asked.
    pub panic: bool,
    /// How many keys are asked for so often that several workers answer them.
    pub hot_keys: u64,
    /// The workers, by id.
    pub workers: Vec<EndpointStatus>,
    /// The models its workers serve; the first is the default one.
    pub models: Vec<Arc<ModelMetadata>>,
}

/// Tries beyond each request's first that drew on the budget of retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TryStatus {
    /// Tries after one that failed.
    pub retries: u64,
    /// Tries beside one that took long.
    pub hedges: u64,
    /// Hedges that answered first.
    pub hedges_won: u64,
    /// Requests that were not tried again, or not hedged when it was time, for want of budget.
    pub budget_exhausted: u64,
}

/// The bound on the requests that a gateway accepts at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdmissionStatus {
    /// How many may be in flight now.
    pub limit: u64,
    /// Requests refused so far.
    pub refused: u64,
}

/// What a gateway may give to a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Allotment {
    /// How many tries may be in flight there with the next one that comes; 0 while it is not
    /// asked.
    pub bound: u64,
    /// How many are that count: all but those that only wait for the run of an equal one.
    pub taken: u64,
    /// The part of its work that it gets: below 1 while it has only just begun.
    pub part: f64,
}

/// A gateway's view of one worker.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// The id by which the gateway places it on the ring.
    pub id: WorkerId,
    /// Where it is reached; `in process` for one of the same process.
    pub address: String,
    /// The id by which the worker calls itself, once known.
    pub node_id: Option<WorkerId>,
    /// The process that answered its last probe, as [`WorkerStatus::incarnation`].
    pub process: Option<u64>,
    /// Its weight on the ring.
    pub weight: f64,
    /// Whether it gets no new requests, by an operator's or a list's word.
    pub draining: bool,
    /// Whether its last probe succeeded.
    pub reachable: bool,
    /// Why its last probe failed, if it did.
    pub last_probe_error: Option<String>,
    /// Its breaker.
    pub breaker: BreakerStatus,
    /// Why it is left alone though it may be well, if it is.
    pub ejected: Option<EjectedStatus>,
    /// How often it was ejected.
    pub ejections: u64,
    /// Tries sent to it.
    pub requests: u64,
    /// Tries that failed by its fault.
    pub failures: u64,
    /// Tries in flight now.
    pub in_flight: u64,
    /// What it may be given.
    pub allotment: Allotment,
    /// Its share of all tries, 0 to 1.
    pub share: f64,
}
