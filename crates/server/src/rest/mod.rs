//! Answers HTTP requests.

mod infer;
mod route;
mod status;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use inferring_protocol::rest::documents::ErrorDocument;
use inferring_protocol::rest::{Chunks, collect, headers};
use inferring_protocol::status::{http_status, retry_after_seconds};
use inferring_types::{Blame, ErrorKind, RequestId, ServiceError};
use serde::Serialize;
use tracing::{debug, warn};

use crate::Node;
use crate::config::ServerConfig;
use route::{Route, RouteError};

/// Answers one request. Every failure is an answer too. An answer that was made without reading
/// the request to its end says that the connection is to be closed.
pub(crate) async fn answer(
    node: &dyn Node,
    config: &ServerConfig,
    request: Request<Incoming>,
) -> Response<Chunks> {
    let (head, mut body) = request.into_parts();
    let mut response = answer_to(node, config, &head, &mut body).await;
    if !body.is_end_stream() && !ends_soon(&mut body).await {
        // What remains would be taken for the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether little of the body remains, and comes at once: then a client that made a mistake
/// keeps its connection.
async fn ends_soon(body: &mut Incoming) -> bool {
    const REST_MAX: usize = 64 * 1024;
    const PATIENCE: Duration = Duration::from_millis(500);
    matches!(tokio::time::timeout(PATIENCE, collect(body, REST_MAX)).await, Ok(Ok(_)))
}

async fn answer_to(
    node: &dyn Node,
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let route = match route::find(&head.method, head.uri.path()) {
        Ok(route) => route,
        Err(RouteError::UnknownPath) => {
            let message =
                format!("no such path: {}; there are {}", head.uri.path(), route::known_paths(),);
            return error_response(&ServiceError::not_found(message), None);
        }
        Err(RouteError::WrongMethod { allowed }) => {
            let message = format!("{} is not possible here: expected {allowed}", head.method);
            let error = ServiceError::new(ErrorKind::MethodNotAllowed, Blame::Client, message);
            let mut response = error_response(&error, None);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
    };
    match route {
        Route::PlainInfer { model } => infer::plain(node, config, model, head, body).await,
        Route::Infer { model } => infer::v2(node, config, model, head, body).await,
        Route::Health => status::health(node).await,
        Route::Stats => status::stats(node).await,
        Route::Live => json(StatusCode::OK, &serde_json::json!({ "live": true })),
        Route::Ready => status::ready(node).await,
        Route::Server => status::server(),
        Route::Models => status::models(node),
        Route::Model { name } => status::model(node, name),
        Route::ModelReady { name } => status::model_ready(node, name).await,
    }
}

/// An answer in JSON.
fn json(status: StatusCode, document: &impl Serialize) -> Response<Chunks> {
    let text = serde_json::to_vec(document).expect("documents have text keys and finite numbers");
    respond(status, "application/json", Chunks::one(text))
}

fn respond(status: StatusCode, content_type: &'static str, body: Chunks) -> Response<Chunks> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error as an answer; what concerns the operator goes into the log, once.
fn error_response(error: &ServiceError, id: Option<&RequestId>) -> Response<Chunks> {
    let status = http_status(error.kind());
    let request = id.map(RequestId::as_str).unwrap_or_default();
    if error.kind() == ErrorKind::Internal {
        warn!(request, error = %error.chain(), "request failed");
    } else {
        debug!(request, error = %error.chain(), "request refused");
    }
    let document =
        ErrorDocument { error: error.to_string(), request_id: id.map(ToString::to_string) };
    let mut response = json(status, &document);
    if let Some(seconds) = retry_after_seconds(error.kind()) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Some(id) = id {
        insert_request_id(&mut response, id);
    }
    response
}

fn insert_request_id(response: &mut Response<Chunks>, id: &RequestId) {
    let bytes = Bytes::copy_from_slice(id.as_str().as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes) {
        response.headers_mut().insert(headers::REQUEST_ID, value);
    }
}
