//! How requests for one model share runs, and which of them go first.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// How requests for one model share runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingSettings {
    /// Whether rows of different requests may share a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<BatchingMode>,
    /// Rows in one run at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_max: Option<NonZeroUsize>,
    /// Numbers of rows at which a run need not wait for more, smallest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_sizes: Vec<NonZeroUsize>,
    /// How long a request may be held back for others to join it.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub delay_max: Option<Duration>,
    /// Whether an idle instance takes what is there at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch_when_idle: Option<bool>,
    /// Requests waiting at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_requests_max: Option<NonZeroUsize>,
    /// Bytes of inputs waiting at most.
    #[serde(with = "super::size::option", skip_serializing_if = "Option::is_none")]
    pub queue_bytes_max: Option<ByteSize>,
    /// The only numbers of rows that a run may have, smallest first: what is missing to one of
    /// them is filled up. Any number where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_sizes: Vec<NonZeroUsize>,
    /// How many priorities there are; 1 is the most urgent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_levels: Option<NonZeroU32>,
    /// The priority of a request that states none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_priority: Option<NonZeroU32>,
    /// Within what time answers should be there: batches are planned by it, no request is
    /// dropped for it.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub target_latency: Option<Duration>,
}

/// Whether rows of different requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchingMode {
    /// Where a check at load proves that rows do not influence each other.
    #[default]
    Auto,
    /// Yes, by declaration.
    Rows,
    /// No: every request runs alone.
    Alone,
}
