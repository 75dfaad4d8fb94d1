//! The typed request and answer, and their Open Inference Protocol v2 binary form.
//!
//! HTTP/1.1, HTTP/2 and the plain frames carry this same form, a small JSON header followed by the raw tensor, so that
//! between them only the transport differs. gRPC has its own encoding, as it would in the product.

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes, buf::Chain};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One inference on a model with one FP32 input.
pub struct InferRequest {
    pub model: String,
    pub id: String,
    pub shape: Vec<i64>,
    /// Row-major little-endian FP32, `4 * product(shape)` bytes.
    pub tensor: Bytes,
}

/// The answer, with what the gateway reports about it.
pub struct InferAnswer {
    pub model: String,
    pub id: String,
    pub shape: Vec<i64>,
    /// Row-major little-endian FP32.
    pub tensor: Bytes,
    pub worker_id: String,
    pub cached: bool,
    pub time_us: u64,
}

/// JSON header, then tensor. Two pieces when the tensor is large, so that it is not copied to be sent; one piece when it
/// is small, because a copy of 16 bytes costs less than one more buffer in every `writev`.
pub struct Encoded {
    pub header_length: usize,
    pub body: EncodedBody,
}

pub type EncodedBody = Chain<Bytes, Bytes>;

/// Tensors up to this many bytes join their header.
const JOIN_MAX: usize = 4 << 10;

impl Encoded {
    fn new(mut header: Vec<u8>, tensor: Bytes) -> Self {
        let header_length = header.len();
        if tensor.len() > JOIN_MAX {
            return Self { header_length, body: Bytes::from(header).chain(tensor) };
        }
        header.extend_from_slice(&tensor);
        Self { header_length, body: Bytes::from(header).chain(Bytes::new()) }
    }
}

#[derive(Serialize, Deserialize)]
struct Tensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Cow<'a, [i64]>,
    parameters: TensorParameters,
}

#[derive(Serialize, Deserialize)]
struct TensorParameters {
    binary_data_size: usize,
}

#[derive(Serialize, Deserialize)]
struct RequestHeader<'a> {
    #[serde(borrow)]
    model_name: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    inputs: [Tensor<'a>; 1],
}

#[derive(Serialize, Deserialize)]
struct AnswerHeader<'a> {
    #[serde(borrow)]
    model_name: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    parameters: AnswerParameters<'a>,
    #[serde(borrow)]
    outputs: [Tensor<'a>; 1],
}

#[derive(Serialize, Deserialize)]
struct AnswerParameters<'a> {
    #[serde(borrow)]
    worker_id: Cow<'a, str>,
    cached: bool,
    time_us: u64,
}

impl<'a> Tensor<'a> {
    fn of(name: &'a str, shape: &'a [i64], tensor: &Bytes) -> Self {
        Self {
            name: name.into(),
            datatype: "FP32".into(),
            shape: shape.into(),
            parameters: TensorParameters { binary_data_size: tensor.len() },
        }
    }
}

impl InferRequest {
    /// Refuses a tensor whose size contradicts its shape.
    pub fn checked(self) -> Result<Self> {
        let elements: i64 = self.shape.iter().product();
        ensure!(self.tensor.len() as i64 == 4 * elements, "shape and tensor size disagree");
        Ok(self)
    }

    pub fn encode(self) -> Result<Encoded> {
        let header = serde_json::to_vec(&RequestHeader {
            model_name: self.model.as_str().into(),
            id: self.id.as_str().into(),
            inputs: [Tensor::of("input", &self.shape, &self.tensor)],
        })?;
        Ok(Encoded::new(header, self.tensor))
    }

    pub fn decode(mut body: Bytes, header_length: usize) -> Result<Self> {
        ensure!(header_length <= body.len(), "the header is longer than the body");
        let json = body.split_to(header_length);
        let header: RequestHeader<'_> = serde_json::from_slice(&json).context("request header")?;
        let [input] = header.inputs;
        ensure!(input.parameters.binary_data_size == body.len(), "the tensor was cut");
        let request = Self {
            model: header.model_name.into_owned(),
            id: header.id.into_owned(),
            shape: input.shape.into_owned(),
            tensor: body,
        };
        request.checked()
    }
}

impl InferAnswer {
    pub fn encode(self) -> Result<Encoded> {
        let header = serde_json::to_vec(&AnswerHeader {
            model_name: self.model.as_str().into(),
            id: self.id.as_str().into(),
            parameters: AnswerParameters {
                worker_id: self.worker_id.as_str().into(),
                cached: self.cached,
                time_us: self.time_us,
            },
            outputs: [Tensor::of("output", &self.shape, &self.tensor)],
        })?;
        Ok(Encoded::new(header, self.tensor))
    }

    pub fn decode(mut body: Bytes, header_length: usize) -> Result<Self> {
        ensure!(header_length <= body.len(), "the header is longer than the body");
        let json = body.split_to(header_length);
        let header: AnswerHeader<'_> = serde_json::from_slice(&json).context("answer header")?;
        let [output] = header.outputs;
        ensure!(output.parameters.binary_data_size == body.len(), "the tensor was cut");
        Ok(Self {
            model: header.model_name.into_owned(),
            id: header.id.into_owned(),
            shape: output.shape.into_owned(),
            tensor: body,
            worker_id: header.parameters.worker_id.into_owned(),
            cached: header.parameters.cached,
            time_us: header.parameters.time_us,
        })
    }
}
