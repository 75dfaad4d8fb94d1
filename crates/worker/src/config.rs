//! What can be set about a worker.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use inferring_policy::batching::BatchingConfig;
pub use inferring_repository::BatchingMode;
use serde::{Deserialize, Serialize};

/// Settings of a worker. A model's own settings go before those that concern one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// The result cache.
    pub cache: CacheConfig,
    /// How requests share runs.
    pub batching: QueueConfig,
    /// Sessions per model, each with a thread of its own.
    pub instances: NonZeroUsize,
    /// Whether every model in a folder of models must load for the worker to start. A model that
    /// is named by itself must in any case.
    pub strict: bool,
    /// How often the models' files are looked at, to follow what becomes of them; never where
    /// absent.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub watch: Option<Duration>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            cache: CacheConfig::default(),
            batching: QueueConfig::default(),
            instances: NonZeroUsize::MIN,
            strict: false,
            watch: None,
        }
    }
}

/// Bounds of the result cache. Whichever is reached first counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Answers held at most; 0 turns the cache off (equal requests in flight still share a run).
    pub entries: usize,
    /// Bytes held at most.
    pub bytes: ByteSize,
    /// How long an answer stays good; for ever where absent.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<Duration>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { entries: 1000, bytes: ByteSize::mib(256), time_to_live: None }
    }
}

/// How requests wait for a run and share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Whether rows of different requests may share a run.
    pub mode: BatchingMode,
    /// Rows in one run at most.
    pub size_max: NonZeroUsize,
    /// How long a request may be held back for others to join it.
    #[serde(with = "humantime_serde")]
    pub delay_max: Duration,
    /// Whether an idle instance takes what is there at once. Off, a batch leaves when it is
    /// full or its oldest request has waited `delay_max`.
    pub dispatch_when_idle: bool,
    /// Requests waiting at most; one more is refused as overload.
    pub queue_requests_max: usize,
    /// Input bytes waiting at most.
    pub queue_bytes_max: ByteSize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let policy = BatchingConfig::default();
        Self {
            mode: BatchingMode::Auto,
            size_max: NonZeroUsize::new(policy.rows_max).expect("the default is 32"),
            delay_max: policy.delay_max,
            dispatch_when_idle: policy.dispatch_when_idle,
            queue_requests_max: 4096,
            queue_bytes_max: ByteSize::mib(512),
        }
    }
}

impl QueueConfig {
    pub(crate) fn policy(&self) -> BatchingConfig {
        BatchingConfig {
            rows_max: self.size_max.get(),
            rows_enough: self.size_max.get(),
            delay_max: self.delay_max,
            dispatch_when_idle: self.dispatch_when_idle,
        }
    }
}
