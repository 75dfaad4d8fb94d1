//! The gateway itself: a request's way from arrival to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use inferring_policy::{Completion, ConcurrencyLimit, Ticket, Urgency};
use inferring_types::{
    AdmissionStatus, Announced, BoxFuture, ErrorKind, GatewayStatus, InferRequest, InferResponse,
    InferenceService, ModelCatalog, ModelMetadata, ModelSelector, NodeStatus, Reservation,
    RouteReason, Routed, RoutingKey, ServiceError, StatusSource,
};

use crate::attempt::{Attempts, Progress, Traffic, Work};
use crate::clock;
use crate::config::GatewayConfig;
use crate::control::{Connector, Control};
use crate::ejection;
use crate::endpoint::{Endpoint, Member};
use crate::known_model::KnownModel;
use crate::membership::{Membership, MembershipError};
use crate::probe::{self, Probes};
use crate::routing::Router;

/// What those read who are not let in, and after which time they may try again: within that, the
/// limit has been looked at anew.
const TOO_MUCH: &str = "the gateway has as many requests in flight as its workers can do in time";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A head does not tell its request's priority. As long after an urgent one as this, another one
/// may be behind each.
const URGENCY_KEPT_MS: u64 = 10_000;

fn too_much() -> ServiceError {
    ServiceError::overloaded(TOO_MUCH).retry_after(RETRY_AFTER)
}

/// Routes requests to workers.
pub struct Gateway {
    config: GatewayConfig,
    started: Instant,
    membership: ArcSwap<Membership>,
    router: Router,
    control: Control,
    /// The models of all workers, as the last probes told.
    models: ArcSwap<ModelCatalog<KnownModel>>,
    draining: AtomicBool,
    requests: AtomicU64,
    errors: AtomicU64,
    admission: ConcurrencyLimit,
    /// When an urgent request last came, in milliseconds since the start and 1 more; 0 before.
    urgent: AtomicU64,
    attempts: Attempts,
}

impl Gateway {
    /// A gateway over these workers, and no others later. It knows nothing of them until
    /// [`Self::start_probes`].
    ///
    /// # Errors
    /// [`MembershipError`] where they do not make a ring.
    pub fn new(members: Vec<Member>, config: GatewayConfig) -> Result<Arc<Self>, MembershipError> {
        const ALONE: &str = "this gateway knows no way to other workers than it began with";
        Self::with_connector(members, config, Box::new(|_| Err(ServiceError::invalid(ALONE))))
    }

