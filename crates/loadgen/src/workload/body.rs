//! Requests as they are sent.

use std::io::Write;

use bytes::Bytes;
use fastrand::Rng;
use inferring_types::{ModelMetadata, Shape, TensorSpec};
use serde::{Deserialize, Serialize};

use super::values::Values;
use super::{ModelName, WorkloadInput};

/// How requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `POST /infer` with the numbers as JSON, `{"input_data":[..]}`.
    Plain,
    /// `POST /v2/models/{model}/infer` with the numbers as bytes behind a JSON head.
    Binary,
}

impl Form {
    /// Where a model is asked; the server's default one where none was named.
    pub(crate) fn path(self, named: Option<&ModelName>, model: &ModelName) -> String {
        match (self, named) {
            (Self::Plain, None) => "/infer".to_owned(),
            (Self::Plain, Some(model)) => format!("/models/{model}/infer"),
            (Self::Binary, _) => format!("/v2/models/{model}/infer"),
        }
    }

    /// The media type of the bodies.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/json",
            Self::Binary => "application/octet-stream",
        }
    }
}

/// A body in the plain form. The shape is stated where a flat array alone would be read as
/// another.
pub(super) fn plain(spec: &TensorSpec, shape: &Shape, values: &Values, rng: &mut Rng) -> Bytes {
    let elements = shape.elements().unwrap_or(u64::MAX);
    let mut body = b"{\"input_data\":[".to_vec();
    for index in 0..elements {
        if index > 0 {
            body.push(b',');
        }
        values.write_text(&mut body, rng);
    }
    body.push(b']');
    if ModelMetadata::shape_of_flat(spec, elements).as_ref() != Some(shape) {
        write!(body, ",\"shape\":{shape}").expect("writing to memory does not fail");
    }
    body.push(b'}');
    body.into()
}

/// A body in the binary form, all of whose outputs are asked for in it too, and the length of
/// its head, which is the same for all bodies of equal shapes.
pub(super) fn binary(
    inputs: &[WorkloadInput],
    values: &[Values],
    rng: &mut Rng,
) -> (Bytes, Option<usize>) {
    let mut raw = Vec::new();
    let mut entries = Vec::new();
    for (input, values) in inputs.iter().zip(values) {
        let start = raw.len();
        for _ in 0..input.shape.elements().unwrap_or(u64::MAX) {
            values.write_bytes(&mut raw, rng);
        }
        entries.push(serde_json::json!({
            "name": input.name.as_str(),
            "datatype": input.datatype.to_string(),
            "shape": input.shape.dimensions(),
            "parameters": { "binary_data_size": raw.len() - start },
        }));
    }
    let head = serde_json::json!({
        "inputs": entries,
        "parameters": { "binary_data_output": true },
    });
    let mut body = head.to_string().into_bytes();
    let length = body.len();
    body.append(&mut raw);
    (body.into(), Some(length))
}
