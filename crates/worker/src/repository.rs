//! What the worker answers about its models.

use inferring_types::{
    Blame, BoxFuture, ErrorKind, IndexEntry, LoadRequest, ModelConfig, ModelName, ModelRepository,
    ModelSelector, ModelState, ModelStatistics, ServiceError,
};

use crate::Worker;

impl ModelRepository for Worker {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        let entries = inferring_types::InferenceService::models(self);
        let entry = |model: &std::sync::Arc<inferring_types::ModelMetadata>| IndexEntry {
            name: model.name.clone(),
            version: Some(model.version.clone()),
            state: ModelState::Ready,
            reason: String::new(),
        };
        Box::pin(async move { Ok(entries.iter().map(entry).collect()) })
    }

    fn load(&self, _: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async { Err(unimplemented("loading a model")) })
    }

    fn unload(&self, _: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async { Err(unimplemented("unloading a model")) })
    }

    fn config<'a>(
        &'a self,
        _: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async { Err(unimplemented("a model's configuration")) })
    }

    fn statistics<'a>(
        &'a self,
        _: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async { Err(unimplemented("a model's statistics")) })
    }
}

fn unimplemented(what: &str) -> ServiceError {
    let message = format!("{what} is not possible yet");
    ServiceError::new(ErrorKind::Unimplemented, Blame::Client, message)
}
