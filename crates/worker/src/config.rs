//! What can be set about a worker.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use bytesize::ByteSize;
use inferring_policy::SchedulerConfig;
pub use inferring_repository::{BatchingMode, Pinning};
use inferring_repository::{PRIORITY_LEVELS_MAX, size};
use serde::{Deserialize, Serialize};

/// Settings of a worker. A model's own settings go before those that concern one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// The result cache.
    pub cache: CacheConfig,
    /// How requests share runs.
    pub batching: QueueConfig,
    /// How requests that follow each other are served.
    pub sequences: SequenceConfig,
    /// Runs of one model that may go on beside each other, each on a thread of its own; chosen
    /// by the cores that there are where absent.
    #[serde(with = "automatic")]
    pub instances: Option<NonZeroUsize>,
    /// Whether those threads keep to cores of their own.
    pub pinning: Pinning,
    /// How long a run may take; one that takes longer is ended and its instance replaced. As
    /// long as it wants where absent.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub run_limit: Option<Duration>,
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
            sequences: SequenceConfig::default(),
            instances: None,
            pinning: Pinning::None,
            run_limit: None,
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
    #[serde(with = "size")]
    pub bytes: ByteSize,
    /// How long an answer stays good; for ever where absent.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<Duration>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: ByteSize::mib(256), time_to_live: None }
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
    #[serde(with = "size")]
    pub queue_bytes_max: ByteSize,
    /// How many priorities there are; 1 is the most urgent.
    pub priority_levels: NonZeroU32,
    /// The priority of a request that states none.
    pub default_priority: NonZeroU32,
    /// Within what time answers should be there. Batches are planned by it; no request is
    /// dropped for it.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub target_latency: Option<Duration>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let policy = SchedulerConfig::default();
        Self {
            mode: BatchingMode::Auto,
            size_max: NonZeroUsize::new(policy.rows_max).expect("the default is 32"),
            delay_max: policy.delay_max,
            dispatch_when_idle: policy.dispatch_when_idle,
            queue_requests_max: 4096,
            queue_bytes_max: ByteSize::mib(512),
            priority_levels: NonZeroU32::new(3).expect("3 is not 0"),
            default_priority: NonZeroU32::new(2).expect("2 is not 0"),
            target_latency: None,
        }
    }
}

impl QueueConfig {
    /// How a model's jobs become batches, for one whose rows are joined in any number.
    pub(crate) fn scheduler(&self, instances: usize) -> SchedulerConfig {
        SchedulerConfig {
            rows_max: self.size_max.get(),
            rows_enough: self.size_max.get(),
            allowed: Vec::new(),
            delay_max: self.delay_max,
            dispatch_when_idle: self.dispatch_when_idle,
            classes: NonZeroUsize::try_from(self.priority_levels).unwrap_or(NonZeroUsize::MAX),
            target: self.target_latency,
            requests_max: self.queue_requests_max,
            bytes_max: self.queue_bytes_max.as_u64(),
            instances,
            run_limit: None,
        }
    }
}

/// How requests that follow each other are served, for models with state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceConfig {
    /// How long a sequence may be without a request before it is forgotten.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Sequences of one model at most; one of several rows counts as so many.
    pub count_max: NonZeroUsize,
}

impl Default for SequenceConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            count_max: NonZeroUsize::new(1024).expect("1024 is not 0"),
        }
    }
}

/// Settings of a worker that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {problem}")]
pub struct InvalidConfig {
    /// The setting, within those of the worker.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl WorkerConfig {
    /// Holds settings against each other.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the setting that cannot be.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let wrong = |key, problem: &str| Err(InvalidConfig { key, problem: problem.to_owned() });
        let QueueConfig { priority_levels, default_priority, target_latency, .. } = &self.batching;
        if priority_levels.get() > PRIORITY_LEVELS_MAX {
            let problem = format!("more than {PRIORITY_LEVELS_MAX}");
            return wrong("batching.priority_levels", &problem);
        }
        if default_priority > priority_levels {
            let problem =
                format!("{default_priority} is more than `priority_levels`: {priority_levels}");
            return wrong("batching.default_priority", &problem);
        }
        if target_latency.is_some_and(|target| target.is_zero()) {
            return wrong("batching.target_latency", "no answer takes no time");
        }
        if self.run_limit.is_some_and(|limit| limit.is_zero()) {
            return wrong("run_limit", "no run takes no time");
        }
        if self.sequences.idle_timeout.is_zero() {
            return wrong("sequences.idle_timeout", "a sequence would be forgotten at once");
        }
        Ok(())
    }
}

/// A number, or `"auto"`.
mod automatic {
    use std::fmt;
    use std::num::NonZeroUsize;

    use inferring_repository::INSTANCES_MAX;
    use serde::{Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        number: &Option<NonZeroUsize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match number {
            Some(number) => number.serialize(serializer),
            None => "auto".serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NonZeroUsize>, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Option<NonZeroUsize>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a number from 1 on")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let unsigned = u64::try_from(number);
                unsigned
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
                    .and_then(|number| self.visit_u64(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                let number_of_threads = usize::try_from(number).ok().and_then(NonZeroUsize::new);
                match number_of_threads.filter(|number| number.get() <= INSTANCES_MAX) {
                    None => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                    number => Ok(number),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "auto" => Ok(None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        assert_eq!(WorkerConfig::default().check(), Ok(()));
        let number = |number| NonZeroU32::new(number).unwrap();
        let of = |batching| WorkerConfig { batching, ..WorkerConfig::default() };
        let queue = QueueConfig::default;
        for (config, message) in [
            (
                of(QueueConfig { default_priority: number(4), ..queue() }),
                "`batching.default_priority`: 4 is more than `priority_levels`: 3",
            ),
            (
                of(QueueConfig { priority_levels: number(101), ..queue() }),
                "`batching.priority_levels`: more than 100",
            ),
            (
                of(QueueConfig { target_latency: Some(Duration::ZERO), ..queue() }),
                "`batching.target_latency`: no answer takes no time",
            ),
            (
                WorkerConfig { run_limit: Some(Duration::ZERO), ..WorkerConfig::default() },
                "`run_limit`: no run takes no time",
            ),
        ] {
            assert_eq!(config.check().unwrap_err().to_string(), message);
        }
    }
}
