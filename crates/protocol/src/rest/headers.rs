//! Header fields that carry meaning between clients, gateways and workers.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use inferring_types::{RequestId, ServiceError};

use crate::grpc::parse_timeout;

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

/// How long whoever asks is ready to wait, if that is said: in `X-Request-Timeout-Ms`, in
/// `X-Envoy-Expected-Rq-Timeout-Ms`, as Envoy tells those behind it, or in gRPC's `grpc-timeout`.
/// The least counts: each of those on the way has its own say, and nobody waits longer than the
/// least patient of them.
///
/// # Errors
/// `InvalidArgument` where a field is no whole number of milliseconds, or no time as gRPC has it.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ServiceError> {
    let mut least: Option<Duration> = None;
    // All are gone through once, which takes less time than to look for each of three.
    for (name, value) in headers {
        let (shown, time) = match name.as_str() {
            "x-request-timeout-ms" => ("X-Request-Timeout-Ms", milliseconds(value)),
            "x-envoy-expected-rq-timeout-ms" => {
                ("X-Envoy-Expected-Rq-Timeout-Ms", milliseconds(value))
            }
            "grpc-timeout" => ("grpc-timeout", of_grpc(value)),
            _ => continue,
        };
        let time = time.map_err(|expected| {
            let got = value.as_bytes().escape_ascii();
            ServiceError::invalid(format!("header {shown}: expected {expected}, got `{got}`"))
        })?;
        least = Some(least.map_or(time, |least| least.min(time)));
    }
    Ok(least)
}

/// A time in milliseconds, or what was expected.
fn milliseconds(value: &HeaderValue) -> Result<Duration, &'static str> {
    parse(value).map(Duration::from_millis).ok_or("a whole number of milliseconds")
}

/// A time as gRPC has it, or what was expected.
fn of_grpc(value: &HeaderValue) -> Result<Duration, &'static str> {
    value.to_str().ok().and_then(parse_timeout).ok_or("at most 8 digits and a unit")
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

    const ENVOY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
    const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

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
    fn the_least_of_all_times_counts() {
        let milliseconds = |count| Some(Duration::from_millis(count));
        for (fields, expected) in [
            (&[][..], None),
            (&[(TIMEOUT, "250")], milliseconds(250)),
            (&[(ENVOY_TIMEOUT, "250")], milliseconds(250)),
            (&[(GRPC_TIMEOUT, "2S")], milliseconds(2000)),
            (&[(TIMEOUT, "250"), (ENVOY_TIMEOUT, "15000")], milliseconds(250)),
            (&[(TIMEOUT, "250"), (ENVOY_TIMEOUT, "100"), (GRPC_TIMEOUT, "1S")], milliseconds(100)),
            (&[(TIMEOUT, "250"), (GRPC_TIMEOUT, "0n")], milliseconds(0)),
            // A proxy has added its own beside the client's.
            (&[(TIMEOUT, "250"), (TIMEOUT, "90")], milliseconds(90)),
        ] {
            let value = |(name, text): &(HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(text))
            };
            let mut headers = HeaderMap::new();
            for (name, text) in fields.iter().map(value) {
                headers.append(name, text);
            }
            assert_eq!(timeout(&headers).unwrap(), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        for (name, value) in [(TIMEOUT, "2s"), (ENVOY_TIMEOUT, "-1"), (GRPC_TIMEOUT, "soon")] {
            let error = timeout(&with(name.clone(), value)).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(name.as_str()), "{error}");
            assert!(error.contains(value), "{error}");
        }
    }
}
