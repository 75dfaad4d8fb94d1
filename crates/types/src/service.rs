//! The traits that a gateway, a worker and a remote client all implement.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{InferRequest, InferResponse, ModelMetadata, ModelSelector, NodeStatus, ServiceError};

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
}

/// Tells how a node is doing, for health checks, status pages and a gateway's probes.
pub trait StatusSource: Send + Sync {
    /// A snapshot of the node's state.
    ///
    /// # Errors
    /// [`ServiceError`] where a remote node does not answer.
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>>;
}
