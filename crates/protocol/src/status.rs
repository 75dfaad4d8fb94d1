//! Which status code an error becomes, and which error a status code was.

use std::time::Duration;

use http::StatusCode;
use inferring_types::{ErrorKind, ServiceError};
use tonic::Code;

/// The HTTP status of an error.
pub fn http_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::Unimplemented => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC code of an error.
pub fn grpc_code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::MethodNotAllowed | ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::Conflict => Code::FailedPrecondition,
        ErrorKind::TooLarge | ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Whole seconds that a client should wait before it asks again, for errors that pass: at least
/// one, which is also the answer where nobody can tell.
pub fn retry_after_seconds(error: &ServiceError) -> Option<u64> {
    let time = error.worth_retrying_after().unwrap_or_default();
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    passes(error.kind()).then_some(whole.max(1))
}

/// Milliseconds that a client should wait before it asks again, for errors that pass and of which
/// that can be told.
pub fn retry_after_milliseconds(error: &ServiceError) -> Option<u64> {
    let time = error.worth_retrying_after().filter(|_| passes(error.kind()))?;
    Some(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn passes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Overloaded | ErrorKind::Unavailable)
}

/// The error that a worker's answer stands for, with blame as the asking side sees it.
/// `retry_after` is what the answer's header says, if anything.
pub fn error_from_http(
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
) -> ServiceError {
    let error = error_of_status(status, message);
    match retry_after {
        Some(time) if passes(error.kind()) => error.retry_after(time),
        _ => error,
    }
}

fn error_of_status(status: StatusCode, message: String) -> ServiceError {
    use inferring_types::Blame::Client;
    match status {
        StatusCode::NOT_FOUND => ServiceError::not_found(message),
        StatusCode::METHOD_NOT_ALLOWED => {
            ServiceError::new(ErrorKind::MethodNotAllowed, Client, message)
        }
        StatusCode::FORBIDDEN => ServiceError::new(ErrorKind::Forbidden, Client, message),
        StatusCode::CONFLICT => ServiceError::new(ErrorKind::Conflict, Client, message),
        StatusCode::PAYLOAD_TOO_LARGE => ServiceError::new(ErrorKind::TooLarge, Client, message),
        StatusCode::TOO_MANY_REQUESTS => ServiceError::overloaded(message),
        StatusCode::SERVICE_UNAVAILABLE => ServiceError::unavailable(message),
        StatusCode::GATEWAY_TIMEOUT => ServiceError::deadline_exceeded(message),
        status if status.is_client_error() => ServiceError::invalid(message),
        _ => ServiceError::failed(message),
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::Blame;

    use super::*;

    #[test]
    fn an_error_keeps_its_kind_across_the_wire() {
        for error in [
            ServiceError::invalid("m"),
            ServiceError::not_found("m"),
            ServiceError::new(ErrorKind::MethodNotAllowed, Blame::Client, "m"),
            ServiceError::new(ErrorKind::Forbidden, Blame::Client, "m"),
            ServiceError::new(ErrorKind::Conflict, Blame::Client, "m"),
            ServiceError::new(ErrorKind::TooLarge, Blame::Client, "m"),
            ServiceError::overloaded("m"),
            ServiceError::unavailable("m"),
            ServiceError::deadline_exceeded("m"),
            ServiceError::failed("m"),
        ] {
            let read = error_from_http(http_status(error.kind()), "m".to_owned(), None);
            assert_eq!(
                (read.kind(), read.blame(), read.is_retryable()),
                (error.kind(), error.blame(), error.is_retryable()),
            );
        }
    }

    #[test]
    fn the_time_to_wait_is_told_in_whole_units_and_never_too_short() {
        let overloaded = || ServiceError::overloaded("m");
        for (error, seconds, milliseconds) in [
            (overloaded(), Some(1), None),
            (overloaded().retry_after(Duration::ZERO), Some(1), Some(0)),
            (overloaded().retry_after(Duration::from_micros(1500)), Some(1), Some(2)),
            (overloaded().retry_after(Duration::from_millis(2001)), Some(3), Some(2001)),
            (overloaded().retry_after(Duration::MAX), Some(u64::MAX), Some(u64::MAX)),
            (ServiceError::unavailable("m"), Some(1), None),
            (ServiceError::failed("m").retry_after(Duration::from_secs(1)), None, None),
            (ServiceError::deadline_exceeded("m"), None, None),
        ] {
            assert_eq!(retry_after_seconds(&error), seconds, "{error:?}");
            assert_eq!(retry_after_milliseconds(&error), milliseconds, "{error:?}");
        }
    }

    #[test]
    fn the_time_to_wait_reads_back_for_errors_that_pass() {
        let time = Some(Duration::from_secs(2));
        for (status, expected) in [(429, time), (503, time), (500, None), (504, None)] {
            let status = StatusCode::from_u16(status).unwrap();
            let read = error_from_http(status, "m".to_owned(), time);
            assert_eq!(read.worth_retrying_after(), expected, "{status}");
        }
    }
}
