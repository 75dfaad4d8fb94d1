//! What can be set about connections to a worker.

use std::num::NonZeroUsize;
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
    /// How long a connection is used at all, give or take a tenth: behind a name or a balancer
    /// there may be others by then.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// Connections open at a time per thread and worker. A request that finds all of them in use
    /// is refused, so that another worker may be asked.
    pub connections_max: NonZeroUsize,
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
            lifetime: Duration::from_secs(600),
            connections_max: NonZeroUsize::new(1024).expect("not zero"),
            idle_connections_max: 128,
            response_size_max: ByteSize::mib(512),
        }
    }
}

impl ClientConfig {
    /// How long the next connection is used. Scattered, so that those that were opened together do
    /// not end together.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// The largest answer that is read, in bytes.
    pub(crate) fn answer_max(&self) -> usize {
        usize::try_from(self.response_size_max.as_u64()).unwrap_or(usize::MAX)
    }
}
