//! The gateway's handle on one worker: the service to ask, and all that is known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use inferring_policy::{
    CircuitBreaker, Health, HealthConfig, Load, Loss, ReportedLoad, Silence, Transition,
};
use inferring_types::{
    Allotment, Described, EndpointStatus, InferResponse, InferenceService, ModelCatalog,
    ModelMetadata, ModelRepository, ModelSelector, ServiceError, StatusSource, WorkerId,
    WorkerLoad, WorkerSpec, WorkerStatus,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::GatewayConfig;
use crate::departure::Departure;
use crate::standing::{Ejector, Standing};

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

impl Member {
    /// The same as a list names it.
    pub(crate) fn spec(&self) -> WorkerSpec {
        WorkerSpec {
            id: self.id.clone(),
            address: self.address.clone(),
            weight: self.weight,
            draining: false,
        }
    }
}

/// A member, with what the gateway has learnt about it.
///
/// It stays the same object over changes of the membership, until its worker leaves it.
pub(crate) struct Endpoint {
    pub(crate) member: Member,
    /// Tells it from all others that this gateway ever had.
    number: u64,
    /// The bits of its weight, which is the member's at first.
    weight: AtomicU64,
    draining: AtomicBool,
    left: AtomicBool,
    departure: Arc<Departure>,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) ejector: Ejector,
    health: Mutex<Health>,
    silence: Silence,
    /// Whether one of its tries runs to its end, whoever waits for it.
    has_witness: AtomicBool,
    last_probe_error: Mutex<Option<String>>,
    last_status: ArcSwapOption<WorkerStatus>,
    models: ArcSwap<ModelCatalog<ServedModel>>,
    /// When it came to this gateway.
    joined: Instant,
    /// Nanoseconds from then on to the beginning of its process, where that was later.
    began_after: AtomicU64,
    lost: Notify,
    requests: AtomicU64,
    failures: AtomicU64,
    /// Tries in flight. It counts in the router's ledger.
    pub(crate) load: Load,
}

/// A model as one worker serves it.
#[derive(Clone)]
pub(crate) struct ServedModel {
    pub(crate) metadata: Arc<ModelMetadata>,
    /// What the worker last told of its queue.
    reported: Arc<ReportedLoad>,
}

impl Described for ServedModel {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }
}

impl Endpoint {
    pub(crate) fn new(member: Member, config: &GatewayConfig) -> Self {
        // Gateways that saw one worker fail do not all come back to it at a time.
        let seed = || fastrand::u64(..);
        let joined = clock::now();
        let departure = Arc::new(Departure::new(joined));
        let (id, told) = (member.id.clone(), departure.clone());
        member.service.on_draining(Arc::new(move || {
            if told.tell(clock::now()) {
                info!(worker = %id, "worker says that it drains: it gets no new requests");
            }
        }));
        Self {
            number: fastrand::u64(..),
            weight: AtomicU64::new(member.weight.to_bits()),
            draining: AtomicBool::new(false),
            left: AtomicBool::new(false),
            departure,
            member,
            breaker: CircuitBreaker::new(config.breaker.policy(), seed()),
            ejector: Ejector::new(&config.ejection.policy(), seed(), joined),
            health: Mutex::new(Health::new(HealthConfig {
                failures_to_exclude: config.probe.failures_to_exclude,
            })),
            silence: Silence::default(),
            has_witness: AtomicBool::new(false),
            last_probe_error: Mutex::default(),
            last_status: ArcSwapOption::empty(),
            models: ArcSwap::default(),
            joined,
            began_after: AtomicU64::new(0),
            lost: Notify::new(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            load: Load::new(),
        }
    }

    pub(crate) fn id(&self) -> &WorkerId {
        &self.member.id
    }

    /// Tells it from all others that this gateway ever had.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its share of the keys, relative to the others.
    pub(crate) fn weight(&self) -> f64 {
        f64::from_bits(self.weight.load(Ordering::Relaxed))
    }

    /// Whether it is to get no new requests: an operator or a list says so, or it has left.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it already is as `worker` says.
    pub(crate) fn is_as(&self, worker: &WorkerSpec) -> bool {
        self.weight() == worker.weight && self.is_draining() == worker.draining
    }

    /// Becomes as `worker` says. Its id and its address are the same.
    pub(crate) fn become_as(&self, worker: &WorkerSpec) {
        debug_assert!(*self.id() == worker.id && self.member.address == worker.address);
        self.weight.store(worker.weight.to_bits(), Ordering::Relaxed);
        let was_draining = self.draining.swap(worker.draining, Ordering::Relaxed);
        match (was_draining, worker.draining) {
            (false, true) => info!(worker = %self.id(), "worker drained: it gets no new requests"),
            (true, false) => info!(worker = %self.id(), "worker takes requests again"),
            _ => {}
        }
    }

    /// It is no worker of this gateway any more: it finishes what it was sent.
    pub(crate) fn leave(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether it has left, and nothing is waited for any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.left.load(Ordering::Relaxed) && self.in_flight() == 0
    }

    /// Has it probed soon, as something happened that a probe would explain.
    pub(crate) fn probe_soon(&self) {
        self.departure.probe_soon();
    }

    /// Completes when a probe is wanted before its time.
    pub(crate) fn probe_wanted(&self) -> Notified<'_> {
        self.departure.probe_wanted()
    }

