//! What the worker tells about its models, and how they are loaded and unloaded on request.

use std::sync::Arc;

use inferring_types::{
    BoxFuture, IndexEntry, LoadRequest, ModelConfig, ModelName, ModelRepository, ModelSelector,
    ModelStatistics, ServiceError,
};

use crate::Worker;
use crate::model::Model;

impl ModelRepository for Worker {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        Box::pin(async { Ok(self.registry.index()) })
    }

    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(self.loader.load(request))
    }

    fn unload(&self, model: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(self.loader.unload(model))
    }

    fn config<'a>(
        &'a self,
        asked: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async move { Ok(self.registry.find(asked)?.config()) })
    }

    fn statistics<'a>(
        &'a self,
        asked: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async move {
            self.registry.require_loaded()?;
            let catalog = self.registry.catalog();
            let statistics = |model: &Arc<Model>| model.executor.statistics();
            let Some(asked) = asked else {
                return Ok(catalog.iter().map(statistics).collect());
            };
            let found = catalog.find(asked)?;
            Ok(match asked.version {
                Some(_) => vec![statistics(found)],
                None => catalog.versions_of(found.name().as_str()).map(statistics).collect(),
            })
        })
    }
}
