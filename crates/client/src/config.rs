//! What can be set about connections to a worker.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Settings of connections to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// How long a worker may take to accept a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a connection is kept that carries nothing. Less than the worker keeps it.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Idle connections kept per thread and worker at most.
    pub idle_connections_max: usize,
    /// The largest answer that is read.
    pub response_size_max: ByteSize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(15),
            idle_connections_max: 128,
            response_size_max: ByteSize::mib(512),
        }
    }
}
