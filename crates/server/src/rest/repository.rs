//! Requests about the model repository.

use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use inferring_protocol::rest::repository::{
    IndexDocument, IndexRequest, decode_load, decode_unload,
};
use inferring_protocol::rest::{Chunks, ConfigDocument, StatisticsDocument};
use inferring_types::{ModelName, ModelSelector, ModelState, ServiceError};
use serde_json::json as document;

use super::body::receive;
use super::{error_response, json, offload};
use crate::Node;
use crate::config::ServerConfig;

/// The settings in force for a model.
pub(super) async fn config(node: &dyn Node, asked: ModelSelector<'_>) -> Response<Chunks> {
    match node.config(asked).await {
        Ok(config) => json(StatusCode::OK, &ConfigDocument::from(&config)),
        Err(error) => error_response(&error, None),
    }
}

/// What models have done.
pub(super) async fn statistics(
    node: &dyn Node,
    asked: Option<ModelSelector<'_>>,
) -> Response<Chunks> {
    match node.statistics(asked).await {
        Ok(models) => json(StatusCode::OK, &StatisticsDocument::from(&models[..])),
        Err(error) => error_response(&error, None),
    }
}

/// Which models there are.
pub(super) async fn index(
    node: &dyn Node,
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let result = async {
        let wanted = IndexRequest::decode(&receive(config, head, body).await?)?;
        let mut entries = node.index().await?;
        entries.retain(|entry| !wanted.ready || entry.state == ModelState::Ready);
        Ok(entries.iter().map(IndexDocument::from).collect::<Vec<_>>())
    };
    match result.await {
        Ok(entries) => json(StatusCode::OK, &entries),
        Err(error) => error_response(&error, None),
    }
}

/// Loads a model, and answers when it is served.
pub(super) async fn load(
    node: &dyn Node,
    config: &ServerConfig,
    name: &str,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    /// Beyond this there are files in it.
    const QUICK_MAX: usize = 64 * 1024;
    let result = async {
        let model = model_name(name)?;
        let body = receive(config, head, body).await?;
        let is_long = body.len() > QUICK_MAX;
        let request = offload::run(is_long, move || decode_load(model, &body)).await?;
        node.load(request).await
    };
    done("load", name, result.await)
}

/// Unloads a model.
pub(super) async fn unload(
    node: &dyn Node,
    config: &ServerConfig,
    name: &str,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let result = async {
        let model = model_name(name)?;
        decode_unload(&receive(config, head, body).await?)?;
        node.unload(model).await
    };
    done("unload", name, result.await)
}

/// No model can have a name that is none.
fn model_name(text: &str) -> Result<ModelName, ServiceError> {
    text.parse().map_err(|error: inferring_types::InvalidName| {
        ServiceError::not_found(format!("no such model: {error}"))
    })
}

fn done(action: &str, name: &str, result: Result<(), ServiceError>) -> Response<Chunks> {
    match result {
        Ok(()) => json(StatusCode::OK, &document!({ "name": name, action: true })),
        Err(error) => error_response(&error, None),
    }
}
