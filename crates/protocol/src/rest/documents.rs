//! The JSON documents that tell how a node is doing: `GET /health` and `GET /stats`.
//!
//! A gateway's probe reads a worker's health document back, so both directions stand here.

use std::sync::Arc;
use std::time::Duration;

use inferring_types::{
    Allotment, BackendStatus, BatchStatus, CacheStatus, DeviceStatus, EjectedStatus,
    EndpointStatus, GatewayStatus, LoadStatus, MembershipStatus, ModelStatus, ServiceError,
    WorkerStatus,
};
use serde::{Deserialize, Serialize};

use super::ModelDocument;

/// What a worker's `GET /health` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerHealth {
    healthy: bool,
    /// A worker of a version that does not tell answers nothing before it has loaded.
    #[serde(default)]
    loading: bool,
    node_id: String,
    incarnation: u64,
    uptime_seconds: f64,
    total_requests: u64,
    in_flight: u64,
    errors: u64,
    cache_hits: u64,
    cache_joined: u64,
    cache_misses: u64,
    cache_size: u64,
    cache_bytes: u64,
    cache_evictions: u64,
    cache_size_max: u64,
    cache_bytes_max: u64,
    /// Requests answered without a run of their own (from the cache or shared), 0 to 1.
    cache_hit_rate: f64,
    batch_processor: BatchDocument,
    /// The default model's name.
    model: Option<String>,
    /// The default model's execution provider.
    provider: Option<String>,
    models: Vec<ModelHealth>,
    #[serde(default)]
    loads: Vec<LoadDocument>,
    backend: BackendDocument,
    memory_bytes: Option<u64>,
}

