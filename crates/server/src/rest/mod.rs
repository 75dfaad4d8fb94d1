//! Answers HTTP requests.

mod admin;
mod body;
pub(crate) mod framed;
mod infer;
mod metrics;
mod offload;
mod openapi;
mod repository;
mod route;
mod status;
mod unread;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use inferring_protocol::frames;
use inferring_protocol::rest::documents::ErrorDocument;
use inferring_protocol::rest::{Chunks, Coding, UnknownCoding, headers};
use inferring_protocol::status::{http_status, retry_after_seconds};
use inferring_types::{Blame, ErrorKind, NodeAdmin, RequestId, ServiceError};
use serde::Serialize;
use tracing::{debug, warn};

use crate::Node;
use crate::config::ServerConfig;
use route::{Route, RouteError};
use unread::Rest;
pub(crate) use unread::Unread;

/// An answer, and what it leaves of its request.
pub(crate) struct Answer {
    pub(crate) response: Response<Chunks>,
    /// To be thrown away beside the answer.
    pub(crate) unread: Option<Unread>,
}

/// Answers one request; an operator's, where there is an `admin`. Every failure is an answer too.
/// An answer whose request is not to be read to its end says that the connection is to be closed.
pub(crate) async fn answer(
    node: &dyn Node,
    admin: Option<&dyn NodeAdmin>,
    config: &ServerConfig,
    request: Request<Incoming>,
) -> Answer {
    let (head, mut body) = request.into_parts();
    let mut response = answer_to(node, admin, config, &head, &mut body).await;
    let unread = match Rest::of(&head, body, config) {
        Rest::Nothing => None,
        Rest::Follows(unread) => Some(unread),
        Rest::TooMuch => {
            // What remains would be taken for the next request.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            None
        }
    };
    Answer { response, unread }
}

/// The answer to a request that is not even looked at: the connection ends with it.
pub(crate) fn refuse(why: &'static str) -> Response<Chunks> {
    let mut response = error_response(&ServiceError::invalid(why), None);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn answer_to(
    node: &dyn Node,
    admin: Option<&dyn NodeAdmin>,
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    if let Some(admin) = admin
        && let Some(route) = admin::find(head.uri.path())
    {
        return match route::check_method(&head.method, route.allowed()) {
            Ok(()) => admin::answer(node, admin, config, route, head, body).await,
            Err(error) => not_routed(head, error, true),
        };
    }
    let route = match route::find(&head.method, head.uri.path()) {
        Ok(route) => route,
        Err(error) => return not_routed(head, error, admin.is_some()),
    };
    if let Err(unknown) = Coding::of(&head.headers) {
        return unknown_coding(&unknown);
    }
    match route {
        Route::PlainInfer(asked) => infer::plain(node, config, asked.selector(), head, body).await,
        Route::Infer(asked) => infer::v2(node, config, asked.selector(), head, body).await,
        Route::Health => {
            let mut health = status::health(node).await;
            health.headers_mut().insert(frames::FIELD, HeaderValue::from_static(frames::VERSION));
            health
        }
        Route::Stats => status::stats(node).await,
        Route::Live => json(StatusCode::OK, &serde_json::json!({ "live": true })),
        Route::Ready => status::ready(node),
        Route::Server => status::server(),
        Route::Models => status::models(node),
        Route::Model(asked) => status::model(node, asked.selector()),
        Route::ModelReady(asked) => status::model_ready(node, asked.selector()).await,
        Route::ModelConfig(asked) => repository::config(node, asked.selector()).await,
        Route::ModelStatistics(asked) => {
            repository::statistics(node, asked.as_ref().map(route::Asked::selector)).await
        }
        Route::Index => repository::index(node, config, head, body).await,
        Route::Load { name } => repository::load(node, config, &name, head, body).await,
        Route::Unload { name } => repository::unload(node, config, &name, head, body).await,
        Route::Metrics => body::compress(&head.headers, metrics::metrics(node).await).await,
        Route::OpenApi => body::compress(&head.headers, openapi::document()).await,
        Route::Unsupported(what) => {
            let error = ServiceError::new(ErrorKind::Unimplemented, Blame::Client, what);
            error_response(&error, None)
        }
    }
}

fn not_routed(head: &Parts, error: RouteError, is_admin: bool) -> Response<Chunks> {
    match error {
        RouteError::UnknownPath => {
            let path = Shortened(head.uri.path());
            let admin = if is_admin { &admin::PATHS[..] } else { &[] };
            let known = [&route::PATHS[..], admin].concat().join(", ");
            let message = format!("no such path: {path}; there are {known}");
            error_response(&ServiceError::not_found(message), None)
        }
        RouteError::WrongMethod { allowed } => {
            let method = Shortened(head.method.as_str());
            let message = format!("{method} is not possible here: expected {allowed}");
            let error = ServiceError::new(ErrorKind::MethodNotAllowed, Blame::Client, message);
            let mut response = error_response(&error, None);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        RouteError::AskedMethods { allowed } => {
            let mut response = Response::new(Chunks::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
    }
}

/// A text from outside that is not repeated at any length.
struct Shortened<'a>(&'a str);

impl std::fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN_MAX: usize = 80;
        match self.0.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// RFC 9110, 15.5.16: the answer names what would be accepted.
fn unknown_coding(unknown: &UnknownCoding) -> Response<Chunks> {
    let mut response = error_response(&ServiceError::invalid(unknown.to_string()), None);
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(Coding::NAMES));
    response
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

/// What concerns the operator goes into the log, once.
fn log(error: &ServiceError, id: Option<&RequestId>) {
    let request = id.map(RequestId::as_str).unwrap_or_default();
    if error.kind() == ErrorKind::Internal {
        warn!(request, error = %error.chain(), "request failed");
    } else {
        debug!(request, error = %error.chain(), "request refused");
    }
}

/// An error as an answer.
fn error_response(error: &ServiceError, id: Option<&RequestId>) -> Response<Chunks> {
    let status = http_status(error.kind());
    log(error, id);
    let document =
        ErrorDocument { error: error.to_string(), request_id: id.map(ToString::to_string) };
    let mut response = json(status, &document);
    if let Some(seconds) = retry_after_seconds(error) {
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
