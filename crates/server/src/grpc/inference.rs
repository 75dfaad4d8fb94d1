//! The inference service: each call to the node, and its answer back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use inferring_protocol::grpc::inference::grpc_inference_service_server::GrpcInferenceService;
use inferring_protocol::grpc::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use inferring_protocol::grpc::{
    decode_load, decode_request, encode_config, encode_index, encode_metadata, encode_response,
    encode_statistics, parse_name,
};
use inferring_protocol::rest::headers;
use inferring_types::{Deadline, InferRequest, ModelSelector, RequestId, ServiceError};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::status::{insert_request_id, status};
use super::{Arrived, stream};
use crate::Node;
use crate::account::{Account, Curiosity};

/// The service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Inference {
    pub(super) node: Arc<dyn Node>,
    request_timeout: Duration,
    /// Becomes true when streams are to end.
    pub(super) closing: watch::Receiver<bool>,
}

impl Inference {
    pub(super) fn new(
        node: Arc<dyn Node>,
        request_timeout: Duration,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self { node, request_timeout, closing }
    }

    /// Answers one request. `head` learns its id, for errors too.
    pub(super) async fn infer(
        &self,
        head: &mut Head,
        message: ModelInferRequest,
    ) -> Result<(ModelInferResponse, Account), ServiceError> {
        if let Ok(id) = message.id.parse() {
            head.id = Some(id);
        }
        let asked = selector(&message.model_name, &message.model_version);
        let model = self.node.model(asked)?.name.clone();
        // What the catalog has found is a version's name.
        let version = asked.version.and_then(|version| version.parse().ok());
        let decoded = decode_request(message)?;
        // All times bound the request.
        let timeout = [head.timeout, decoded.timeout].into_iter().flatten().min();
        let request = InferRequest {
            id: head.id.get_or_insert_with(RequestId::generate).clone(),
            model,
            version,
            inputs: decoded.inputs,
            outputs: decoded.outputs,
            deadline: Deadline::after(head.arrived, timeout.unwrap_or(self.request_timeout)),
            priority: decoded.priority,
            sequence: decoded.sequence,
        };
        let response = self.node.infer(request).await?;
        let account = head.curiosity.account_of(&response);
        Ok((encode_response(&response, decoded.form, decoded.marks_final), account))
    }
}

/// What is known of a request beside its message.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) arrived: Instant,
    pub(super) curiosity: Curiosity,
    pub(super) id: Option<RequestId>,
    pub(super) timeout: Option<Duration>,
}

impl Head {
    pub(super) fn read<T>(request: &Request<T>) -> Result<Self, ServiceError> {
        let fields = request.metadata().as_ref();
        let arrived = request.extensions().get::<Arrived>();
        let arrived = arrived.map_or_else(Instant::now, |Arrived(at)| *at);
        Ok(Self {
            arrived,
            curiosity: Curiosity::read(arrived, fields),
            id: headers::request_id(fields)?,
            timeout: headers::timeout(fields)?,
        })
    }
}

/// What a request asks for; no version, or an empty one, is the one to be asked by default.
pub(super) fn selector<'a>(name: &'a str, version: &'a str) -> ModelSelector<'a> {
    ModelSelector::new(name, (!version.is_empty()).then_some(version))
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn refused(error: ServiceError) -> Status {
    status(&error, None)
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.node.is_ready(None);
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.node.is_ready(Some(selector(&name, &version)));
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "inferring".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: crate::EXTENSIONS.map(str::to_owned).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let model = self.node.model(selector(&name, &version)).map_err(refused)?;
        let versions = match version.as_str() {
            "" => self
                .node
                .models()
                .iter()
                .filter(|other| other.name == model.name)
                .map(|other| other.version.to_string())
                .collect(),
            _ => vec![model.version.to_string()],
        };
        Ok(Response::new(encode_metadata(&model, versions)))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let mut head = Head::read(&request).map_err(refused)?;
        match self.infer(&mut head, request.into_inner()).await {
            Ok((message, account)) => {
                let mut response = Response::new(message);
                if let Some(id) = &head.id {
                    insert_request_id(response.metadata_mut(), id);
                }
                account.insert_into(response.metadata_mut().as_mut());
                Ok(response)
            }
            Err(error) => {
                let mut status = status(&error, head.id.as_ref());
                let account = head.curiosity.account_of_error(&error);
                account.insert_into(status.metadata_mut().as_mut());
                Err(status)
            }
        }
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let head = Head::read(&request).map_err(refused)?;
        Ok(Response::new(stream::answers(self.clone(), head, request.into_inner())))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let config = self.node.config(selector(&name, &version)).await.map_err(refused)?;
        Ok(Response::new(ModelConfigResponse { config: Some(encode_config(&config)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let asked = (!name.is_empty()).then(|| selector(&name, &version));
        let statistics = self.node.statistics(asked).await.map_err(refused)?;
        let model_stats = statistics.iter().map(encode_statistics).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let entries = self.node.index().await.map_err(refused)?;
        Ok(Response::new(encode_index(&entries, request.into_inner().ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let load = decode_load(request.into_inner()).map_err(refused)?;
        self.node.load(load).await.map_err(refused)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let model = parse_name(&request.into_inner().model_name).map_err(refused)?;
        self.node.unload(model).await.map_err(refused)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}
