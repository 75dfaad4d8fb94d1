//! What can be set about listening and answering.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Settings of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Threads that serve connections; by default one per core, at most 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// How long a request may take that states no time-out itself.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The largest request body.
    pub body_size_max: ByteSize,
    /// How long a client may take to send a request's head, and how long a connection may
    /// carry nothing.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Connections open at a time; further ones wait to be accepted.
    pub connections_max: NonZeroUsize,
    /// How long to go on accepting after the order to stop, so that others learn of it.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            threads: None,
            request_timeout: Duration::from_secs(30),
            body_size_max: ByteSize::mib(64),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            connections_max: NonZeroUsize::new(10_000).expect("not zero"),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerConfig {
    /// Threads that serve connections.
    pub fn thread_count(&self) -> NonZeroUsize {
        const DEFAULT_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(|| cores().min(DEFAULT_MAX))
    }
}