/// What a worker of another version does not tell reads as none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct BatchDocument {
    total_batches: u64,
    total_rows: u64,
    avg_batch_size: f64,
    delay_batches: u64,
    deadline_batches: u64,
    full_batches: u64,
    idle_batches: u64,
    dropped_requests: u64,
    refused_requests: u64,
    interrupted_batches: u64,
    queued: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ModelHealth {
    #[serde(flatten)]
    metadata: ModelDocument,
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback_reason: Option<String>,
    batch_processor: BatchDocument,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct BackendDocument {
    name: String,
    version: String,
    library: Option<String>,
    found_by: Option<String>,
}

impl From<&WorkerStatus> for WorkerHealth {
    fn from(status: &WorkerStatus) -> Self {
        let cache = status.cache;
        let lookups = cache.hits + cache.joined + cache.misses;
        let without_run = (cache.hits + cache.joined) as f64;
        let default = status.models.first();
        Self {
            healthy: status.ready,
            loading: status.loading,
            node_id: status.id.to_string(),
            incarnation: status.incarnation,
            uptime_seconds: status.uptime.as_secs_f64(),
            total_requests: status.requests,
            in_flight: status.in_flight,
            errors: status.errors,
            cache_hits: cache.hits,
            cache_joined: cache.joined,
            cache_misses: cache.misses,
            cache_size: cache.entries,
            cache_bytes: cache.bytes,
            cache_evictions: cache.evictions,
            cache_size_max: cache.entries_max,
            cache_bytes_max: cache.bytes_max,
            cache_hit_rate: if lookups == 0 { 0.0 } else { without_run / lookups as f64 },
            batch_processor: (&status.batches).into(),
            model: default.map(|model| model.metadata.name.to_string()),
            provider: default.map(|model| model.device.provider.clone()),
            models: status.models.iter().map(ModelHealth::from).collect(),
            loads: status.loads.iter().map(LoadDocument::from).collect(),
            backend: BackendDocument {
                name: status.backend.name.clone(),
                version: status.backend.version.clone(),
                library: status.backend.library.clone(),
                found_by: status.backend.found_by.clone(),
            },
            memory_bytes: status.resident_memory_bytes,
        }
    }
}

impl TryFrom<WorkerHealth> for WorkerStatus {
    type Error = ServiceError;

    fn try_from(health: WorkerHealth) -> Result<Self, ServiceError> {
        Ok(Self {
            id: health.node_id.as_str().into(),
            incarnation: health.incarnation,
            ready: health.healthy,
            loading: health.loading,
            uptime: Duration::try_from_secs_f64(health.uptime_seconds).unwrap_or_default(),
            requests: health.total_requests,
            in_flight: health.in_flight,
            errors: health.errors,
            cache: CacheStatus {
                hits: health.cache_hits,
                joined: health.cache_joined,
                misses: health.cache_misses,
                entries: health.cache_size,
                bytes: health.cache_bytes,
                evictions: health.cache_evictions,
                entries_max: health.cache_size_max,
                bytes_max: health.cache_bytes_max,
            },
            batches: health.batch_processor.into(),
            models: health
                .models
                .into_iter()
                .map(ModelStatus::try_from)
                .collect::<Result<Vec<_>, _>>()?,
            loads: health
                .loads
                .into_iter()
                .map(LoadStatus::try_from)
                .collect::<Result<Vec<_>, _>>()?,
            backend: BackendStatus {
                name: health.backend.name,
                version: health.backend.version,
                library: health.backend.library,
                found_by: health.backend.found_by,
            },
            resident_memory_bytes: health.memory_bytes,
        })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LoadDocument {
    model: String,
    succeeded: u64,
    failed: u64,
}

impl From<&LoadStatus> for LoadDocument {
    fn from(status: &LoadStatus) -> Self {
        let LoadStatus { model, succeeded, failed } = status;
        Self { model: model.to_string(), succeeded: *succeeded, failed: *failed }
    }
}

impl TryFrom<LoadDocument> for LoadStatus {
    type Error = ServiceError;

    fn try_from(document: LoadDocument) -> Result<Self, ServiceError> {
        let model = document.model.parse().map_err(|error| {
            ServiceError::failed("a worker names a model that cannot be one").caused_by(error)
        })?;
        Ok(Self { model, succeeded: document.succeeded, failed: document.failed })
    }
}

impl From<&ModelStatus> for ModelHealth {
    fn from(model: &ModelStatus) -> Self {
        Self {
            metadata: (&*model.metadata).into(),
            provider: model.device.provider.clone(),
            fallback_reason: model.device.fallback_reason.clone(),
            batch_processor: (&model.batches).into(),
        }
    }
}

impl TryFrom<ModelHealth> for ModelStatus {
    type Error = ServiceError;

    fn try_from(health: ModelHealth) -> Result<Self, ServiceError> {
        Ok(Self {
            metadata: Arc::new(health.metadata.try_into()?),
            device: DeviceStatus {
                provider: health.provider,
                fallback_reason: health.fallback_reason,
            },
            batches: health.batch_processor.into(),
        })
    }
}

impl From<&BatchStatus> for BatchDocument {
    fn from(batches: &BatchStatus) -> Self {
        Self {
            total_batches: batches.batches,
            total_rows: batches.rows,
            avg_batch_size: batches.mean_batch_size(),
            delay_batches: batches.delay,
            deadline_batches: batches.deadline,
            full_batches: batches.full,
            idle_batches: batches.idle,
            dropped_requests: batches.dropped,
            refused_requests: batches.refused,
            interrupted_batches: batches.interrupted,
            queued: batches.queued,
        }
    }
}

impl From<BatchDocument> for BatchStatus {
    fn from(document: BatchDocument) -> Self {
        Self {
            batches: document.total_batches,
            rows: document.total_rows,
            full: document.full_batches,
            delay: document.delay_batches,
            deadline: document.deadline_batches,
            idle: document.idle_batches,
            dropped: document.dropped_requests,
            refused: document.refused_requests,
            interrupted: document.interrupted_batches,
            queued: document.queued,
        }
    }
}

/// What a gateway's `GET /stats` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewayStats {
    /// Configured workers.
    pub total_workers: usize,
    /// Workers whose last probe succeeded.
    pub reachable_workers: usize,
    /// Seconds since the gateway started.
    pub uptime_seconds: f64,
    /// Requests accepted.
    pub total_requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Tries after one that failed.
    pub failovers: u64,
    /// Those of them that drew on the budget of retries.
    #[serde(default)]
    pub retries: u64,
    /// Tries beside one that took long.
    #[serde(default)]
    pub hedges: u64,
    /// Hedges that answered first.
    #[serde(default)]
    pub hedges_won: u64,
    /// Requests that were not tried again, or not hedged when it was time, for want of budget.
    #[serde(default)]
    pub retry_budget_exhausted: u64,
    /// Requests that may be in flight now.
    #[serde(default)]
    pub admission_limit: u64,
    /// Requests that were refused because as many were.
    #[serde(default)]
    pub admission_refused: u64,
    /// The list of workers in force.
    #[serde(default)]
    pub membership: MembershipDocument,
    /// Whether so few of the workers are well that all that are there are asked.
    #[serde(default)]
    pub panic: bool,
    /// Keys that are asked for so often that several workers answer them.
    #[serde(default)]
    pub hot_keys: u64,
    /// One breaker per worker.
    pub circuit_breakers: Vec<BreakerDocument>,
    /// The workers.
    pub workers: Vec<EndpointDocument>,
    /// Names of the models served; the first is the default one.
    pub models: Vec<String>,
}

/// A gateway's list of workers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MembershipDocument {
    /// Counts the lists in force since the gateway started.
    pub version: u64,
    /// Equal on gateways that route alike.
    pub fingerprint: String,
    /// Where the list comes from.
    pub source: String,
    /// Seconds since it came into force.
    pub age_seconds: f64,
    /// Why the source's newest list is not in force; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Lists that could not be read or taken over since the gateway started.
    pub failures: u64,
}

impl From<&MembershipStatus> for MembershipDocument {
    fn from(status: &MembershipStatus) -> Self {
        Self {
            version: status.version,
            fingerprint: status.fingerprint.clone(),
            source: status.source.clone(),
            age_seconds: status.age.as_secs_f64(),
            error: status.error.clone(),
            failures: status.failures,
        }
    }
}

/// A worker's breaker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BreakerDocument {
    /// The worker.
    pub node: String,
    /// `CLOSED`, `OPEN` or `HALF_OPEN`.
    pub state: String,
    /// Consecutive failures counted towards opening.
    pub failures: u32,
    /// Consecutive successes counted towards closing.
    pub successes: u32,
    /// What opened it; absent while it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<String>,
    /// Seconds until it lets a trial through by itself; absent unless it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_in_seconds: Option<f64>,
}

