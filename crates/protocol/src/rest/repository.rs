//! The model repository extension: which models there are, and loading and unloading them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inferring_types::{
    IndexEntry, LoadRequest, ModelName, ModelState, RepositoryFile, ServiceError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What stands before a file's path in the name of the parameter that brings its content.
const FILE_PREFIX: &str = "file:";

/// A wish for an index: `POST /v2/repository/index`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRequest {
    /// Whether only what is ready is wanted.
    #[serde(default)]
    pub ready: bool,
}

impl IndexRequest {
    /// Reads a request; an empty body wants everything.
    ///
    /// # Errors
    /// `InvalidArgument` where it is malformed.
    pub fn decode(body: &[u8]) -> Result<Self, ServiceError> {
        decode(body)
    }
}

/// One line of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDocument {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    state: String,
    #[serde(default)]
    reason: String,
}

impl From<&IndexEntry> for IndexDocument {
    fn from(entry: &IndexEntry) -> Self {
        Self {
            name: entry.name.to_string(),
            version: entry.version.as_ref().map(ToString::to_string),
            state: entry.state.name().to_owned(),
            reason: entry.reason.clone(),
        }
    }
}

impl TryFrom<IndexDocument> for IndexEntry {
    type Error = ServiceError;

    fn try_from(document: IndexDocument) -> Result<Self, ServiceError> {
        let malformed = |what: &str| {
            ServiceError::failed(format!("a worker sent an index with a malformed {what}"))
        };
        let version = document.version.map(|text| text.parse()).transpose();
        Ok(Self {
            name: document.name.parse().map_err(|_| malformed("name"))?,
            version: version.map_err(|_| malformed("version"))?,
            state: ModelState::from_name(&document.state).ok_or_else(|| malformed("state"))?,
            reason: document.reason,
        })
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
}

/// Reads a wish to load `model`: parameter `config` holds settings as JSON in a text, parameters
/// `file:<version>/<name>` hold files in Base64. Others are passed over.
///
/// # Errors
/// `InvalidArgument` where it is malformed, or brings files without settings.
pub fn decode_load(model: ModelName, body: &[u8]) -> Result<LoadRequest, ServiceError> {
    let Parameters { parameters } = decode(body)?;
    let mut request = LoadRequest { model, config: None, files: Vec::new() };
    for (name, value) in parameters {
        if name == "config" {
            request.config = Some(text(&name, value)?);
        } else if let Some(path) = name.strip_prefix(FILE_PREFIX) {
            let path = path.to_owned();
            let content = STANDARD.decode(text(&name, value)?).map_err(|error| {
                ServiceError::invalid(format!("parameter `{name}` is not Base64")).caused_by(error)
            })?;
            request.files.push(RepositoryFile { path, content: content.into() });
        }
    }
    if request.config.is_none() && !request.files.is_empty() {
        return Err(ServiceError::invalid(
            "parameter `config` is missing: files replace the whole model, its settings included",
        ));
    }
    Ok(request)
}

/// Writes a wish to load.
pub fn encode_load(request: &LoadRequest) -> Vec<u8> {
    let config = request.config.iter().map(|config| ("config".to_owned(), config.as_str().into()));
    let files = request
        .files
        .iter()
        .map(|file| (format!("{FILE_PREFIX}{}", file.path), STANDARD.encode(&file.content).into()));
    let parameters = Parameters { parameters: config.chain(files).collect() };
    serde_json::to_vec(&parameters).expect("a document of texts")
}

/// Reads a wish to unload. Parameter `unload_dependents` is accepted: no model depends on
/// another.
///
/// # Errors
/// `InvalidArgument` where it is malformed.
pub fn decode_unload(body: &[u8]) -> Result<(), ServiceError> {
    let Parameters { mut parameters } = decode(body)?;
    match parameters.remove("unload_dependents") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(_) => {
            Err(ServiceError::invalid("parameter `unload_dependents`: expected true or false"))
        }
    }
}

fn text(parameter: &str, value: Value) -> Result<String, ServiceError> {
    match value {
        Value::String(text) => Ok(text),
        other => {
            let kind = match other {
                Value::Object(_) => "an object",
                Value::Array(_) => "an array",
                Value::Null => "null",
                _ => "a number or boolean",
            };
            Err(ServiceError::invalid(format!(
                "parameter `{parameter}`: expected a text, got {kind}",
            )))
        }
    }
}

/// Reads a document; an empty body stands for an empty object.
fn decode<T: Default + for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, ServiceError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::invalid(format!("malformed request: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelName {
        "iris".parse().unwrap()
    }

    #[test]
    fn an_index_reads_back() {
        let entry = |version: Option<&str>, state, reason: &str| IndexEntry {
            name: model(),
            version: version.map(|text| text.parse().unwrap()),
            state,
            reason: reason.to_owned(),
        };
        let entries = [
            entry(Some("2"), ModelState::Ready, ""),
            entry(None, ModelState::Unavailable, "cannot read `model.onnx`"),
        ];
        let documents: Vec<_> = entries.iter().map(IndexDocument::from).collect();
        let text = serde_json::to_string(&documents).unwrap();
        assert!(
            text.starts_with(r#"[{"name":"iris","version":"2","state":"READY","reason":""},{"#),
            "{text}",
        );
        let documents: Vec<IndexDocument> = serde_json::from_str(&text).unwrap();
        let read: Vec<_> =
            documents.into_iter().map(|document| IndexEntry::try_from(document).unwrap()).collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn a_wish_to_load_reads_back() {
        let plain = LoadRequest { model: model(), config: None, files: Vec::new() };
        let content = (0..=255).collect::<Vec<u8>>().into();
        let file = RepositoryFile { path: "1/model.onnx".into(), content };
        let files = LoadRequest {
            model: model(),
            config: Some(r#"{"backend":"onnxruntime"}"#.into()),
            files: vec![file],
        };
        for request in [plain, files] {
            assert_eq!(decode_load(model(), &encode_load(&request)).unwrap(), request);
        }
    }

    #[test]
    fn bodies_may_be_empty_and_parameters_unknown() {
        assert_eq!(IndexRequest::decode(b"").unwrap(), IndexRequest { ready: false });
        assert_eq!(
            IndexRequest::decode(b"{\"ready\":true}").unwrap(),
            IndexRequest { ready: true }
        );
        assert!(decode_load(model(), b" \n").unwrap().files.is_empty());
        assert!(decode_load(model(), br#"{"parameters":{"other":[1]}}"#).is_ok());
        assert!(decode_unload(br#"{"parameters":{"unload_dependents":true}}"#).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (body, message) in [
            (
                r#"{"parameters":{"config":{}}}"#,
                "parameter `config`: expected a text, got an object",
            ),
            (
                r#"{"parameters":{"config":"{}","file:1/m.onnx":"?"}}"#,
                "parameter `file:1/m.onnx` is not Base64",
            ),
            (
                r#"{"parameters":{"file:1/m.onnx":"AAAA"}}"#,
                "parameter `config` is missing: files replace the whole model, its settings included",
            ),
            (r#"{"#, "malformed request: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(decode_load(model(), body.as_bytes()).unwrap_err().to_string(), message);
        }
        assert!(decode_unload(br#"{"parameters":{"unload_dependents":1}}"#).is_err());
        assert!(IndexRequest::decode(br#"{"ready":1}"#).is_err());
    }
}
