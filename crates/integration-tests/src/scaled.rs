//! A model whose versions can be told apart by their answers, and clients that hold the version
//! which an answer claims against the numbers in it.
//!
//! Version `v` takes integers times `10 + v`: an answer under another version's name, be it
//! from a cache, a batch or a worker that was not replaced, does not go unnoticed.

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::models;
use crate::v2::{self, Message};

/// What a version takes its input times.
pub fn factor(version: u64) -> i64 {
    10 + version.cast_signed()
}

/// The content of a version: `input` INT64 `[N,3]` to `output` INT64 `[N,3]`.
///
/// # Panics
/// Where `int64_scale.onnx` does not hold its factor where it is looked for.
pub fn version(version: u64) -> Vec<u8> {
    // The field `raw_data` of the only constant, with its length, and 3 in eight bytes.
    let times = |factor: i64| [b"\x4a\x08".as_slice(), &factor.to_le_bytes()].concat();
    let (old, new) = (times(3), times(factor(version)));
    let mut content = std::fs::read(models::named("int64_scale")).unwrap();
    let places: Vec<_> =
        (0..content.len()).filter(|&place| content[place..].starts_with(&old)).collect();
    let [place] = places[..] else { panic!("{} constants of 3", places.len()) };
    content[place..place + new.len()].copy_from_slice(&new);
    content
}

/// How a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Open Inference Protocol v2, tensors in JSON.
    Json,
    /// The same with raw tensors both ways.
    Binary,
}

/// What a right answer said beside its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The version that answered, which the numbers have confirmed.
    pub version: String,
    /// `computed`, `hit` or `joined`.
    pub cache: String,
    /// The worker.
    pub node: String,
    /// Rows in the run.
    pub batch_size: u64,
}

/// Asks a model, `path` being `/v2/models/NAME` with or without a version, for three numbers.
///
/// # Errors
/// Says what is wrong with the answer, where anything is: its status, its numbers for the
/// version that it claims to be of, or its form.
pub fn ask(client: &Client, path: &str, form: Form, input: [i64; 3]) -> Result<Answered, String> {
    let answer = send(client, path, form, input)?;
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.text()));
    }
    let (head, data) = match form {
        Form::Json => {
            let document = answer.json();
            let data = document["outputs"][0]["data"].clone();
            (document, data)
        }
        Form::Binary => {
            let (head, outputs) = v2::read_binary(&answer);
            let (numbers, _) = outputs[0].as_chunks::<8>();
            (head, numbers.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
        }
    };
    let claimed = head["model_version"].as_str().unwrap_or_default().to_owned();
    let number = claimed.parse().map_err(|_| format!("not a version: {head}"))?;
    let expected = json!(input.map(|number_in| number_in * factor(number)));
    if data != expected {
        return Err(format!("{data} for {input:?} under the name of version {claimed}: {head}"));
    }
    let parameters = &head["parameters"];
    let text = |key: &str| parameters[key].as_str().unwrap_or_default().to_owned();
    let batch_size = parameters["batch_size"].as_u64().unwrap_or_default();
    Ok(Answered { version: claimed, cache: text("cache"), node: text("node_id"), batch_size })
}

/// The `n`-th question of many: in both forms, one half never asked before and the other half
/// asked again and again.
///
/// # Errors
/// As [`ask`].
pub fn ask_nth(client: &Client, path: &str, n: u64) -> Result<Answered, String> {
    let form = if n.is_multiple_of(2) { Form::Json } else { Form::Binary };
    let number = if n % 4 < 2 { n.cast_signed() } else { (n % 16).cast_signed() };
    ask(client, path, form, [number, -number, 7])
}

fn send(client: &Client, path: &str, form: Form, input: [i64; 3]) -> Result<Answer, String> {
    let path = format!("{path}/infer");
    let tensor = |rest: Value| {
        let mut tensor = json!({"name": "input", "datatype": "INT64", "shape": [1, 3]});
        let members = tensor.as_object_mut().expect("an object");
        members.extend(rest.as_object().expect("an object").clone());
        tensor
    };
    let sent = match form {
        Form::Json => {
            let body = json!({ "inputs": [tensor(json!({ "data": input }))] });
            client.send("POST", &path, &[], body.to_string().as_bytes())
        }
        Form::Binary => {
            let head = json!({
                "inputs": [tensor(json!({ "parameters": { "binary_data_size": 24 } }))],
                "parameters": { "binary_data_output": true },
            });
            let message = Message::new(&head, input.map(i64::to_le_bytes).concat());
            let headers = [(Message::HEAD_LENGTH, message.head_length.as_str())];
            client.send("POST", &path, &headers, &message.body)
        }
    };
    sent.map_err(|error| error.to_string())
}
