//! What an operator may ask of a running node, and its clients may not.

use crate::{BoxFuture, ErrorKind, ServiceError, WorkerId, WorkerSpec};

/// A change to one worker of a gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WorkerChange {
    /// Its share of the keys, relative to the others.
    Weight(f64),
    /// Whether it gets no new requests.
    Draining(bool),
}

/// Changes a running node: its readiness, and the workers of one that has any.
///
/// What a node is like, its workers included, is told by its
/// [`StatusSource`](crate::StatusSource).
pub trait NodeAdmin: Send + Sync {
    /// Says in health checks from now on that the node takes no more requests, or says so no
    /// more. What comes all the same is still answered.
    fn set_draining(&self, draining: bool);

    /// Adds a worker, and returns when it was asked for its health once: before that it gets no
    /// request.
    ///
    /// # Errors
    /// `Conflict` where there is one of this id, or a list decides which workers there are;
    /// `InvalidArgument` where it cannot be one.
    fn add_worker(&self, worker: WorkerSpec) -> BoxFuture<'_, Result<(), ServiceError>> {
        let _ = worker;
        Box::pin(async { Err(no_gateway()) })
    }

    /// Removes a worker. Requests that it was sent are finished.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Conflict` where it is the last one, or a list
    /// decides which workers there are.
    fn remove_worker(&self, worker: WorkerId) -> BoxFuture<'_, Result<(), ServiceError>> {
        let _ = worker;
        Box::pin(async { Err(no_gateway()) })
    }

    /// Changes a worker.
    ///
    /// # Errors
    /// As [`Self::remove_worker`], and `InvalidArgument` for a weight that is none.
    fn change_worker(
        &self,
        worker: WorkerId,
        change: WorkerChange,
    ) -> BoxFuture<'_, Result<(), ServiceError>> {
        let _ = (worker, change);
        Box::pin(async { Err(no_gateway()) })
    }
}

fn no_gateway() -> ServiceError {
    let message = "this node is no gateway: it has no workers to change";
    ServiceError::new(ErrorKind::NotFound, crate::Blame::Client, message)
}
