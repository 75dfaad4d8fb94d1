//! One request for inference, and its answer.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{
    Deadline, ModelName, ModelSelector, ModelVersion, NamedTensor, SequenceStep, TensorName,
};

/// The id that a client gave a request, or that was made for it. It names the request in
/// answers and logs and decides nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// A text that cannot be a request id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a request id takes 1 to {max} visible characters, got {0} bytes", max = RequestId::MAX_LENGTH)]
pub struct InvalidRequestId(pub usize);

impl RequestId {
    /// The longest id, in bytes.
    pub const MAX_LENGTH: usize = 256;

    /// A new id, unique across processes: a random prefix per process and a counter.
    pub fn generate() -> Self {
        static PREFIX: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));
        static COUNTER: AtomicU64 = AtomicU64::new(1);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 25];
        write_hexadecimal(*PREFIX, &mut text[..12]);
        text[12] = b'-';
        write_hexadecimal(count, &mut text[13..]);
        Self(str::from_utf8(&text).expect("hexadecimal digits are ASCII").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Writes the lowest digits of `number`, as many as there is room for.
fn write_hexadecimal(mut number: u64, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

impl FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=Self::MAX_LENGTH).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRequestId(text.len()))
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The stable name of a worker: its place on the ring hangs on it, its address does not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for WorkerId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A request for one inference, decoded.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Its id.
    pub id: RequestId,
    /// The model to ask.
    pub model: ModelName,
    /// The version of it as asked for, or another name for one; the newest where absent.
    pub version: Option<ModelVersion>,
    /// The inputs as given; a service holds them against the model by
    /// [`ModelMetadata::arrange`](crate::ModelMetadata::arrange).
    pub inputs: Vec<NamedTensor>,
    /// The outputs to answer with; empty for all.
    pub outputs: Vec<TensorName>,
    /// When nobody waits any more.
    pub deadline: Deadline,
    /// How urgent it is among the requests for its model: 1 is the most urgent level, and what
    /// goes beyond the model's levels is its last. The model's default where absent.
    pub priority: Option<NonZeroU32>,
    /// Its place in a sequence, for a model whose state the server keeps.
    pub sequence: Option<SequenceStep>,
}

impl InferRequest {
    /// A request of a new id for all outputs of a model's newest version, of no special urgency
    /// and in no sequence.
    pub fn new(model: ModelName, inputs: Vec<NamedTensor>, deadline: Deadline) -> Self {
        Self {
            id: RequestId::generate(),
            model,
            version: None,
            inputs,
            outputs: Vec::new(),
            deadline,
            priority: None,
            sequence: None,
        }
    }

    /// What it asks for.
    pub fn selector(&self) -> ModelSelector<'_> {
        let version = self.version.as_ref().map(ModelVersion::as_str);
        ModelSelector::new(self.model.as_str(), version)
    }
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheOutcome {
    /// The model ran for this request.
    Computed,
    /// The answer was in the cache.
    Hit,
    /// Another request with equal content was being computed; its answer was shared.
    Joined,
}

impl CacheOutcome {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Hit => "hit",
            Self::Joined => "joined",
        }
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Computed, Self::Hit, Self::Joined].into_iter().find(|o| o.name() == name)
    }
}

/// Who served a request and what it took, all measured at the worker.
#[derive(Debug, Clone)]
pub struct Served {
    /// The worker.
    pub worker: WorkerId,
    /// Whether the model ran for this request.
    pub cache: CacheOutcome,
    /// From the worker's acceptance of the request to its answer.
    pub inference_time: Duration,
    /// How long the request, or the one it joined, waited for an instance. Zero for a hit.
    pub queue_time: Duration,
    /// How long the run took that computed the answer. Zero for a hit.
    pub execution_time: Duration,
    /// Rows in that run, this request's own included. Zero for a hit.
    pub batch_size: u32,
    /// What the next request for this model may expect there.
    pub load: WorkerLoad,
}

/// What a worker expects of a request for a model, told with each answer. A gateway reckons with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerLoad {
    /// How long it would wait for an instance, by what runs were found to cost.
    pub wait: Duration,
    /// How long a run for it alone takes. Zero where nothing has been measured.
    pub run: Duration,
}

/// How a gateway came to ask the worker that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// Which try it was that was answered, counted from 1; a hedge is a try.
    pub attempt: u32,
    /// Why that worker was asked.
    pub reason: RouteReason,
    /// From the gateway's acceptance of the request to the worker's answer.
    pub time: Duration,
}

/// Why a gateway asked a worker and not another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteReason {
    /// The request's content belongs to it.
    Primary,
    /// The content is asked for so often that several workers answer it.
    Replica,
    /// An equal request is under way there and not answered yet.
    Flight,
    /// Those before it had their share of the load.
    Bound,
    /// Those before it have open breakers.
    Breaker,
    /// Those before it were taken out for doing far worse than the others.
    Ejected,
    /// Those before it could not have answered in time, by what they told of their queues.
    Backlog,
    /// Those before it have only just begun, and get a growing part of what belongs to them.
    SlowStart,
    /// Those before it are not there or say nothing, or drain.
    Unreachable,
    /// A try before it failed.
    Retry,
    /// The try before it took longer than most do, and went on beside it.
    Hedge,
    /// So few workers do well that all are asked.
    Panic,
}

impl RouteReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Primary,
        Self::Replica,
        Self::Flight,
        Self::Bound,
        Self::Breaker,
        Self::Ejected,
        Self::Backlog,
        Self::SlowStart,
        Self::Unreachable,
        Self::Retry,
        Self::Hedge,
        Self::Panic,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Flight => "flight",
            Self::Bound => "bound",
            Self::Breaker => "breaker",
            Self::Ejected => "ejected",
            Self::Backlog => "backlog",
            Self::SlowStart => "slow_start",
            Self::Unreachable => "unreachable",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Panic => "panic",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// The answer to an [`InferRequest`].
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// The request's id.
    pub id: RequestId,
    /// The model that answered.
    pub model: ModelName,
    /// The version of it that answered.
    pub version: ModelVersion,
    /// The outputs asked for, in the model's order; shared with the cache.
    pub outputs: Arc<[NamedTensor]>,
    /// Who served it, and what it took.
    pub served: Served,
    /// How a gateway came to ask that worker; `None` where none was asked.
    pub routed: Option<Routed>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_differ_and_are_valid() {
        let (one, two) = (RequestId::generate(), RequestId::generate());
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse(), Ok(one));
    }

    #[test]
    fn an_id_is_short_and_visible() {
        assert!("test1".parse::<RequestId>().is_ok());
        assert!("größe 1".parse::<RequestId>().is_ok());
        for bad in ["", "a\nb", &"x".repeat(257)] {
            assert!(bad.parse::<RequestId>().is_err());
        }
    }
}