/// Why a worker is left alone for a while that does far worse than the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EjectedDocument {
    /// In what it does worse, for people.
    pub reason: String,
    /// Seconds until it is asked again.
    pub returns_in_seconds: f64,
}

impl From<&EjectedStatus> for EjectedDocument {
    fn from(status: &EjectedStatus) -> Self {
        Self {
            reason: status.reason.to_string(),
            returns_in_seconds: status.returns_in.as_secs_f64(),
        }
    }
}

/// A worker as the gateway sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndpointDocument {
    /// The id by which the gateway places it on the ring.
    pub node: String,
    /// Where it is reached.
    pub address: String,
    /// The id by which it calls itself.
    pub node_id: Option<String>,
    /// The process that answered its last probe; another one after a restart.
    #[serde(default)]
    pub process: Option<String>,
    /// Its weight on the ring.
    pub weight: f64,
    /// Whether it gets no new requests, by an operator's or a list's word.
    #[serde(default)]
    pub draining: bool,
    /// Whether its last probe succeeded.
    pub reachable: bool,
    /// Why its last probe failed.
    pub last_probe_error: Option<String>,
    /// Why it is left alone for a while; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<EjectedDocument>,
    /// How often it was left alone.
    #[serde(default)]
    pub ejections: u64,
    /// Tries sent to it.
    pub requests: u64,
    /// Tries that failed by its fault.
    pub failures: u64,
    /// Tries in flight now.
    pub in_flight: u64,
    /// What it may be given.
    #[serde(default)]
    pub allotment: AllotmentDocument,
    /// Its share of all tries, 0 to 1.
    pub share: f64,
}

/// What a gateway may give to a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AllotmentDocument {
    /// How many tries may be in flight there with the next one that comes; 0 while it is not
    /// asked.
    pub bound: u64,
    /// How many are that count: all but those that only wait for the run of an equal one.
    pub taken: u64,
    /// The part of its work that it gets: below 1 while it has only just begun.
    pub part: f64,
}

impl From<Allotment> for AllotmentDocument {
    fn from(Allotment { bound, taken, part }: Allotment) -> Self {
        Self { bound, taken, part }
    }
}

