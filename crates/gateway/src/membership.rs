//! Who there is to route to: the ring and the endpoints behind it, replaced as one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use inferring_policy::{Candidates, HashRing, RingError, RingMember};
use inferring_types::{
    ContentDigest, ModelMetadata, ModelSelector, RoutingKey, ServiceError, WorkerId, WorkerSpec,
};

use crate::clock;
use crate::config::GatewayConfig;
use crate::endpoint::{Endpoint, ServedModel};

/// Why a list of workers cannot be in force.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// There are none.
    #[error("no worker to route to")]
    NoWorker,
    /// The ring refuses them.
    #[error("these workers do not make a ring")]
    Ring(#[from] RingError),
    /// There is no way to one of them.
    #[error("worker `{worker}` cannot be asked")]
    Connect {
        /// Its id.
        worker: WorkerId,
        /// What is in the way.
        source: ServiceError,
    },
}

/// The workers of one moment. A request keeps the snapshot it began with.
///
/// Endpoints outlive snapshots: one that stays is the same object in the next, with its breaker,
/// its counters and its connections. What an endpoint says of its weight and of draining is of
/// this moment, so that a drain holds for requests that began before it, too.
pub(crate) struct Membership {
    version: u64,
    since: Instant,
    ring: HashRing,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Membership {
    /// The ring of these workers; a key's place on it hangs on ids and weights alone.
    ///
    /// # Errors
    /// [`MembershipError`] where they do not make one.
    pub(crate) fn ring(
        workers: &[WorkerSpec],
        config: &GatewayConfig,
    ) -> Result<HashRing, MembershipError> {
        if workers.is_empty() {
            return Err(MembershipError::NoWorker);
        }
        let places: Vec<_> = workers
            .iter()
            .map(|worker| RingMember { id: worker.id.clone(), weight: worker.weight })
            .collect();
        Ok(HashRing::build(&places, config.ring.points_per_worker)?)
    }

    /// The `version`-th list in force. `ring` is that of these endpoints, in this order.
    pub(crate) fn new(version: u64, ring: HashRing, endpoints: Vec<Arc<Endpoint>>) -> Self {
        debug_assert_eq!(ring.len(), endpoints.len());
        Self { version, since: clock::now(), ring, endpoints }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// When it came into force.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint of this worker at this address. Elsewhere it is another process, of which
    /// nothing is known.
    pub(crate) fn find(&self, worker: &WorkerSpec) -> Option<&Arc<Endpoint>> {
        let mut endpoints = self.endpoints.iter();
        endpoints.find(|e| *e.id() == worker.id && e.member.address == worker.address)
    }

    /// The places of all endpoints, in the order in which `key` belongs to them.
    pub(crate) fn order_of(&self, key: RoutingKey) -> Candidates<'_> {
        self.ring.candidates(key)
    }

    /// Equal for two gateways that route alike: over ids, weights and who drains.
    pub(crate) fn fingerprint(&self) -> String {
        let line = |endpoint: &Arc<Endpoint>| {
            format!("{}\t{}\t{}", endpoint.id(), endpoint.weight(), endpoint.is_draining())
        };
        let mut lines: Vec<_> = self.endpoints.iter().map(line).collect();
        lines.sort_unstable();
        let mut digest = ContentDigest::of(lines.join("\n").as_bytes()).to_string();
        // For people to compare; it protects nothing.
        digest.truncate(16);
        digest
    }

    /// The models of all workers, those of the first worker first, each version once.
    pub(crate) fn models(&self) -> Vec<Arc<ModelMetadata>> {
        let mut seen = HashSet::new();
        let mut models = Vec::new();
        for endpoint in &self.endpoints {
            for ServedModel { metadata: model, .. } in endpoint.models().iter() {
                if seen.insert((model.name.clone(), model.version.clone())) {
                    models.push(model.clone());
                }
            }
        }
        models
    }

    /// Why no worker can be asked for what is `asked`, or for anything, for the client to read.
    pub(crate) fn unavailable(&self, asked: Option<ModelSelector<'_>>) -> ServiceError {
        let reason = |endpoint: &Endpoint| match (endpoint.last_probe_error(), asked) {
            _ if endpoint.is_draining() => "it is being drained".into(),
            (Some(error), _) => error,
            (None, _) if endpoint.says_it_drains() => "it says that it drains".into(),
            (None, _) if !endpoint.is_known() => "it has not answered a health check yet".into(),
            (None, None) => "it serves no model".into(),
            (None, Some(asked)) if !endpoint.serves(asked) => "it does not serve this model".into(),
            (None, Some(_)) => match endpoint.ejector.status(clock::now()) {
                (Some(ejected), _) => format!("it is left alone, as {}", ejected.reason),
                (None, _) => "its circuit breaker is open".into(),
            },
        };
        let reasons: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| format!("{}: {}", endpoint.id(), reason(endpoint)))
            .collect();
        ServiceError::unavailable(format!("no worker can be asked ({})", reasons.join("; ")))
    }
}
