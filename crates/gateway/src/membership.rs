//! Who there is to route to: the ring and the endpoints behind it, replaced as one.

use std::collections::HashSet;
use std::sync::Arc;

use inferring_policy::{HashRing, RingError, RingMember};
use inferring_types::{ModelMetadata, ModelSelector, RoutingKey, ServiceError};

use crate::config::GatewayConfig;
use crate::endpoint::{Endpoint, Member};

/// Why members do not make a ring.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// There are none.
    #[error("no worker to route to")]
    NoWorker,
    /// The ring refuses them.
    #[error("these workers do not make a ring")]
    Ring(#[from] RingError),
}

/// The workers of one moment. A request keeps the snapshot it began with.
pub(crate) struct Membership {
    ring: HashRing,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Membership {
    pub(crate) fn new(
        members: Vec<Member>,
        config: &GatewayConfig,
    ) -> Result<Self, MembershipError> {
        if members.is_empty() {
            return Err(MembershipError::NoWorker);
        }
        let places: Vec<_> = members
            .iter()
            .map(|member| RingMember { id: member.id.clone(), weight: member.weight })
            .collect();
        Ok(Self {
            ring: HashRing::build(&places, config.ring.points_per_worker)?,
            endpoints: members
                .into_iter()
                .map(|member| Arc::new(Endpoint::new(member, config)))
                .collect(),
        })
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// All endpoints, in the order in which `key` belongs to them.
    pub(crate) fn in_order_of(&self, key: RoutingKey) -> impl Iterator<Item = &Endpoint> {
        self.ring.candidates(key).map(|index| &*self.endpoints[index])
    }

    /// The models of all workers, those of the first worker first, each version once.
    pub(crate) fn models(&self) -> Vec<Arc<ModelMetadata>> {
        let mut seen = HashSet::new();
        let mut models = Vec::new();
        for endpoint in &self.endpoints {
            for model in endpoint.models().iter() {
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
            (Some(error), _) => error,
            (None, _) if !endpoint.is_known() => "it has not answered a health check yet".into(),
            (None, None) => "it serves no model".into(),
            (None, Some(asked)) if !endpoint.serves(asked) => "it does not serve this model".into(),
            (None, Some(_)) => "its circuit breaker is open".into(),
        };
        let reasons: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| format!("{}: {}", endpoint.id(), reason(endpoint)))
            .collect();
        ServiceError::unavailable(format!("no worker can be asked ({})", reasons.join("; ")))
    }
}
