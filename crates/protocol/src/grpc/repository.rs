//! The models there are, and wishes to load them.

use inferring_types::{
    IndexEntry, LoadRequest, ModelName, ModelState, RepositoryFile, ServiceError,
};

use super::inference::RepositoryIndexResponse;
use super::inference::RepositoryModelLoadRequest;
use super::inference::model_repository_parameter::ParameterChoice;
use super::inference::repository_index_response::ModelIndex;

/// The index; only of models that take requests where `ready_only`.
pub fn encode_index(entries: &[IndexEntry], ready_only: bool) -> RepositoryIndexResponse {
    let listed = entries.iter().filter(|entry| !ready_only || entry.state == ModelState::Ready);
    let models = listed.map(|entry| ModelIndex {
        name: entry.name.to_string(),
        version: entry.version.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: entry.state.name().to_owned(),
        reason: entry.reason.clone(),
    });
    RepositoryIndexResponse { models: models.collect() }
}

/// Reads a wish to load a model: the parameter `config` is its configuration as JSON, parameters
/// `file:<path>` are its files.
///
/// # Errors
/// `InvalidArgument` where the name cannot be a model's, or a parameter is unknown or of the
/// wrong type.
pub fn decode_load(request: RepositoryModelLoadRequest) -> Result<LoadRequest, ServiceError> {
    let mut load =
        LoadRequest { model: parse_name(&request.model_name)?, config: None, files: Vec::new() };
    for (name, parameter) in request.parameters {
        match (name.as_str(), name.strip_prefix("file:"), parameter.parameter_choice) {
            ("config", _, Some(ParameterChoice::StringParam(config))) => load.config = Some(config),
            (_, Some(path), Some(ParameterChoice::BytesParam(content))) => {
                load.files.push(RepositoryFile { path: path.to_owned(), content });
            }
            _ => {
                return Err(ServiceError::invalid(format!(
                    "parameter `{name}`: expected `config` with a string or `file:PATH` with bytes"
                )));
            }
        }
    }
    Ok(load)
}

/// A model's name in a request about the repository.
///
/// # Errors
/// `InvalidArgument` where it cannot be one.
pub fn parse_name(name: &str) -> Result<ModelName, ServiceError> {
    name.parse().map_err(|error| ServiceError::invalid(format!("field `model_name`: {error}")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::grpc::inference::ModelRepositoryParameter;

    fn load(name: &str, choice: ParameterChoice) -> Result<LoadRequest, ServiceError> {
        let parameter = ModelRepositoryParameter { parameter_choice: Some(choice) };
        decode_load(RepositoryModelLoadRequest {
            model_name: "m".into(),
            parameters: [(name.to_owned(), parameter)].into(),
            ..RepositoryModelLoadRequest::default()
        })
    }

    #[test]
    fn a_configuration_and_files_come_along() {
        use ParameterChoice::{BytesParam, StringParam};
        let config = load("config", StringParam("{}".into())).unwrap();
        assert_eq!((config.config.as_deref(), config.files.len()), (Some("{}"), 0));
        let files = load("file:1/model.onnx", BytesParam(Bytes::from_static(b"x"))).unwrap().files;
        assert_eq!((&*files[0].path, &files[0].content[..]), ("1/model.onnx", &b"x"[..]));
        for (name, choice) in [
            ("config", BytesParam(Bytes::new())),
            ("file:1/model.onnx", StringParam(String::new())),
            ("other", StringParam(String::new())),
        ] {
            let error = load(name, choice).unwrap_err().to_string();
            assert!(error.starts_with(&format!("parameter `{name}`: expected")), "{error}");
        }
    }

    #[test]
    fn only_models_that_take_requests_are_listed_on_demand() {
        let entry = |name: &str, state| IndexEntry {
            name: name.parse().unwrap(),
            version: None,
            state,
            reason: "r".into(),
        };
        let entries = [entry("a", ModelState::Ready), entry("b", ModelState::Unavailable)];
        let names = |ready_only| -> Vec<_> {
            encode_index(&entries, ready_only).models.into_iter().map(|m| m.name).collect()
        };
        assert_eq!(names(true), ["a"]);
        assert_eq!(names(false), ["a", "b"]);
    }
}
