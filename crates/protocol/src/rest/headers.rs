//! Header fields that carry meaning between clients, gateways and workers.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use inferring_types::{RequestId, ServiceError};

/// The length in bytes of the JSON part of a body that goes on with raw tensors.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The request's id, given or made.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Milliseconds that the client is ready to wait; a gateway forwards what remains.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The JSON length that a message declares, if any.
///
/// # Errors
/// `InvalidArgument` where the field is no number or exceeds the body.
pub fn json_length(headers: &HeaderMap, body: usize) -> Result<Option<usize>, ServiceError> {
    let Some(value) = headers.get(JSON_LENGTH) else {
        return Ok(None);
    };
    match parse::<usize>(value) {
        Some(length) if length <= body => Ok(Some(length)),
        _ => Err(ServiceError::invalid(format!(
            "header Inference-Header-Content-Length: expected a number of bytes of at most the \
             body's {body}, got `{}`",
            value.as_bytes().escape_ascii(),
        ))),
    }
}

/// The request id in the header, if any.
///
/// # Errors
/// `InvalidArgument` where it is empty, too long or has invisible characters.
pub fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, ServiceError> {
    let Some(value) = headers.get(REQUEST_ID) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    let parsed = text
        .parse()
        .map_err(|error| ServiceError::invalid(format!("header X-Request-Id: {error}")))?;
    Ok(Some(parsed))
}

/// The time-out that the client asks for, if any.
///
/// # Errors
/// `InvalidArgument` where the field is no whole number of milliseconds.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ServiceError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    match parse(value) {
        Some(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        None => Err(ServiceError::invalid(format!(
            "header X-Request-Timeout-Ms: expected a whole number of milliseconds, got `{}`",
            value.as_bytes().escape_ascii(),
        ))),
    }
}

/// The time after which the answer's sender says that another try is worth it; `None` also where
/// it names a date, which no worker does.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(parse).map(Duration::from_secs)
}

fn parse<T: std::str::FromStr>(value: &HeaderValue) -> Option<T> {
    value.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_json_length_beyond_the_body_is_refused() {
        assert_eq!(json_length(&with(JSON_LENGTH, "10"), 10).unwrap(), Some(10));
        for lie in ["11", "-1", "x", "99999999999999999999"] {
            assert!(json_length(&with(JSON_LENGTH, lie), 10).is_err(), "{lie}");
        }
        assert_eq!(json_length(&HeaderMap::new(), 10).unwrap(), None);
    }

    #[test]
    fn a_time_to_wait_is_seconds() {
        let read = |value| retry_after(&with(RETRY_AFTER, value));
        assert_eq!(read("2"), Some(Duration::from_secs(2)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn a_timeout_is_milliseconds() {
        let read = timeout(&with(TIMEOUT, "250")).unwrap();
        assert_eq!(read, Some(Duration::from_millis(250)));
        assert!(timeout(&with(TIMEOUT, "2s")).is_err());
    }
}
