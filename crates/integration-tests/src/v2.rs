//! Messages of Open Inference Protocol v2, written and read by its text: no code of the system
//! is used, so that a mistake in its encoding cannot cancel out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::client::Answer;
use crate::models::{Case, CaseTensor};

/// The request of a case with its tensors in JSON.
pub fn json_request(case: &Case) -> Value {
    let inputs = case.inputs.iter().map(|input| {
        let (name, datatype) = (&input.name, input.datatype);
        json!({"name": name, "datatype": datatype, "shape": input.shape, "data": input.data})
    });
    json!({ "inputs": inputs.collect::<Vec<_>>() })
}

/// The request of a case with its tensors raw, asking for raw outputs.
pub fn binary_request(case: &Case) -> Message {
    let inputs = case.inputs.iter().map(|input| {
        let (name, datatype) = (&input.name, input.datatype);
        let parameters = json!({ "binary_data_size": input.bytes().len() });
        json!({"name": name, "datatype": datatype, "shape": input.shape, "parameters": parameters})
    });
    let head = json!({
        "inputs": inputs.collect::<Vec<_>>(),
        "parameters": { "binary_data_output": true },
    });
    Message::new(&head, case.inputs.iter().flat_map(CaseTensor::bytes).collect())
}

/// A wish to load a model with this configuration in place of its own, and with these files, each
/// under a path such as `1/model.onnx`, in place of its folder.
pub fn load_request(config: &Value, files: &[(&str, &[u8])]) -> Value {
    let config = ("config".to_owned(), Value::String(config.to_string()));
    let files = files
        .iter()
        .map(|(path, content)| (format!("file:{path}"), Value::String(STANDARD.encode(content))));
    let parameters: Map<_, _> = files.chain([config]).collect();
    json!({ "parameters": parameters })
}

/// A head in JSON, and raw tensors behind it.
#[derive(Debug)]
pub struct Message {
    /// Both, one behind the other.
    pub body: Vec<u8>,
    /// The head's length in bytes, for the header field that tells it.
    pub head_length: String,
}

impl Message {
    /// The name of the header field that tells the head's length.
    pub const HEAD_LENGTH: &'static str = "inference-header-content-length";

    /// A message of these parts.
    pub fn new(head: &Value, raw: Vec<u8>) -> Self {
        let mut body = head.to_string().into_bytes();
        let head_length = body.len().to_string();
        body.extend(raw);
        Self { body, head_length }
    }
}

/// The head of a binary answer, and each output's raw elements in the head's order.
///
/// # Panics
/// Where the answer is not one, or its lengths do not add up.
#[track_caller]
pub fn read_binary(answer: &Answer) -> (Value, Vec<Vec<u8>>) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let head_length: usize =
        answer.header(Message::HEAD_LENGTH).expect("a binary answer").parse().unwrap();
    let (head, mut raw) = answer.body.split_at(head_length);
    let head: Value = serde_json::from_slice(head).unwrap();
    let outputs = head["outputs"].as_array().unwrap().iter().map(|output| {
        let size = output["parameters"]["binary_data_size"].as_u64().unwrap() as usize;
        let (elements, rest) = raw.split_at(size);
        raw = rest;
        elements.to_vec()
    });
    let outputs = outputs.collect();
    assert!(raw.is_empty(), "{} bytes behind the last output", raw.len());
    (head, outputs)
}