    /// Whether it may be asked at `now`, or what speaks against it.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        let standing =
            Standing::of(&self.health.lock(), &self.silence, &self.ejector, &self.breaker, now);
        match standing {
            _ if self.is_draining() => standing.drained(),
            // It is not there any more to say so.
            Standing::Absent => standing,
            _ if self.departure.is_told() => standing.drained(),
            _ => standing,
        }
    }

    /// Takes note of an answer that came after `took`.
    pub(crate) fn answered(&self, response: &InferResponse, took: Duration, now: Instant) {
        self.ejector.answered(response, took, now);
    }

    /// Takes note of a try that was given up after `lasted`, as another worker gave `response`: it
    /// would have taken longer, and no less is known.
    pub(crate) fn outrun(&self, response: &InferResponse, lasted: Duration, now: Instant) {
        self.ejector.outrun(response, lasted, now);
        if self.silence.outrun() {
            debug!(worker = %self.id(), "worker suspected: others answer first");
            self.probe_soon();
        }
    }

    /// Whether others were faster since it was last heard of.
    pub(crate) fn was_outrun(&self) -> bool {
        self.silence.was_outrun()
    }

    /// Whether the caller's try may run to its end, whoever waits for it, until
    /// [`Endpoint::dismiss_witness`].
    pub(crate) fn call_witness(&self) -> bool {
        !self.has_witness.swap(true, Ordering::Relaxed)
    }

    /// Another try may be the next witness.
    pub(crate) fn dismiss_witness(&self) {
        self.has_witness.store(false, Ordering::Relaxed);
    }

    /// Takes note of the answer, after `took`, to a try that was outrun and went on.
    pub(crate) fn witnessed(&self, response: &InferResponse, took: Duration, now: Instant) {
        self.heard();
        self.ejector.witnessed(response, took, now);
    }

    /// Takes note of a word from the worker, whatever it says.
    pub(crate) fn heard(&self) {
        self.silence.heard();
    }

    /// Whether its probes succeed and it takes requests.
    pub(crate) fn is_reachable(&self) -> bool {
        self.health.lock().is_reachable() && !self.departure.is_told()
    }

    /// Whether it has been probed at all.
    pub(crate) fn is_known(&self) -> bool {
        self.health.lock().is_known()
    }

    /// The models it served when it last answered a probe.
    pub(crate) fn models(&self) -> Arc<ModelCatalog<ServedModel>> {
        self.models.load_full()
    }

    /// Whether it served what is asked for when it last answered a probe.
    pub(crate) fn serves(&self, asked: ModelSelector<'_>) -> bool {
        self.models.load().get(asked).is_some()
    }

    /// What it told of its queue for a model no longer than `age_max` ago, if anything; `None`
    /// where it does not serve the model.
    pub(crate) fn reported(
        &self,
        asked: ModelSelector<'_>,
        now: Instant,
        age_max: Duration,
    ) -> Option<Option<WorkerLoad>> {
        Some(self.models.load().get(asked)?.reported.read(now, age_max))
    }

    /// Takes note of what it tells of its queue for a model.
    pub(crate) fn report(&self, asked: ModelSelector<'_>, load: WorkerLoad, now: Instant) {
        if let Some(model) = self.models.load().get(asked) {
            model.reported.tell(load, now);
        }
    }

    /// When it began: as a worker of this gateway, or as the process that it is.
    pub(crate) fn began(&self) -> Instant {
        self.joined + Duration::from_nanos(self.began_after.load(Ordering::Relaxed))
    }

    /// Why its last probe failed, if it did.
    pub(crate) fn last_probe_error(&self) -> Option<String> {
        self.last_probe_error.lock().clone()
    }

    /// Whether it has said since its last probe that it wants no new requests.
    pub(crate) fn says_it_drains(&self) -> bool {
        self.departure.is_told()
    }

    /// Takes note of a probe that was answered; `started` is when it was sent.
    pub(crate) fn probe_succeeded(&self, status: WorkerStatus, started: Instant) {
        self.heard();
        let before = self.last_status.load();
        let restarted = before.as_ref().is_some_and(|old| old.incarnation != status.incarnation);
        let (loading, uptime) = (status.loading, status.uptime);
        // Requests in flight are not told: a worker that drains finishes them.
        let declined = match status.ready {
            true => None,
            false if loading => Some(("it is still loading its models", Loss::Loading)),
            false => Some(("it is draining", Loss::Declined)),
        };
        if let Some((reason, loss)) = declined {
            // Before its process is known: who waits for a new one waits until it takes requests.
            self.exclude(reason.to_owned(), loss);
        }
        if !loading {
            // Until then it serves nothing, and what it served before is most likely what it loads.
            self.learn_models(status.models.iter().map(|model| &model.metadata));
        }
        self.last_status.store(Some(Arc::new(status)));
        if restarted {
            info!(worker = %self.id(), "worker restarted");
            self.breaker.restarted(started);
            self.ejector.restarted(started);
            let age = started.saturating_duration_since(self.joined);
            let after = u64::try_from(age.saturating_sub(uptime).as_nanos()).unwrap_or(u64::MAX);
            self.began_after.store(after, Ordering::Relaxed);
        }
        if declined.is_some() {
            return;
        }
        *self.last_probe_error.lock() = None;
        self.departure.is_ready(started);
        self.breaker.reachable_again(started);
        if self.health.lock().probe_succeeded() == Some(Transition::BecameReachable) {
            info!(worker = %self.id(), address = self.member.address, "worker reachable");
        }
    }

    /// Takes note of a probe that failed. Requests in flight to a worker that has fallen silent
    /// are told, so that they can be sent elsewhere. Those to one that refuses are not: either it
    /// is dead, and their connections break by themselves, or it is stopping and answers them.
    pub(crate) fn probe_failed(&self, error: &ServiceError, loss: Loss) {
        if self.exclude(error.chain().to_string(), loss) && !loss.is_definite() {
            self.lost.notify_waiters();
        }
    }

    /// Completes when the worker falls silent after this call.
    pub(crate) fn lost(&self) -> Notified<'_> {
        self.lost.notified()
    }

    /// Counts a request that is sent to it.
    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure by the worker's fault.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that it has not answered yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.load.in_flight() + self.load.riders()
    }

    /// Requests sent to it so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Its state; `all_requests` are those sent to any worker.
    pub(crate) fn status(
        &self,
        now: Instant,
        all_requests: u64,
        allotment: Allotment,
    ) -> EndpointStatus {
        let requests = self.requests();
        let last_status = self.last_status.load();
        let (ejected, ejections) = self.ejector.status(now);
        EndpointStatus {
            id: self.member.id.clone(),
            address: self.member.address.clone(),
            node_id: last_status.as_ref().map(|status| status.id.clone()),
            process: last_status.as_ref().map(|status| status.incarnation),
            weight: self.weight(),
            draining: self.is_draining(),
            reachable: self.is_reachable(),
            last_probe_error: self.last_probe_error(),
            breaker: self.breaker.status(now),
            ejected,
            ejections,
            requests,
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            allotment,
            share: if all_requests == 0 { 0.0 } else { requests as f64 / all_requests as f64 },
        }
    }

    /// Takes over which models it serves. Those that stay keep what was told of their queues.
    fn learn_models<'a>(&self, models: impl Iterator<Item = &'a Arc<ModelMetadata>> + Clone) {
        let known = self.models.load();
        if known.iter().map(|model| &model.metadata).eq(models.clone()) {
            return;
        }
        let reported = |metadata: &Arc<ModelMetadata>| {
            let same = known.iter().find(|model| model.metadata == *metadata);
            same.map_or_else(
                || Arc::new(ReportedLoad::new(clock::now())),
                |model| model.reported.clone(),
            )
        };
        let models = models.map(|metadata| ServedModel {
            metadata: metadata.clone(),
            reported: reported(metadata),
        });
        self.models.store(Arc::new(ModelCatalog::new(models)));
    }

    /// Whether this made the worker unreachable.
    fn exclude(&self, reason: String, loss: Loss) -> bool {
        let transition = self.health.lock().probe_failed(loss);
        let excluded = transition == Some(Transition::BecameUnreachable);
        if excluded {
            let (worker, address) = (self.id(), &self.member.address);
            match loss {
                Loss::Loading => info!(%worker, address, "worker loads its models"),
                _ => warn!(%worker, address, reason, "worker unreachable"),
            }
        }
        *self.last_probe_error.lock() = Some(reason);
        excluded
    }
}
