//! What can be set about a gateway's routing.

use std::time::Duration;

use inferring_policy::{BreakerConfig, HashRing, HealthConfig};
use serde::{Deserialize, Serialize};

/// Settings of a gateway's routing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// The consistent-hash ring.
    pub ring: RingConfig,
    /// The circuit breaker of each worker.
    pub breaker: BreakerSettings,
    /// Active health probes.
    pub probe: ProbeConfig,
    /// How long one worker may take while another could still be asked.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// Questions to workers about their models.
    pub repository: RepositoryTimeouts,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            ring: RingConfig::default(),
            breaker: BreakerSettings::default(),
            probe: ProbeConfig::default(),
            attempt_timeout: Duration::from_secs(10),
            repository: RepositoryTimeouts::default(),
        }
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

/// The circuit breaker of each worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Consecutive failures that open it.
    pub failures_to_open: u32,
    /// Consecutive successes of trial requests that close it.
    pub successes_to_close: u32,
    /// How long it stays open before trial requests are let through.
    #[serde(with = "humantime_serde")]
    pub open_timeout: Duration,
    /// Trial requests at a time while it is half-open.
    pub trial_permits: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        let BreakerConfig { failures_to_open, successes_to_close, open_timeout, trial_permits } =
            BreakerConfig::default();
        Self { failures_to_open, successes_to_close, open_timeout, trial_permits }
    }
}

impl BreakerSettings {
    pub(crate) fn policy(&self) -> BreakerConfig {
        let Self { failures_to_open, successes_to_close, open_timeout, trial_permits } = *self;
        BreakerConfig { failures_to_open, successes_to_close, open_timeout, trial_permits }
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
