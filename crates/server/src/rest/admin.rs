//! What operators ask: of a gateway's workers, and of the node itself.
//!
//! These paths exist on the admin listener alone. Whoever reaches it may do all of this, so it is
//! for the machine's own people; and a browser on that machine, which may be showing anybody's
//! page, is turned away.

use std::borrow::Cow;

use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use inferring_protocol::rest::Chunks;
use inferring_protocol::rest::admin::{
    AddWorkerRequest, DrainingDocument, WeightRequest, WorkersDocument,
};
use inferring_types::{
    Blame, ErrorKind, NodeAdmin, NodeStatus, ServiceError, WorkerChange, WorkerId,
};

use super::body::receive;
use super::route::decoded;
use super::{error_response, json};
use crate::Node;
use crate::config::ServerConfig;

/// The paths there are.
pub(super) const PATHS: [&str; 7] = [
    "/admin/drain",
    "/admin/undrain",
    "/admin/workers",
    "/admin/workers/{id}",
    "/admin/workers/{id}/drain",
    "/admin/workers/{id}/undrain",
    "/admin/workers/{id}/weight",
];

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdminRoute<'a> {
    /// To say that the node takes no more requests, or that it does.
    Draining(bool),
    /// The workers, or one worker more.
    Workers,
    /// A worker, or one worker less.
    Worker(Cow<'a, str>),
    /// To give a worker no new requests, or some again.
    WorkerDraining(Cow<'a, str>, bool),
    /// Another weight of a worker.
    WorkerWeight(Cow<'a, str>),
}

impl AdminRoute<'_> {
    /// The methods there are, as `Allow` lists them.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Workers => "GET, HEAD, POST, OPTIONS",
            Self::Worker(_) => "GET, HEAD, DELETE, OPTIONS",
            Self::Draining(_) | Self::WorkerDraining(..) | Self::WorkerWeight(_) => "POST, OPTIONS",
        }
    }
}

/// What this path asks for.
pub(super) fn find(path: &str) -> Option<AdminRoute<'_>> {
    let mut segments = path.strip_prefix("/admin/")?.split('/');
    let segments = [segments.next(), segments.next(), segments.next(), segments.next()];
    Some(match segments {
        [Some("drain"), None, ..] => AdminRoute::Draining(true),
        [Some("undrain"), None, ..] => AdminRoute::Draining(false),
        [Some("workers"), None, ..] => AdminRoute::Workers,
        [Some("workers"), Some(id), None, _] => AdminRoute::Worker(decoded(id)?),
        [Some("workers"), Some(id), Some(action), None] => {
            let id = decoded(id)?;
            match action {
                "drain" => AdminRoute::WorkerDraining(id, true),
                "undrain" => AdminRoute::WorkerDraining(id, false),
                "weight" => AdminRoute::WorkerWeight(id),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Answers an operator. The method is one that the route allows.
pub(super) async fn answer(
    node: &dyn Node,
    admin: &dyn NodeAdmin,
    config: &ServerConfig,
    route: AdminRoute<'_>,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let answer = async {
        refuse_browsers(head)?;
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        match route {
            AdminRoute::Draining(draining) => {
                admin.set_draining(draining);
                Ok(json(StatusCode::OK, &DrainingDocument { draining }))
            }
            AdminRoute::Workers if changes => {
                let worker = AddWorkerRequest::decode(&receive(config, head, body).await?)?;
                let id = worker.id.clone();
                admin.add_worker(worker).await?;
                worker_document(node, id.as_str()).await
            }
            AdminRoute::Workers => Ok(json(StatusCode::OK, &workers(node).await?)),
            AdminRoute::Worker(id) if changes => {
                // As it was, which tells what it still has to finish.
                let document = worker_document(node, &id).await?;
                admin.remove_worker(WorkerId::from(&*id)).await?;
                Ok(document)
            }
            AdminRoute::Worker(id) => worker_document(node, &id).await,
            AdminRoute::WorkerDraining(id, draining) => {
                let change = WorkerChange::Draining(draining);
                admin.change_worker(WorkerId::from(&*id), change).await?;
                worker_document(node, &id).await
            }
            AdminRoute::WorkerWeight(id) => {
                let change = WeightRequest::decode(&receive(config, head, body).await?)?;
                admin.change_worker(WorkerId::from(&*id), change).await?;
                worker_document(node, &id).await
            }
        }
    };
    answer.await.unwrap_or_else(|error: ServiceError| error_response(&error, None))
}

/// Scripts in browsers say where they come from, and programs have no reason to.
fn refuse_browsers(head: &Parts) -> Result<(), ServiceError> {
    if !head.headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let message = "this is not for web pages: a request with an Origin header is refused";
    Err(ServiceError::new(ErrorKind::Forbidden, Blame::Client, message))
}

async fn workers(node: &dyn Node) -> Result<WorkersDocument, ServiceError> {
    match node.status().await? {
        NodeStatus::Gateway(status) => Ok(WorkersDocument::from(&*status)),
        NodeStatus::Worker(_) => {
            Err(ServiceError::not_found("this node is no gateway: it has no workers"))
        }
    }
}

async fn worker_document(node: &dyn Node, id: &str) -> Result<Response<Chunks>, ServiceError> {
    Ok(json(StatusCode::OK, &workers(node).await?.find(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_leads_to_its_route() {
        let id = || Cow::Borrowed("w");
        for (path, expected) in [
            ("/admin/drain", Some(AdminRoute::Draining(true))),
            ("/admin/undrain", Some(AdminRoute::Draining(false))),
            ("/admin/workers", Some(AdminRoute::Workers)),
            ("/admin/workers/w", Some(AdminRoute::Worker(id()))),
            ("/admin/workers/h%3A1", Some(AdminRoute::Worker("h:1".into()))),
            ("/admin/workers/w/drain", Some(AdminRoute::WorkerDraining(id(), true))),
            ("/admin/workers/w/undrain", Some(AdminRoute::WorkerDraining(id(), false))),
            ("/admin/workers/w/weight", Some(AdminRoute::WorkerWeight(id()))),
            ("/admin/workers/w/restart", None),
            ("/admin/workers/w/drain/now", None),
            ("/admin/workers/%zz", None),
            ("/admin", None),
            ("/infer", None),
        ] {
            assert_eq!(find(path), expected, "{path}");
        }
    }

    #[test]
    fn every_path_that_messages_name_leads_somewhere() {
        for path in PATHS {
            assert!(find(&path.replace("{id}", "w")).is_some(), "{path}");
        }
    }
}
