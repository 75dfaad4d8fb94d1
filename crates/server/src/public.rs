//! A node as its clients may use it, where loading models is for operators.

use std::sync::Arc;

use inferring_types::{
    Announced, Blame, BoxFuture, ErrorKind, IndexEntry, InferRequest, InferResponse,
    InferenceService, LoadRequest, ModelConfig, ModelMetadata, ModelName, ModelRepository,
    ModelSelector, ModelStatistics, NodeStatus, Reservation, ServiceError, StatusSource,
};

use crate::Node;

/// A node whose models nobody changes. REST and gRPC thus refuse alike.
pub(crate) struct Public(pub(crate) Arc<dyn Node>);

fn forbidden() -> ServiceError {
    let message = "models are loaded and unloaded by the node's operators alone: ask its admin \
                   listener (setting `server.repository_control`)";
    ServiceError::new(ErrorKind::Forbidden, Blame::Client, message)
}

impl InferenceService for Public {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.0.models()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        self.0.model(asked)
    }

    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        self.0.is_ready(asked)
    }

    fn anticipate(&self, announced: &Announced<'_>) -> Result<Reservation, ServiceError> {
        self.0.anticipate(announced)
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        self.0.infer(request)
    }

    fn keep_warm(&self) -> BoxFuture<'_, ()> {
        self.0.keep_warm()
    }

    fn attendant(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.attendant()
    }
}

impl StatusSource for Public {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        self.0.status()
    }
}

impl ModelRepository for Public {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        self.0.index()
    }

    fn load(&self, _: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async { Err(forbidden()) })
    }

    fn unload(&self, _: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async { Err(forbidden()) })
    }

    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        self.0.config(model)
    }

    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        self.0.statistics(model)
    }
}