impl From<&GatewayStatus> for GatewayStats {
    fn from(status: &GatewayStatus) -> Self {
        Self {
            total_workers: status.workers.len(),
            reachable_workers: status.workers.iter().filter(|worker| worker.reachable).count(),
            uptime_seconds: status.uptime.as_secs_f64(),
            total_requests: status.requests,
            in_flight: status.in_flight,
            errors: status.errors,
            failovers: status.failovers,
            retries: status.tries.retries,
            hedges: status.tries.hedges,
            hedges_won: status.tries.hedges_won,
            retry_budget_exhausted: status.tries.budget_exhausted,
            admission_limit: status.admission.limit,
            admission_refused: status.admission.refused,
            membership: MembershipDocument::from(&status.membership),
            panic: status.panic,
            hot_keys: status.hot_keys,
            circuit_breakers: status.workers.iter().map(BreakerDocument::from).collect(),
            workers: status.workers.iter().map(EndpointDocument::from).collect(),
            models: status.models.iter().map(|model| model.name.to_string()).collect(),
        }
    }
}

impl From<&EndpointStatus> for BreakerDocument {
    fn from(endpoint: &EndpointStatus) -> Self {
        Self {
            node: endpoint.id.to_string(),
            state: endpoint.breaker.state.name().to_owned(),
            failures: endpoint.breaker.failures,
            successes: endpoint.breaker.successes,
            opened_by: endpoint.breaker.opened_by.map(|by| by.name().to_owned()),
            trial_in_seconds: endpoint.breaker.trial_in.map(|time| time.as_secs_f64()),
        }
    }
}

impl From<&EndpointStatus> for EndpointDocument {
    fn from(endpoint: &EndpointStatus) -> Self {
        Self {
            node: endpoint.id.to_string(),
            address: endpoint.address.clone(),
            node_id: endpoint.node_id.as_ref().map(ToString::to_string),
            process: endpoint.process.map(|process| format!("{process:016x}")),
            weight: endpoint.weight,
            draining: endpoint.draining,
            reachable: endpoint.reachable,
            last_probe_error: endpoint.last_probe_error.clone(),
            ejected: endpoint.ejected.as_ref().map(EjectedDocument::from),
            ejections: endpoint.ejections,
            requests: endpoint.requests,
            failures: endpoint.failures,
            in_flight: endpoint.in_flight,
            allotment: endpoint.allotment.into(),
            share: endpoint.share,
        }
    }
}

/// What a gateway's `GET /health` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewayHealth {
    /// Whether it takes requests.
    pub healthy: bool,
    /// `gateway`, which tells it from a worker.
    pub role: String,
    /// Configured workers.
    pub total_workers: usize,
    /// Workers whose last probe succeeded.
    pub reachable_workers: usize,
    /// Names of the models served; the first is the default one.
    pub models: Vec<String>,
}

impl From<&GatewayStatus> for GatewayHealth {
    fn from(status: &GatewayStatus) -> Self {
        let stats = GatewayStats::from(status);
        Self {
            healthy: status.ready,
            role: "gateway".to_owned(),
            total_workers: stats.total_workers,
            reachable_workers: stats.reachable_workers,
            models: stats.models,
        }
    }
}

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// What went wrong and what was expected.
    pub error: String,
    /// The id of the request that failed, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::metadata::tests::iris;

    #[test]
    fn a_workers_status_reads_back_from_its_health() {
        let batches = BatchStatus { batches: 4, rows: 10, full: 1, ..BatchStatus::default() };
        let status = WorkerStatus {
            id: "worker_1".into(),
            incarnation: 7,
            ready: true,
            loading: false,
            uptime: Duration::from_secs(3),
            requests: 12,
            in_flight: 1,
            errors: 0,
            cache: CacheStatus { hits: 2, joined: 1, misses: 9, ..CacheStatus::default() },
            batches,
            models: vec![ModelStatus {
                metadata: Arc::new(iris()),
                device: DeviceStatus {
                    provider: "CPUExecutionProvider".into(),
                    fallback_reason: Some("no GPU".into()),
                },
                batches,
            }],
            backend: BackendStatus {
                name: "onnxruntime".into(),
                version: "1.32.0".into(),
                library: None,
                found_by: None,
            },
            loads: Vec::new(),
            resident_memory_bytes: Some(1 << 20),
        };
        let text = serde_json::to_string(&WorkerHealth::from(&status)).unwrap();
        assert!(text.contains("\"cache_hit_rate\":0.25"), "{text}");
        assert!(text.contains("\"avg_batch_size\":2.5"), "{text}");
        let health: WorkerHealth = serde_json::from_str(&text).unwrap();
        let read = WorkerStatus::try_from(health).unwrap();
        assert_eq!(format!("{read:?}"), format!("{status:?}"));
    }
}
