//! Which status code an error becomes, and which error a status code was.

use http::StatusCode;
use inferring_types::{ErrorKind, ServiceError};
use tonic::Code;

/// The HTTP status of an error.
pub fn http_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::Unimplemented => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
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
        ErrorKind::TooLarge | ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Seconds that a client should wait before it asks again, for errors that pass.
pub fn retry_after_seconds(kind: ErrorKind) -> Option<u32> {
    matches!(kind, ErrorKind::Overloaded | ErrorKind::Unavailable).then_some(1)
}

/// The error that a worker's answer stands for, with blame as the asking side sees it.
pub fn error_from_http(status: StatusCode, message: String) -> ServiceError {
    use inferring_types::Blame::Client;
    match status {
        StatusCode::NOT_FOUND => ServiceError::not_found(message),
        StatusCode::METHOD_NOT_ALLOWED => {
            ServiceError::new(ErrorKind::MethodNotAllowed, Client, message)
        }
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
            ServiceError::new(ErrorKind::TooLarge, Blame::Client, "m"),
            ServiceError::overloaded("m"),
            ServiceError::unavailable("m"),
            ServiceError::deadline_exceeded("m"),
            ServiceError::failed("m"),
        ] {
            let read = error_from_http(http_status(error.kind()), "m".to_owned());
            assert_eq!(
                (read.kind(), read.blame(), read.is_retryable()),
                (error.kind(), error.blame(), error.is_retryable()),
            );
        }
    }
}
