//! The traits that a gateway, a worker and a remote client all implement.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{
    Deadline, InferRequest, InferResponse, ModelMetadata, ModelSelector, NodeStatus, ServiceError,
};

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers requests for inference: a worker, a gateway over workers, or a client of either.
///
/// `server` puts any of them on the network; a gateway does not know whether the service it
/// routes to is in its own process or across the network.
pub trait InferenceService: Send + Sync {
    /// The versions of models that it serves now; the first is the default model.
    fn models(&self) -> Vec<Arc<ModelMetadata>>;

    /// The version of a model that is asked for.
    ///
    /// # Errors
    /// `NotFound` where it is not served, `Unavailable` where that cannot be known yet.
    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError>;

    /// Whether it takes requests now: for what is asked, or at all where nothing is.
    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool;

    /// Whether a request is worth receiving of which only the head has come, and its place until
    /// it is here. A server asks before it receives a large body; who is refused so is answered as
    /// [`Self::infer`] would answer it, and counted so. By default everything is received.
    ///
    /// # Errors
    /// [`ServiceError`], as of a request that was received for nothing.
    fn anticipate(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        let _ = announced;
        Ok(Reservation::default())
    }

    /// Answers one request. Dropping the future gives up this request alone: work that others
    /// share goes on.
    ///
    /// # Errors
    /// [`ServiceError`], with its kind, blame and whether another worker may do better.
    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>>;

    /// Makes ready what requests will need that come on this thread, such as connections. A server
    /// calls it on each of its threads, every few seconds. It ends soon, and fails in silence.
    fn keep_warm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// A task that is to run on each thread that requests come on, beside theirs and as often as
    /// they: what is begun for requests on such a thread may be put off until it is this task's turn.
    /// `None` where there is nothing to do.
    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// What the head of a request tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Announced<'a> {
    /// The model that it is for.
    pub model: ModelSelector<'a>,
    /// Bytes of the body, where the head says how many come.
    pub body_bytes: Option<u64>,
    /// Bytes of tensors in the body, where they come as they are and the head says how many.
    pub tensor_bytes: Option<u64>,
    /// Its deadline; the body may state an earlier one.
    pub deadline: Deadline,
}

impl Announced<'_> {
    /// A body of more bytes than that is large: to receive it costs more than to answer without.
    pub const LARGE: u64 = 64 * 1024;
}

/// What is kept free for a request that is being received. Dropped, it is free for others: when
/// the request is handed over, or does not come.
#[derive(Default)]
#[must_use = "a reservation that is dropped at once keeps nothing free"]
pub struct Reservation(Option<Box<dyn Send + Sync>>);

impl Reservation {
    /// Whatever `held` keeps until it is dropped.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(held)))
    }

    /// Whether anything is kept free. Of some requests it is not known what they will take.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.0.is_some()).finish()
    }
}

/// Tells how a node is doing, for health checks, status pages and a gateway's probes.
pub trait StatusSource: Send + Sync {
    /// A snapshot of the node's state.
    ///
    /// # Errors
    /// [`ServiceError`] where a remote node does not answer.
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>>;

    /// Has `listener` told each time a remote node says, without being asked how it is, that it
    /// wants no new requests: with an answer, or on a connection. Its status would say the same,
    /// later. By default nobody is told.
    fn on_draining(&self, listener: DrainListener) {
        let _ = listener;
    }
}

/// Whoever is told that a node wants no new requests. It returns at once.
pub type DrainListener = Arc<dyn Fn() + Send + Sync>;
