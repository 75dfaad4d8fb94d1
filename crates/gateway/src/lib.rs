//! The routing [`InferenceService`](inferring_types::InferenceService): it answers by asking the
//! worker that a request's content belongs to, and another one where that one fails.
//!
//! The gateway never sees a socket: each worker is a service that somebody connected for it, in
//! another process or in its own.

mod attempt;
mod clock;
mod config;
mod endpoint;
mod gateway;
mod membership;
mod probe;
mod repository;
mod routing;

pub use config::{BreakerSettings, GatewayConfig, ProbeConfig, RepositoryTimeouts, RingConfig};
pub use endpoint::{Member, WorkerService};
pub use gateway::Gateway;
pub use membership::MembershipError;
pub use probe::Probes;
