//! The gateway itself: a request's way from arrival to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use inferring_types::{
    BoxFuture, GatewayStatus, Gauge, InferRequest, InferResponse, InferenceService, ModelCatalog,
    ModelMetadata, ModelSelector, NodeStatus, RoutingKey, ServiceError, StatusSource,
};

use crate::attempt;
use crate::clock;
use crate::config::GatewayConfig;
use crate::endpoint::{Endpoint, Member};
use crate::membership::{Membership, MembershipError};
use crate::probe::{self, Probes};
use crate::routing;

/// Routes requests to workers.
pub struct Gateway {
    config: GatewayConfig,
    started: Instant,
    membership: ArcSwap<Membership>,
    /// The models of all workers, as the last probes told.
    models: ArcSwap<ModelCatalog<Arc<ModelMetadata>>>,
    draining: AtomicBool,
    requests: AtomicU64,
    in_flight: Gauge,
    errors: AtomicU64,
    failovers: AtomicU64,
}

impl Gateway {
    /// A gateway over these workers. It knows nothing of them until [`Self::start_probes`].
    ///
    /// # Errors
    /// [`MembershipError`] where they do not make a ring.
    pub fn new(members: Vec<Member>, config: GatewayConfig) -> Result<Arc<Self>, MembershipError> {
        let membership = Membership::new(members, &config)?;
        Ok(Arc::new(Self {
            config,
            started: clock::now(),
            membership: ArcSwap::from_pointee(membership),
            models: ArcSwap::default(),
            draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            in_flight: Gauge::default(),
            errors: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
        }))
    }

    /// Probes every worker once and returns when each has answered or failed; then goes on
    /// probing on the current runtime until the result is dropped.
    pub async fn start_probes(self: &Arc<Self>) -> Probes {
        let membership = self.membership.load_full();
        probe::probe_all(membership.endpoints(), &self.config.probe).await;
        self.learn_models();
        let gateway = Arc::downgrade(self);
        let learnt: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            if let Some(gateway) = gateway.upgrade() {
                gateway.learn_models();
            }
        });
        Probes::start(membership.endpoints(), &self.config.probe, &learnt)
    }

    /// Says so in health checks from now on. What comes all the same is still answered.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The workers of this moment.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.membership.load_full()
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Takes over what the last probes told of the workers' models.
    pub(crate) fn learn_models(&self) {
        let models = self.membership.load().models();
        if !self.models.load().iter().eq(&models) {
            self.models.store(Arc::new(ModelCatalog::new(models)));
        }
    }

    async fn route(&self, mut request: InferRequest) -> Result<InferResponse, ServiceError> {
        let membership = self.membership.load_full();
        let model = self.model(request.selector())?;
        let key = match &request.sequence {
            None => {
                request.inputs = model.arrange(request.inputs)?;
                RoutingKey::of(&model.name, &request.inputs)
            }
            // Inputs that the worker adds from the sequence's state are missing here.
            Some(step) => RoutingKey::of_sequence(&model.name, &step.id),
        };
        let route = routing::route(&membership, key, request.selector(), clock::now());
        let count_failover = || {
            self.failovers.fetch_add(1, Ordering::Relaxed);
        };
        attempt::run(&request, route, self.config.attempt_timeout, count_failover)
            .await
            .unwrap_or_else(|| Err(membership.unavailable(Some(request.selector()))))
    }

    fn snapshot(&self) -> GatewayStatus {
        let membership = self.membership.load();
        let endpoints = membership.endpoints();
        let tries = endpoints.iter().map(|endpoint| endpoint.requests()).sum();
        let now = clock::now();
        let workers: Vec<_> = endpoints.iter().map(|e| e.status(now, tries)).collect();
        GatewayStatus {
            ready: self.is_ready(None),
            uptime: now.saturating_duration_since(self.started),
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.in_flight.value(),
            errors: self.errors.load(Ordering::Relaxed),
            failovers: self.failovers.load(Ordering::Relaxed),
            workers,
            models: self.models.load().iter().cloned().collect(),
        }
    }
}

impl InferenceService for Gateway {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.models.load().iter().cloned().collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
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

    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        let membership = self.membership.load();
        let serves = |endpoint: &Endpoint| asked.is_none_or(|asked| endpoint.serves(asked));
        let mut endpoints = membership.endpoints().iter();
        !self.draining.load(Ordering::Relaxed)
            && endpoints.any(|endpoint| endpoint.is_reachable() && serves(endpoint))
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async move {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let _in_flight = self.in_flight.enter();
            let result = self.route(request).await;
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
}

impl StatusSource for Gateway {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { Ok(NodeStatus::Gateway(Box::new(self.snapshot()))) })
    }
}
