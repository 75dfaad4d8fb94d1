//! The documents that a server publishes about itself and its models.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use inferring_protocol::rest::ModelDocument;
use inferring_types::{ModelMetadata, ModelName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::connection::Session;
use crate::failure::Failure;
use crate::target::Connect;

/// Why a document could not be had.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// There was no answer.
    Unanswered(Failure),
    /// There was one, but not the document.
    Refused(String),
}

/// Asks for a document, whatever status it comes with: a node that is not ready tells its
/// health with 503.
pub(crate) async fn document<T: DeserializeOwned>(
    session: &mut Session<impl Connect>,
    path: &str,
    timeout: Duration,
) -> Result<T, FetchError> {
    let response = get(session, path, timeout).await?;
    parse(&response, path)
}

/// Asks for a model's metadata; for the default model's where no name is given.
pub(crate) async fn model(
    session: &mut Session<impl Connect>,
    name: Option<&ModelName>,
    timeout: Duration,
) -> Result<ModelMetadata, FetchError> {
    #[derive(Deserialize)]
    struct Models {
        models: Vec<ModelDocument>,
    }

    let document = match name {
        Some(name) => {
            let path = format!("/v2/models/{name}");
            let response = get(session, &path, timeout).await?;
            if response.status() != StatusCode::OK {
                let failure = Failure::status(response.status(), response.body());
                return Err(FetchError::Refused(failure.message));
            }
            parse(&response, &path)?
        }
        None => {
            let Models { models } = document(session, "/v2/models", timeout).await?;
            let none = || FetchError::Refused("the server serves no model".to_owned());
            models.into_iter().next().ok_or_else(none)?
        }
    };
    ModelMetadata::try_from(document).map_err(|error| FetchError::Refused(error.to_string()))
}

async fn get(
    session: &mut Session<impl Connect>,
    path: &str,
    timeout: Duration,
) -> Result<Response<Bytes>, FetchError> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path.parse().expect("a model's name is safe in a path");
    let host = HeaderValue::from_str(session.authority()).expect("an authority is a header value");
    request.headers_mut().insert(HOST, host);
    session.send(request, timeout).await.map_err(FetchError::Unanswered)
}

fn parse<T: DeserializeOwned>(response: &Response<Bytes>, path: &str) -> Result<T, FetchError> {
    serde_json::from_slice(response.body()).map_err(|error| {
        let status = response.status();
        FetchError::Refused(format!(
            "GET {path} answered {status} with another document than expected ({error})"
        ))
    })
}
