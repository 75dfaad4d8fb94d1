//! The routing [`InferenceService`](inferring_types::InferenceService): it answers by asking the
//! worker that a request's content belongs to, and another one where that one fails.
//!
//! The gateway never sees a socket: each worker is a service that somebody connected for it, in
//! another process or in its own.

mod attempt;
mod breaker_settings;
mod clock;
mod config;
mod control;
mod departure;
pub mod discovery;
mod ejection;
mod endpoint;
mod gateway;
mod known_model;
mod load_settings;
mod membership;
mod probe;
mod repository;
mod roster;
mod routing;
mod standing;
mod try_settings;

pub use config::{
    AdmissionSettings, BreakerSettings, EjectionSettings, GatewayConfig, HedgeSettings,
    HotKeySettings, LoadBound, LoadSettings, MembershipConfig, ProbeConfig, RepositoryTimeouts,
    RetrySettings, RingConfig, SlowStartSettings,
};
pub use control::{Connector, Following};
pub use endpoint::{Member, WorkerService};
pub use gateway::Gateway;
pub use membership::MembershipError;
pub use probe::Probes;
