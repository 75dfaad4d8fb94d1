//! The standard health service. The server's health is under the empty name and under the
//! inference service's; each model's is under its name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use inferring_protocol::grpc::health::health_check_response::ServingStatus;
use inferring_protocol::grpc::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, health_server,
};
use inferring_protocol::grpc::inference::grpc_inference_service_server;
use inferring_types::{ErrorKind, ModelSelector};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::Node;

/// How often a watched status is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    node: Arc<dyn Node>,
    closing: watch::Receiver<bool>,
}

impl Health {
    pub(super) fn new(node: Arc<dyn Node>, closing: watch::Receiver<bool>) -> Self {
        Self { node, closing }
    }

    /// The health of what goes by that name; `None` where nothing does.
    async fn status(&self, service: &str) -> Option<ServingStatus> {
        let is_server =
            service.is_empty() || service == grpc_inference_service_server::SERVICE_NAME;
        let asked = (!is_server).then(|| ModelSelector::named(service));
        let refusal = asked.and_then(|asked| self.node.model(asked).err());
        if refusal.is_some_and(|error| error.kind() == ErrorKind::NotFound) {
            return None;
        }
        let is_ready = !*self.closing.borrow() && self.node.is_ready(asked);
        Some(if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service).await {
            Some(status) => Ok(Response::new(message(status))),
            None => Err(Status::not_found(format!("no model `{service}` is served here"))),
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let models = self.node.models();
        let names = models.iter().map(|model| model.name.as_str()).chain([""]);
        let mut statuses = HealthListResponse::default().statuses;
        for name in names {
            if let Some(status) = self.status(name).await {
                statuses.insert(name.to_owned(), message(status));
            }
        }
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch =
            Watch { health: self.clone(), service: request.into_inner().service, told: None };
        let changes = stream::unfold(watch, |mut watch| async {
            let change = watch.next_change().await?;
            Some((Ok(message(change)), watch))
        });
        let end = stream::once(async { Err(Status::unavailable("the server is stopping")) });
        Ok(Response::new(changes.chain(end).boxed()))
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// A client that wants to know of changes.
struct Watch {
    health: Health,
    service: String,
    /// What it was told last.
    told: Option<ServingStatus>,
}

impl Watch {
    /// The next status that differs from the one told; `None` when the server stops and that has
    /// been told.
    async fn next_change(&mut self) -> Option<ServingStatus> {
        loop {
            let is_closing = *self.health.closing.borrow_and_update();
            let status = self.health.status(&self.service).await;
            let status = status.unwrap_or(ServingStatus::ServiceUnknown);
            if self.told != Some(status) {
                self.told = Some(status);
                return self.told;
            }
            if is_closing {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                _ = self.health.closing.changed() => {}
            }
        }
    }
}
