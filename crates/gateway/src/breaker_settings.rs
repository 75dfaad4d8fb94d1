//! What can be set about when a worker is left alone: breakers, ejection and panic.

use std::time::Duration;

use inferring_policy::{BreakerConfig, EjectionConfig, PenaltyConfig};
use serde::{Deserialize, Serialize};

/// The circuit breaker of each worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Consecutive failures that open it.
    pub failures_to_open: u32,
    /// The share of failures in the last ten seconds that opens it, 0 to 1; above 1 none does.
    pub failure_rate_to_open: f64,
    /// Requests of the last ten seconds below which there is no share to speak of.
    pub samples_min: u32,
    /// Successes of trial requests that close it.
    pub successes_to_close: u32,
    /// How long it stays open before trial requests are let through, the first time.
    #[serde(with = "humantime_serde")]
    pub open_timeout: Duration,
    /// What that time is doubled up to each further time.
    #[serde(with = "humantime_serde")]
    pub open_timeout_max: Duration,
    /// Trial requests at a time while it is half-open.
    pub trial_permits: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        let BreakerConfig {
            failures_to_open,
            failure_rate_to_open,
            samples_min,
            successes_to_close,
            timeout,
            trial_permits,
        } = BreakerConfig::default();
        Self {
            failures_to_open,
            failure_rate_to_open,
            samples_min,
            successes_to_close,
            open_timeout: timeout.first,
            open_timeout_max: timeout.max,
            trial_permits,
        }
    }
}

impl BreakerSettings {
    pub(crate) fn policy(&self) -> BreakerConfig {
        let Self {
            failures_to_open,
            failure_rate_to_open,
            samples_min,
            successes_to_close,
            open_timeout,
            open_timeout_max,
            trial_permits,
        } = *self;
        BreakerConfig {
            failures_to_open,
            failure_rate_to_open,
            samples_min,
            successes_to_close,
            timeout: PenaltyConfig { first: open_timeout, max: open_timeout_max },
            trial_permits,
        }
    }
}

/// Workers that do far worse than the others, and fleets of which most are not well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EjectionSettings {
    /// The share of the workers that may be out when another one is ejected, 0 to 1; 0: none ever
    /// is.
    pub share_max: f64,
    /// Requests of the last ten seconds below which a worker is neither judged nor compared with.
    pub samples_min: u32,
    /// By how much a worker's success rate must lie below the median one, 0 to 1.
    pub margin: f64,
    /// How many times as long as the median its answers must take; 1 or less: times are not
    /// judged.
    pub slow_factor: f64,
    /// How much longer they must take at least.
    #[serde(with = "humantime_serde")]
    pub slow_excess: Duration,
    /// How long a worker is left alone, the first time.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// What that time is doubled up to each further time.
    #[serde(with = "humantime_serde")]
    pub time_max: Duration,
    /// The share of healthy workers below which all that are there are asked, 0 to 1; 0: never.
    pub panic_threshold: f64,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        let EjectionConfig { samples_min, margin, slow_factor, slow_excess, share_max, time } =
            EjectionConfig::default();
        Self {
            share_max,
            samples_min,
            margin,
            slow_factor,
            slow_excess,
            time: time.first,
            time_max: time.max,
            panic_threshold: 0.5,
        }
    }
}

impl EjectionSettings {
    pub(crate) fn policy(&self) -> EjectionConfig {
        let Self {
            share_max, samples_min, margin, slow_factor, slow_excess, time, time_max, ..
        } = *self;
        EjectionConfig {
            samples_min,
            margin,
            slow_factor,
            slow_excess,
            share_max,
            time: PenaltyConfig { first: time, max: time_max },
        }
    }
}
