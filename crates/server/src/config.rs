//! What can be set about listening and answering.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::clients::ClientLimit;
use crate::pace::Pace;

/// Settings of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Threads that serve connections; by default one per core, at most 8, and half as many where
    /// models run in the same process.
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
    /// Bytes a second that a client must send of a body that is awaited, and take of an answer
    /// that waits for it. Slower ones are looked at over a third of `body_timeout`, and over
    /// `write_timeout`.
    pub rate_min: ByteSize,
    /// How old a connection may become, give or take a tenth: then the client is told to connect
    /// anew, with an answer over HTTP/1.1 and by GOAWAY over HTTP/2. For ever where it is 0.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
    /// Connections open at a time; further ones wait to be accepted.
    pub connections_max: NonZeroUsize,
    /// Of these, connections of one client; further ones are closed at once. By default half of
    /// them, and clients on this machine are not counted: a proxy stands for many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_client_max: Option<NonZeroUsize>,
    /// Where models may be loaded and unloaded over the network.
    pub repository_control: RepositoryControl,
    /// How long to go on accepting after the order to stop, so that others learn of it.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

/// Where models may be loaded and unloaded over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepositoryControl {
    /// Wherever the node listens, as clients of Triton expect.
    Everywhere,
    /// Where operators are listened to, and nowhere else.
    Admin,
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
            rate_min: ByteSize::kib(1),
            connection_age_max: Duration::from_secs(3600),
            connections_max: NonZeroUsize::new(10_000).expect("not zero"),
            connections_per_client_max: None,
            repository_control: RepositoryControl::Everywhere,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerConfig {
    /// Where no number of threads is set, takes half of the cores instead of all: models run in
    /// this process too. A small model's requests are served by fewer, busier threads, which
    /// wake less often and hand its instances larger batches.
    pub fn leave_cores_to_models(&mut self) {
        self.threads.get_or_insert_with(|| {
            NonZeroUsize::new(default_threads().get() / 2).unwrap_or(NonZeroUsize::MIN)
        });
    }

    /// How many connections one client may have.
    pub(crate) fn client_limit(&self) -> ClientLimit {
        match self.connections_per_client_max {
            Some(max) => ClientLimit { connections_max: max.get(), includes_loopback: true },
            None => ClientLimit {
                connections_max: self.connections_max.get().div_ceil(2),
                includes_loopback: false,
            },
        }
    }

    /// Watches that a client sends its body.
    pub(crate) fn body_pace(&self) -> Pace {
        Pace::new(self.body_timeout / 3, self.rate_min.as_u64())
    }

    /// Watches that a client takes its answer.
    pub(crate) fn write_pace(&self) -> Pace {
        Pace::new(self.write_timeout, self.rate_min.as_u64())
    }

    /// Threads that serve connections.
    pub(crate) fn thread_count(&self) -> NonZeroUsize {
        self.threads.unwrap_or_else(default_threads)
    }
}

fn default_threads() -> NonZeroUsize {
    const MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(MAX)
}
