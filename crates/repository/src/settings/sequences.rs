//! Models whose requests follow each other: their state is kept between requests.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a model with state is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceSettings {
    /// How long a sequence may be without a request before it is forgotten.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Sequences at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count_max: Option<NonZeroUsize>,
    /// What the state consists of; at least one part.
    pub state: Vec<StateSettings>,
}

/// One part of a model's state: what an output gives is what an input takes of the next request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSettings {
    /// The input; all zeros in a sequence's first request.
    pub input: String,
    /// The output.
    pub output: String,
}
