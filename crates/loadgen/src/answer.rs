//! What a load generator reads of an answer: who gave it, and whether from a cache.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// A good answer to `POST /infer`.
///
/// The output is passed over, not decoded: the generator shares the machine with the server
/// often enough.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    /// The worker that answered.
    #[serde(borrow)]
    pub(crate) node_id: Cow<'a, str>,
    /// Whether the answer was in its cache.
    pub(crate) cached: bool,
    /// What the worker took, by its own measure.
    pub(crate) inference_time_us: u64,
    /// The output as it stands in the answer.
    #[serde(borrow)]
    output_data: &'a RawValue,
}

impl<'a> Answer<'a> {
    pub(crate) fn read(response: &'a Response<Bytes>) -> Result<Self, Failure> {
        if response.status() != StatusCode::OK {
            return Err(Failure::status(response.status(), response.body()));
        }
        serde_json::from_slice(response.body())
            .map_err(|error| Failure::malformed(format!("the answer is not as expected: {error}")))
    }

    /// The text of `output_data`, shared with the response that it was read from.
    pub(crate) fn output(&self, response: &Response<Bytes>) -> Bytes {
        response.body().slice_ref(self.output_data.get().as_bytes())
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
