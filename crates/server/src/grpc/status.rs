//! Errors as gRPC answers.

use inferring_protocol::status::{grpc_code, retry_after_milliseconds};
use inferring_types::{ErrorKind, RequestId, ServiceError};
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::{debug, warn};

/// The request's id, given or made: the field that it has over REST too.
const REQUEST_ID: &str = "x-request-id";

/// How long to wait before another try. Every gRPC library heeds it by itself where its channel is
/// set to retry (gRFC A6); the richer `google.rpc.RetryInfo` is heeded by none. Where the time is
/// not known it is left out: a client's own growing and scattered waits are better than a guess.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// An error as an answer; what concerns the operator goes into the log, once.
pub(super) fn status(error: &ServiceError, id: Option<&RequestId>) -> Status {
    let request = id.map(RequestId::as_str).unwrap_or_default();
    if error.kind() == ErrorKind::Internal {
        warn!(request, error = %error.chain(), "request failed");
    } else {
        debug!(request, error = %error.chain(), "request refused");
    }
    let mut status = Status::new(grpc_code(error.kind()), error.to_string());
    if let Some(milliseconds) = retry_after_milliseconds(error) {
        status.metadata_mut().insert(RETRY_PUSHBACK, milliseconds.into());
    }
    if let Some(id) = id {
        insert_request_id(status.metadata_mut(), id);
    }
    status
}

/// Says which request an answer is for. An id that is not ASCII is only in the answer itself:
/// metadata cannot carry it.
pub(super) fn insert_request_id(metadata: &mut MetadataMap, id: &RequestId) {
    if let Ok(value) = MetadataValue::try_from(id.as_str()) {
        metadata.insert(REQUEST_ID, value);
    }
}
