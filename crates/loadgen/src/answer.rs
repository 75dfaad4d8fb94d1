//! What a load generator reads of an answer: who gave it, and whether from a cache.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use inferring_protocol::rest::headers;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// A good answer.
///
/// The output is passed over, not decoded: the generator shares the machine with the server
/// often enough.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// The worker that answered.
    pub(crate) node_id: Cow<'a, str>,
    /// Whether the answer was in its cache.
    pub(crate) cached: bool,
    /// What the worker took, by its own measure.
    pub(crate) inference_time_us: u64,
    /// The output as it stands in the answer.
    output: &'a [u8],
}

/// The answer to a plain request.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    output_data: &'a RawValue,
    #[serde(flatten, borrow)]
    served: Served<'a>,
}

/// The head of the answer to a binary request.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    parameters: Served<'a>,
}

#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    node_id: Cow<'a, str>,
    cached: bool,
    inference_time_us: u64,
}

impl<'a> Answer<'a> {
    pub(crate) fn read(response: &'a Response<Bytes>) -> Result<Self, Failure> {
        if response.status() != StatusCode::OK {
            return Err(Failure::status(response.status(), response.body()));
        }
        let malformed = |error: &dyn std::fmt::Display| {
            Failure::malformed(format!("the answer is not as expected: {error}"))
        };
        let body = response.body();
        let length =
            headers::json_length(response.headers(), body.len()).map_err(|e| malformed(&e))?;
        let (served, output) = match length {
            Some(length) => {
                let (head, output) = body.split_at(length);
                let head: Head<'_> = serde_json::from_slice(head).map_err(|e| malformed(&e))?;
                (head.parameters, output)
            }
            None => {
                let plain: Plain<'_> = serde_json::from_slice(body).map_err(|e| malformed(&e))?;
                (plain.served, plain.output_data.get().as_bytes())
            }
        };
        let Served { node_id, cached, inference_time_us } = served;
        Ok(Self { node_id, cached, inference_time_us, output })
    }

    /// The output as it came, text or bytes, shared with the response that it was read from.
    pub(crate) fn output(&self, response: &Response<Bytes>) -> Bytes {
        response.body().slice_ref(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn response(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn node_cache_and_output_are_read() {
        let response = response(
            200,
            r#"{"request_id":"1","output_data":[0.5, 1e-7],"node_id":"w\n1","cached":true,"inference_time_us":12,"more":{}}"#,
        );
        let answer = Answer::read(&response).unwrap();
        assert_eq!((&*answer.node_id, answer.cached, answer.inference_time_us), ("w\n1", true, 12));
        assert_eq!(answer.output(&response), "[0.5, 1e-7]");
    }

    #[test]
    fn a_binary_answer_is_read_as_well() {
        let head = r#"{"id":"1","parameters":{"node_id":"w","cached":false,"inference_time_us":7,"batch_size":2},"outputs":[]}"#;
        let mut response = Response::new(Bytes::from([head.as_bytes(), &[0, 255]].concat()));
        response.headers_mut().insert(headers::JSON_LENGTH, head.len().into());
        let answer = Answer::read(&response).unwrap();
        assert_eq!((&*answer.node_id, answer.cached, answer.inference_time_us), ("w", false, 7));
        assert_eq!(answer.output(&response)[..], [0, 255]);
    }

    #[test]
    fn a_status_of_200_alone_is_no_good_answer() {
        for body in ["", "ok", r#"{"node_id":"w","cached":true}"#] {
            let failure = Answer::read(&response(200, body)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Malformed, "{body}");
        }
        let failure = Answer::read(&response(503, r#"{"error":"no worker"}"#)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Status(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(failure.message, "no worker");
    }
}
