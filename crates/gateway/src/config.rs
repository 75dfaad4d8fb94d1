//! What can be set about a gateway's routing.

use std::path::PathBuf;
use std::time::Duration;

use inferring_policy::{HashRing, HealthConfig};
use serde::{Deserialize, Serialize};

pub use crate::breaker_settings::{BreakerSettings, EjectionSettings};
pub use crate::load_settings::{HotKeySettings, LoadBound, LoadSettings, SlowStartSettings};
pub use crate::try_settings::{AdmissionSettings, HedgeSettings, RetrySettings};

/// Settings of a gateway's routing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// The consistent-hash ring.
    pub ring: RingConfig,
    /// The circuit breaker of each worker.
    pub breaker: BreakerSettings,
    /// Workers that do far worse than the others.
    pub ejection: EjectionSettings,
    /// Bounds on each worker's part of the requests in flight.
    pub load: LoadSettings,
    /// Workers that have only just begun.
    pub slow_start: SlowStartSettings,
    /// Keys that one worker is too few for.
    pub hot_keys: HotKeySettings,
    /// Active health probes.
    pub probe: ProbeConfig,
    /// How much is accepted at once.
    pub admission: AdmissionSettings,
    /// Tries after one that failed.
    pub retry: RetrySettings,
    /// Tries beside one that takes long.
    pub hedge: HedgeSettings,
    /// How long one worker may take while another could still be asked.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// Which workers there are.
    pub membership: MembershipConfig,
    /// Questions to workers about their models.
    pub repository: RepositoryTimeouts,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            ring: RingConfig::default(),
            breaker: BreakerSettings::default(),
            ejection: EjectionSettings::default(),
            load: LoadSettings::default(),
            slow_start: SlowStartSettings::default(),
            hot_keys: HotKeySettings::default(),
            probe: ProbeConfig::default(),
            admission: AdmissionSettings::default(),
            retry: RetrySettings::default(),
            hedge: HedgeSettings::default(),
            attempt_timeout: Duration::from_secs(10),
            membership: MembershipConfig::default(),
            repository: RepositoryTimeouts::default(),
        }
    }
}

/// Which workers there are, where a file says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MembershipConfig {
    /// The file that lists them, followed while the gateway runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How often it is looked at.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self { file: None, interval: Duration::from_secs(1) }
    }
}

/// How long workers may take to answer about their models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoryTimeouts {
    /// For the index, configurations and statistics.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// For loading a model, or unloading it.
    #[serde(with = "humantime_serde")]
    pub load_timeout: Duration,
}

impl Default for RepositoryTimeouts {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), load_timeout: Duration::from_secs(600) }
    }
}

/// The consistent-hash ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingConfig {
    /// Points on the ring for a worker of weight 1. More points spread keys more evenly.
    pub points_per_worker: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { points_per_worker: HashRing::DEFAULT_POINTS }
    }
}

/// Active health probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Time between two probes of a worker.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a worker may take to answer a probe.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Time-outs in a row after which a worker counts as unreachable; a refused connection
    /// counts at once.
    pub failures_to_exclude: u32,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            failures_to_exclude: HealthConfig::default().failures_to_exclude,
        }
    }
}
