//! What can be set about how much is accepted, and how often it is tried.

use std::time::Duration;

use inferring_policy::{Backoff, ConcurrencyLimitConfig, HedgeConfig, RetryBudgetConfig};
use serde::{Deserialize, Serialize};

/// Tries beyond each request's first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Retries and hedges for each request, at a time and over time.
    pub budget: f64,
    /// Retries and hedges in flight that are allowed however few requests there are.
    pub in_flight_min: u32,
    /// Retries and hedges each second that are allowed however few requests there are.
    pub reserve_per_second: u32,
    /// The longest wait before the first retry; it doubles with each further one.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// The longest wait before any retry.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        let budget = RetryBudgetConfig::default();
        let Backoff { base, max } = Backoff::default();
        Self {
            budget: budget.share,
            in_flight_min: budget.in_flight_min,
            reserve_per_second: budget.reserve_per_second,
            backoff: base,
            backoff_max: max,
        }
    }
}

impl RetrySettings {
    pub(crate) fn budget_policy(&self) -> RetryBudgetConfig {
        RetryBudgetConfig {
            share: self.budget,
            in_flight_min: self.in_flight_min,
            reserve_per_second: self.reserve_per_second,
        }
    }

    pub(crate) fn backoff_policy(&self) -> Backoff {
        Backoff { base: self.backoff, max: self.backoff_max }
    }
}

/// Second tries beside a first one that takes long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// No request is hedged sooner.
    #[serde(with = "humantime_serde")]
    pub delay_min: Duration,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self { enabled: true, delay_min: HedgeConfig::default().delay_min }
    }
}

impl HedgeSettings {
    pub(crate) fn policy(&self) -> HedgeConfig {
        HedgeConfig { delay_min: self.delay_min }
    }
}

/// The bound on the requests that are accepted at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionSettings {
    /// The bound is never lower.
    pub limit_min: u64,
    /// It is never higher.
    pub limit_max: u64,
    /// What it is at first.
    pub limit_start: u64,
    /// How long requests may wait on average, as a share of the time that they are given.
    pub wait_share: f64,
    /// How long they may wait on average, whatever they are given.
    #[serde(with = "humantime_serde")]
    pub wait_max: Duration,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        let ConcurrencyLimitConfig { limit_min, limit_max, limit_start, wait_share, wait_max } =
            ConcurrencyLimitConfig::default();
        Self { limit_min, limit_max, limit_start, wait_share, wait_max }
    }
}

impl AdmissionSettings {
    pub(crate) fn policy(&self) -> ConcurrencyLimitConfig {
        let Self { limit_min, limit_max, limit_start, wait_share, wait_max } = *self;
        ConcurrencyLimitConfig { limit_min, limit_max, limit_start, wait_share, wait_max }
    }
}
