//! The questions to the server, and its refusals as people need to read them.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use inferring_protocol::array::{self, Style};
use inferring_protocol::fields::{EXPLAIN, Explanation};
use inferring_protocol::rest::{Chunks, ModelDocument, headers, v2};
use inferring_types::{
    DataType, InferRequest, InferResponse, ModelMetadata, ModelName, ModelVersion, NamedTensor,
    Tensor,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::explanation::of_failure;
use crate::http::{Address, HttpError, get, send};

/// Which model of which server is asked.
pub(super) struct Asked {
    pub(super) address: Address,
    pub(super) model: ModelName,
    pub(super) version: Option<ModelVersion>,
    pub(super) timeout: Duration,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    /// Its tensors as JSON.
    pub(super) as_json: bool,
    /// With the question why it is answered by whom.
    pub(super) explain: bool,
}

impl Asked {
    /// What the model takes and gives.
    pub(super) async fn metadata(&self) -> anyhow::Result<ModelMetadata> {
        let response = get(&self.address, &self.path(), self.timeout).await;
        let response = response.map_err(|error| self.no_answer(&error))?;
        ensure!(response.status() == StatusCode::OK, refusal(&response));
        let document: ModelDocument =
            serde_json::from_slice(response.body()).with_context(|| self.no_server_of_ours())?;
        Ok(document.try_into()?)
    }

    /// Sends the request and reads the answer, and why it came from where it did if that is told.
    pub(super) async fn infer(
        &self,
        request: &InferRequest,
        ways: Ways,
    ) -> anyhow::Result<(InferResponse, Option<Explanation>)> {
        let milliseconds = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut builder = Request::post(format!("{}/infer", self.path()))
            .header(headers::TIMEOUT, milliseconds)
            .header(headers::REQUEST_ID, request.id.as_str());
        if ways.explain {
            builder = builder.header(EXPLAIN, "1");
        }
        let message = if ways.as_json {
            builder
                .header(CONTENT_TYPE, "application/json")
                .body(Chunks::one(json_request(request)?))
        } else {
            let v2::Message { body, json_length } = v2::encode_request(request);
            let json_length = json_length.expect("tensors go raw");
            builder
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(headers::JSON_LENGTH, json_length)
                .body(body)
        };
        let response = send(&self.address, message, self.timeout)
            .await
            .map_err(|error| self.no_answer(&error))?;
        let explanation = response.headers().get(EXPLAIN).and_then(Explanation::parse);
        if response.status() != StatusCode::OK {
            let refusal = refusal(&response);
            return Err(match &explanation {
                Some(explanation) => refusal.context(of_failure(explanation)),
                None => refusal,
            });
        }
        let json_length = headers::json_length(response.headers(), response.body().len())?;
        let (id, model) = (request.id.clone(), self.model.clone());
        let decoded = v2::decode_response(response.body().clone().into(), json_length, id, model)
            .with_context(|| self.no_server_of_ours())?;
        Ok((decoded, explanation))
    }

    fn path(&self) -> String {
        match &self.version {
            Some(version) => format!("/v2/models/{}/versions/{version}", self.model),
            None => format!("/v2/models/{}", self.model),
        }
    }

    fn no_answer(&self, error: &HttpError) -> anyhow::Error {
        let address = &self.address;
        match error {
            HttpError::Timeout(_) => anyhow!("http://{address}: {error}; --timeout allows more"),
            HttpError::Broken(_) => anyhow!("http://{address}: {error}"),
            HttpError::Refused | HttpError::Unresolved { .. } | HttpError::Unconnected(_) => {
                anyhow!(
                    "cannot reach http://{address}: {error}. Start a server with `inferring serve \
                 MODEL.onnx`, or name another one with --url",
                )
            }
        }
    }

    fn no_server_of_ours(&self) -> String {
        format!("http://{} answers, but not as an inference server does", self.address)
    }
}

/// What a server says that it refuses with. Of an unknown model it tells which ones there are.
fn refusal(response: &Response<Bytes>) -> anyhow::Error {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }

    let status = response.status();
    match serde_json::from_slice::<Refusal>(response.body()) {
        Ok(Refusal { error }) => anyhow!("{error} (HTTP {})", status.as_u16()),
        Err(_) => anyhow!("the server answered with HTTP {status}"),
    }
}

/// The request with its tensors as JSON; outputs come as JSON, too.
fn json_request(request: &InferRequest) -> anyhow::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        id: &'a str,
        parameters: Parameters<'a>,
        inputs: Vec<Input<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outputs: Vec<Output<'a>>,
    }
    #[derive(Serialize)]
    struct Parameters<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<NonZeroU32>,
        #[serde(flatten)]
        sequence: Option<Sequence<'a>>,
    }
    #[derive(Serialize)]
    struct Sequence<'a> {
        sequence_id: &'a str,
        sequence_start: bool,
        sequence_end: bool,
    }
    #[derive(Serialize)]
    struct Input<'a> {
        name: &'a str,
        datatype: &'a str,
        shape: &'a [u64],
        data: Box<RawValue>,
    }
    #[derive(Serialize)]
    struct Output<'a> {
        name: &'a str,
    }

    let sequence = request.sequence.as_ref().map(|step| Sequence {
        sequence_id: step.id.as_str(),
        sequence_start: step.start,
        sequence_end: step.end,
    });
    let inputs = request.inputs.iter().map(|NamedTensor { name, tensor }| {
        Ok(Input {
            name: name.as_str(),
            datatype: tensor.datatype().name(),
            shape: tensor.shape().dimensions(),
            data: data(tensor).with_context(|| format!("input `{name}`"))?,
        })
    });
    let outputs = request.outputs.iter().map(|name| Output { name: name.as_str() });
    Ok(serde_json::to_vec(&Body {
        id: request.id.as_str(),
        parameters: Parameters { priority: request.priority, sequence },
        inputs: inputs.collect::<anyhow::Result<_>>()?,
        outputs: outputs.collect(),
    })?)
}

/// A tensor's elements as JSON, where JSON can carry them as they are.
fn data(tensor: &Tensor) -> anyhow::Result<Box<RawValue>> {
    let text = array::write(tensor, Style::JSON);
    if tensor.datatype() == DataType::Bytes {
        let lossless = tensor.strings().all(|string| std::str::from_utf8(string).is_ok());
        ensure!(lossless, "JSON cannot carry strings that are no UTF-8: leave --json-tensors out");
    } else {
        // Only names of numbers that are not finite are quoted.
        let finite = !text.contains('"');
        ensure!(finite, "JSON cannot carry NaN and infinities: leave --json-tensors out");
    }
    // The data of a scalar is an array, too.
    let text = if tensor.shape().rank() == 0 { format!("[{text}]") } else { text };
    Ok(RawValue::from_string(text)?)
}
