//! What a client is told whose job does not run.

use inferring_policy::scheduler::Refusal;
use inferring_types::ServiceError;

/// Why a job is not taken.
pub(super) fn error(refusal: Refusal) -> ServiceError {
    match refusal {
        Refusal::Closed => ServiceError::unavailable("the worker is shutting down"),
        Refusal::Full { requests, bytes, retry_after } => ServiceError::overloaded(format!(
            "the model's queue is full: {requests} requests with {bytes} bytes are waiting",
        ))
        .retry_after(retry_after),
        Refusal::Late { needed, remaining, retry_after } => ServiceError::overloaded(format!(
            "the model is busy: an answer would take {needed:.1?}, and {remaining:.1?} are left",
        ))
        .retry_after(retry_after),
        Refusal::Hopeless { needed, remaining } => ServiceError::deadline_exceeded(format!(
            "the model takes {needed:.1?} for this request, and {remaining:.1?} are left",
        )),
    }
}

/// A job was taken, and could no longer have been answered in time when its turn came.
pub(super) fn too_late() -> ServiceError {
    ServiceError::deadline_exceeded(
        "the request waited so long for an instance that its deadline would pass in the run",
    )
}