    /// The same, which reaches the workers that join later by `connect`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_connector(
        members: Vec<Member>,
        config: GatewayConfig,
        connect: Connector,
    ) -> Result<Arc<Self>, MembershipError> {
        let workers: Vec<_> = members.iter().map(Member::spec).collect();
        let ring = Membership::ring(&workers, &config)?;
        let endpoint = |member| Arc::new(Endpoint::new(member, &config));
        let endpoints = members.into_iter().map(endpoint).collect();
        Ok(Arc::new(Self {
            started: clock::now(),
            membership: ArcSwap::from_pointee(Membership::new(1, ring, endpoints)),
            router: Router::new(&config),
            control: Control::new(workers, connect),
            admission: ConcurrencyLimit::new(config.admission.policy()),
            attempts: Attempts::new(&config),
            config,
            models: ArcSwap::default(),
            draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            urgent: AtomicU64::new(0),
        }))
    }

    /// Probes every worker once and returns when each has answered or failed.
    pub async fn probe_all(&self) {
        probe::probe_all(self.membership().endpoints(), &self.config.probe).await;
        self.learn_models();
    }

    /// The same, and then goes on probing on the current runtime until the result is dropped.
    pub async fn start_probes(self: &Arc<Self>) -> Probes {
        self.probe_all().await;
        let gateway = Arc::downgrade(self);
        let learnt: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            if let Some(gateway) = gateway.upgrade() {
                gateway.learn_models();
            }
        });
        Probes::start(self, learnt)
    }

    /// Says so in health checks from now on. What comes all the same is still answered.
    pub fn start_draining(&self) {
        self.say_draining(true);
    }

    pub(crate) fn say_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// The workers of this moment.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.membership.load_full()
    }

    pub(crate) fn set_membership(&self, membership: Arc<Membership>) {
        self.membership.store(membership);
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Takes over what the last probes told of the workers' models.
    pub(crate) fn learn_models(&self) {
        let models = self.membership.load().models();
        let known = self.models.load();
        if !known.iter().map(|model| &model.metadata).eq(&models) {
            let models = models.into_iter().map(|metadata| {
                KnownModel::new(metadata, known.iter(), self.config.hedge.policy())
            });
            self.models.store(Arc::new(ModelCatalog::new(models)));
        }
    }

    async fn route(
        &self,
        mut request: InferRequest,
        arrived: Instant,
    ) -> Result<InferResponse, ServiceError> {
        let membership = self.membership.load_full();
        let KnownModel { metadata: model, times } = self.known(request.selector())?;
        let key = match &request.sequence {
            None => {
                request.inputs = model.arrange(request.inputs)?;
                RoutingKey::of(&model.name, &request.inputs)
            }
            // Inputs that the worker adds from the sequence's state are missing here.
            Some(step) => RoutingKey::of_sequence(&model.name, &step.id),
        };
        let route = self.router.route(&membership, &request, key);
        let work = Work {
            attempts: &self.attempts,
            traffic: Traffic { admission: &self.admission, requests: &self.requests },
            request: &request,
            route,
            workers: membership.endpoints().len(),
            times: &times,
            arrived,
            progress: Progress::default(),
        };
        work.run().await.unwrap_or_else(|| {
            // A probe may find one that is back, sooner than that nobody hears of it.
            let error = membership.unavailable(Some(request.selector()));
            Err(error.retry_after(self.config.probe.interval))
        })
    }

    /// Whether so few workers are well that all that are there are asked.
    fn panics(&self, now: Instant) -> bool {
        let membership = self.membership.load();
        let standings = membership.endpoints().iter().map(|endpoint| endpoint.standing(now));
        ejection::panics(standings, self.config.ejection.panic_threshold)
    }

    fn snapshot(&self) -> GatewayStatus {
        let membership = self.membership.load();
        let endpoints = membership.endpoints();
        let tries = endpoints.iter().map(|endpoint| endpoint.requests()).sum();
        let now = clock::now();
        let allotments = self.router.allotments(endpoints, now);
        let workers = endpoints
            .iter()
            .zip(allotments)
            .map(|(endpoint, allotment)| endpoint.status(now, tries, allotment))
            .collect();
        GatewayStatus {
            ready: self.is_ready(None),
            uptime: now.saturating_duration_since(self.started),
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.admission.in_flight(),
            errors: self.errors.load(Ordering::Relaxed),
            failovers: self.attempts.failovers(),
            tries: self.attempts.status(),
            admission: AdmissionStatus {
                limit: self.admission.limit(),
                refused: self.admission.refused(),
            },
            membership: self.control.status(&membership),
            panic: self.panics(now),
            hot_keys: self.router.hot_keys(),
            workers,
            models: self.models(),
        }
    }

    fn known(&self, asked: ModelSelector<'_>) -> Result<KnownModel, ServiceError> {
        let models = self.models.load();
        if models.is_empty() {
            let membership = self.membership.load();
            // Where a worker has answered, it has told that it serves nothing.
            if !membership.endpoints().iter().any(|endpoint| endpoint.is_reachable()) {
                return Err(membership.unavailable(None));
            }
        }
        models.find(asked).cloned()
    }

    /// Lets a request in whose head alone has come, or not. Where there is one worker and it is in
    /// this process, it has its say too; of several it is not known yet who will be asked.
    fn foresee(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        let now = clock::now();
        let urgency = if self.may_be_urgent(now) { Urgency::Urgent } else { Urgency::Ordinary };
        if self.admission.try_enter(urgency).is_none() {
            return Err(too_much());
        }
        match self.membership.load().endpoints() {
            [only] => only.member.service.anticipate(announced).map_err(|error| {
                let time = clock::now().saturating_duration_since(now);
                let routed = Routed { attempt: 1, reason: RouteReason::Primary, time };
                error.at_worker(only.id().clone()).routed(routed)
            }),
            _ => Ok(Reservation::default()),
        }
    }

    fn note_urgency(&self, urgency: Urgency, now: Instant) {
        if urgency == Urgency::Urgent {
            self.urgent.store(1 + self.milliseconds(now), Ordering::Relaxed);
        }
    }

    /// Whether a request may be urgent of which only the head is known: one was, not long ago.
    fn may_be_urgent(&self, now: Instant) -> bool {
        let last = self.urgent.load(Ordering::Relaxed);
        last > 0 && self.milliseconds(now).saturating_sub(last) < URGENCY_KEPT_MS
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// Takes note of how a request went that had been let in.
    fn leave(
        &self,
        ticket: Ticket<'_>,
        visit: Visit,
        result: &Result<InferResponse, ServiceError>,
    ) {
        let Visit { arrived, allowed } = visit;
        let completion = |ran| Completion { began: arrived, ran, allowed };
        match result {
            Ok(response) => {
                let now = response.routed.map_or_else(clock::now, |routed| arrived + routed.time);
                ticket.complete(completion(response.served.execution_time), now);
            }
            // It waited until the end, and for nothing.
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded && !allowed.is_zero() => {
                ticket.complete(completion(Duration::ZERO), clock::now());
            }
            Err(_) => drop(ticket),
        }
    }
}

/// When a request came, and how long it might take then.
#[derive(Clone, Copy)]
struct Visit {
    arrived: Instant,
    allowed: Duration,
}

impl InferenceService for Gateway {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.models.load().iter().map(|model| model.metadata.clone()).collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        self.known(asked).map(|model| model.metadata)
    }

    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        let membership = self.membership.load();
        let serves = |endpoint: &Endpoint| asked.is_none_or(|asked| endpoint.serves(asked));
        let mut endpoints = membership.endpoints().iter();
        !self.draining.load(Ordering::Relaxed)
            && endpoints.any(|endpoint| {
                endpoint.is_reachable() && !endpoint.is_draining() && serves(endpoint)
            })
    }

    fn anticipate(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        self.known(announced.model)?;
        self.foresee(announced).inspect_err(|_| {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.errors.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async move {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let arrived = clock::now();
            let visit = Visit { arrived, allowed: request.deadline.remaining(arrived) };
            let urgency = Urgency::of(request.priority);
            self.note_urgency(urgency, arrived);
            let result = match self.admission.try_enter(urgency) {
                None => Err(too_much()),
                Some(ticket) => {
                    let result = self.route(request, arrived).await;
                    self.leave(ticket, visit, &result);
                    result
                }
            };
            if result.is_err() {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
            result
        })
    }

    fn keep_warm(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let membership = self.membership.load_full();
            for endpoint in membership.endpoints().iter().filter(|e| e.is_reachable()) {
                endpoint.member.service.keep_warm().await;
            }
        })
    }

    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        // Of workers in this process, which do not come and go.
        let membership = self.membership.load();
        let attendants = membership.endpoints().iter().filter_map(|e| e.member.service.attendant());
        let attendants: Vec<_> = attendants.collect();
        (!attendants.is_empty()).then(|| -> BoxFuture<'static, ()> {
            Box::pin(async { _ = join_all(attendants).await })
        })
    }
}

impl StatusSource for Gateway {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { Ok(NodeStatus::Gateway(Box::new(self.snapshot()))) })
    }
}
