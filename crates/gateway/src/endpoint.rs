//! The gateway's handle on one worker: the service to ask, and all that is known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use inferring_policy::{CircuitBreaker, Health, HealthConfig, Transition};
use inferring_types::{
    EndpointStatus, Gauge, GaugeGuard, InferenceService, ModelCatalog, ModelMetadata,
    ModelRepository, ModelSelector, ServiceError, StatusSource, WorkerId, WorkerStatus,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{info, warn};

use crate::config::GatewayConfig;

/// What a gateway asks of a worker.
pub trait WorkerService: InferenceService + StatusSource + ModelRepository {}

impl<T: InferenceService + StatusSource + ModelRepository> WorkerService for T {}

/// A worker to route to.
pub struct Member {
    /// Its stable id: its place on the ring hangs on it.
    pub id: WorkerId,
    /// Where it is reached, for people to read.
    pub address: String,
    /// Its share of the keys, relative to the others.
    pub weight: f64,
    /// The worker.
    pub service: Arc<dyn WorkerService>,
}

/// A member, with what the gateway has learnt about it.
pub(crate) struct Endpoint {
    pub(crate) member: Member,
    pub(crate) breaker: CircuitBreaker,
    health: Mutex<Health>,
    last_probe_error: Mutex<Option<String>>,
    last_status: ArcSwapOption<WorkerStatus>,
    models: ArcSwap<ModelCatalog<Arc<ModelMetadata>>>,
    lost: Notify,
    requests: AtomicU64,
    failures: AtomicU64,
    in_flight: Gauge,
}

impl Endpoint {
    pub(crate) fn new(member: Member, config: &GatewayConfig) -> Self {
        Self {
            member,
            breaker: CircuitBreaker::new(config.breaker.policy()),
            health: Mutex::new(Health::new(HealthConfig {
                failures_to_exclude: config.probe.failures_to_exclude,
            })),
            last_probe_error: Mutex::default(),
            last_status: ArcSwapOption::empty(),
            models: ArcSwap::default(),
            lost: Notify::new(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: Gauge::default(),
        }
    }

    pub(crate) fn id(&self) -> &WorkerId {
        &self.member.id
    }

    /// Whether its probes succeed and it takes requests.
    pub(crate) fn is_reachable(&self) -> bool {
        self.health.lock().is_reachable()
    }

    /// Whether it has been probed at all.
    pub(crate) fn is_known(&self) -> bool {
        self.health.lock().is_known()
    }

    /// The models it served when it last answered a probe.
    pub(crate) fn models(&self) -> Arc<ModelCatalog<Arc<ModelMetadata>>> {
        self.models.load_full()
    }

    /// Whether it served what is asked for when it last answered a probe.
    pub(crate) fn serves(&self, asked: ModelSelector<'_>) -> bool {
        self.models.load().get(asked).is_some()
    }

    /// Why its last probe failed, if it did.
    pub(crate) fn last_probe_error(&self) -> Option<String> {
        self.last_probe_error.lock().clone()
    }

    /// Takes note of a probe that was answered; `started` is when it was sent.
    pub(crate) fn probe_succeeded(&self, status: WorkerStatus, started: Instant) {
        let before = self.last_status.load();
        let restarted = before.as_ref().is_some_and(|old| old.incarnation != status.incarnation);
        let ready = status.ready;
        let models = status.models.iter().map(|model| &model.metadata);
        if !self.models.load().iter().eq(models.clone()) {
            self.models.store(Arc::new(ModelCatalog::new(models.cloned())));
        }
        self.last_status.store(Some(Arc::new(status)));
        if restarted {
            info!(worker = %self.id(), "worker restarted");
            self.breaker.restarted();
        }
        if !ready {
            // Requests in flight are not told: a worker that drains finishes them.
            self.exclude("it is draining or not ready".to_owned(), true);
            return;
        }
        *self.last_probe_error.lock() = None;
        self.breaker.reachable_again(started);
        if self.health.lock().probe_succeeded() == Some(Transition::BecameReachable) {
            info!(worker = %self.id(), address = self.member.address, "worker reachable");
        }
    }

    /// Takes note of a probe that failed. Requests in flight to a worker that has fallen silent
    /// are told, so that they can be sent elsewhere. Those to one that refuses are not: either it
    /// is dead, and their connections break by themselves, or it is stopping and answers them.
    pub(crate) fn probe_failed(&self, error: &ServiceError, definite: bool) {
        if self.exclude(error.chain().to_string(), definite) && !definite {
            self.lost.notify_waiters();
        }
    }

    /// Completes when the worker falls silent after this call.
    pub(crate) fn lost(&self) -> Notified<'_> {
        self.lost.notified()
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(&self) -> GaugeGuard<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.enter()
    }

    /// Counts a failure by the worker's fault.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests sent to it so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Its state; `all_requests` are those sent to any worker.
    pub(crate) fn status(&self, now: Instant, all_requests: u64) -> EndpointStatus {
        let requests = self.requests();
        EndpointStatus {
            id: self.member.id.clone(),
            address: self.member.address.clone(),
            node_id: self.last_status.load().as_ref().map(|status| status.id.clone()),
            weight: self.member.weight,
            reachable: self.is_reachable(),
            last_probe_error: self.last_probe_error(),
            breaker: self.breaker.status(now),
            requests,
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.value(),
            share: if all_requests == 0 { 0.0 } else { requests as f64 / all_requests as f64 },
        }
    }

    /// Whether this made the worker unreachable.
    fn exclude(&self, reason: String, definite: bool) -> bool {
        let transition = self.health.lock().probe_failed(definite);
        let excluded = transition == Some(Transition::BecameUnreachable);
        if excluded {
            let address = &self.member.address;
            warn!(worker = %self.id(), address, reason, "worker unreachable");
        }
        *self.last_probe_error.lock() = Some(reason);
        excluded
    }
}
