//! Documents about the node and its models.

use http::{Response, StatusCode};
use inferring_protocol::rest::documents::{GatewayHealth, GatewayStats, WorkerHealth};
use inferring_protocol::rest::{Chunks, ModelDocument};
use inferring_types::{ErrorKind, ModelSelector, NodeStatus};
use serde_json::json as document;

use super::{error_response, json};
use crate::{EXTENSIONS, Node};

/// The node's health in full: 200 where it takes requests, else 503 with the same document.
pub(super) async fn health(node: &dyn Node) -> Response<Chunks> {
    match node.status().await {
        Ok(NodeStatus::Worker(status)) => {
            json(ready_status(status.ready), &WorkerHealth::from(&*status))
        }
        Ok(NodeStatus::Gateway(status)) => {
            json(ready_status(status.ready), &GatewayHealth::from(&*status))
        }
        Err(error) => error_response(&error, None),
    }
}

/// The node's statistics; a worker's are its health.
pub(super) async fn stats(node: &dyn Node) -> Response<Chunks> {
    match node.status().await {
        Ok(NodeStatus::Worker(status)) => json(StatusCode::OK, &WorkerHealth::from(&*status)),
        Ok(NodeStatus::Gateway(status)) => json(StatusCode::OK, &GatewayStats::from(&*status)),
        Err(error) => error_response(&error, None),
    }
}

/// Whether the node takes requests; where it takes none yet, with what it would answer to them.
pub(super) fn ready(node: &dyn Node) -> Response<Chunks> {
    let ready = node.is_ready(None);
    let mut told = document!({ "ready": ready });
    if !ready
        && let Err(error) = node.model(ModelSelector::default())
        && error.kind() == ErrorKind::Unavailable
    {
        told["reason"] = error.to_string().into();
    }
    json(ready_status(ready), &told)
}

/// The server's name, version and what it speaks beyond the protocol.
pub(super) fn server() -> Response<Chunks> {
    json(
        StatusCode::OK,
        &document!({
            "name": "inferring",
            "version": env!("CARGO_PKG_VERSION"),
            "extensions": EXTENSIONS,
        }),
    )
}

/// All models, the default one first.
pub(super) fn models(node: &dyn Node) -> Response<Chunks> {
    let models: Vec<_> = node.models().iter().map(|model| ModelDocument::from(&**model)).collect();
    json(StatusCode::OK, &document!({ "models": models }))
}

/// One model's metadata. Asked for by its version, that is the only one it names.
pub(super) fn model(node: &dyn Node, asked: ModelSelector<'_>) -> Response<Chunks> {
    match node.model(asked) {
        Ok(model) => {
            let document = ModelDocument::from(&*model);
            if asked.version.is_some() {
                return json(StatusCode::OK, &document);
            }
            let served = node.models();
            let versions = served.iter().filter(|other| other.name == model.name);
            let versions = versions.map(|other| other.version.to_string());
            json(StatusCode::OK, &document.with_versions(versions))
        }
        Err(error) => error_response(&error, None),
    }
}

/// Whether one model takes requests.
pub(super) async fn model_ready(node: &dyn Node, asked: ModelSelector<'_>) -> Response<Chunks> {
    match node.model(asked) {
        Ok(model) => {
            let ready = node.is_ready(Some(asked));
            let (name, version) = (model.name.as_str(), model.version.as_str());
            let document = document!({ "name": name, "version": version, "ready": ready });
            json(ready_status(ready), &document)
        }
        Err(error) => error_response(&error, None),
    }
}

fn ready_status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
