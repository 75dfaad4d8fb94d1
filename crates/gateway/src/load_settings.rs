//! What can be set about where load goes.

use std::time::Duration;

use inferring_policy::{HotKeysConfig, LoadFactor, SlowStart};
use serde::{Deserialize, Serialize};

/// Bounds on each worker's part of the requests in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadSettings {
    /// How far above its fair share of the requests in flight a worker may be.
    pub bound: LoadBound,
    /// How long what a worker told of its queue is believed.
    #[serde(with = "humantime_serde")]
    pub report_age_max: Duration,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { bound: LoadBound::default(), report_age_max: Duration::from_secs(1) }
    }
}

/// How far above its fair share of the requests in flight a worker may be: 1 or more. With 1.25
/// it may have a quarter more than the average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct LoadBound(LoadFactor);

/// A number that is no bound.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a bound on load is a number of 1 or more, got {0}")]
pub struct InvalidLoadBound(f64);

impl TryFrom<f64> for LoadBound {
    type Error = InvalidLoadBound;

    fn try_from(factor: f64) -> Result<Self, InvalidLoadBound> {
        LoadFactor::new(factor).map(Self).ok_or(InvalidLoadBound(factor))
    }
}

impl From<LoadBound> for f64 {
    fn from(bound: LoadBound) -> Self {
        bound.0.get()
    }
}

impl LoadBound {
    pub(crate) fn policy(self) -> LoadFactor {
        self.0
    }
}

/// Workers that have only just begun, while others of the fleet are older.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowStartSettings {
    /// How long it takes until they have all of their work; zero for none of this.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The part of it that they begin with, from 0 to 1.
    pub floor: f64,
}

impl Default for SlowStartSettings {
    fn default() -> Self {
        let SlowStart { window, floor } = SlowStart::default();
        Self { window, floor }
    }
}

impl SlowStartSettings {
    pub(crate) fn policy(&self) -> SlowStart {
        SlowStart { window: self.window, floor: self.floor }
    }
}

/// Keys that are asked for so often that one worker is too few.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HotKeySettings {
    /// The most workers that one key is spread over: 1 (none of this), 2 or 4.
    pub replicas_max: usize,
    /// The time in which past requests lose half of their weight.
    #[serde(with = "humantime_serde")]
    pub half_life: Duration,
}

impl Default for HotKeySettings {
    fn default() -> Self {
        let HotKeysConfig { half_life, replicas_max, .. } = HotKeysConfig::default();
        Self { replicas_max, half_life }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_one_or_more() {
        for invalid in [0.99, -1.0, f64::NAN, f64::INFINITY] {
            let error = LoadBound::try_from(invalid).unwrap_err();
            assert!(error.to_string().starts_with("a bound on load is a number of 1 or more, got"));
        }
        assert_eq!(f64::from(LoadBound::try_from(1.0).unwrap()), 1.0);
        assert_eq!(f64::from(LoadBound::default()), 1.25);
    }
}
