//! What a remote worker answers about its models, asked in JSON.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use inferring_protocol::rest::repository::{IndexDocument, encode_load};
use inferring_protocol::rest::{Chunks, ConfigDocument, StatisticsDocument};
use inferring_types::{
    BoxFuture, IndexEntry, LoadRequest, ModelConfig, ModelName, ModelRepository, ModelSelector,
    ModelStatistics, ServiceError,
};
use serde::de::DeserializeOwned;

use crate::RemoteWorker;
use crate::remote::{Repeats, error_of};

impl ModelRepository for RemoteWorker {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        Box::pin(async {
            let answer = self.call(Method::POST, "/v2/repository/index", Bytes::new()).await?;
            let documents: Vec<IndexDocument> = read(&answer)?;
            documents.into_iter().map(IndexEntry::try_from).collect()
        })
    }

    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            let path = format!("/v2/repository/models/{}/load", request.model);
            self.call(Method::POST, &path, encode_load(&request).into()).await.map(drop)
        })
    }

    fn unload(&self, model: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            let path = format!("/v2/repository/models/{model}/unload");
            self.call(Method::POST, &path, Bytes::new()).await.map(drop)
        })
    }

    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async move {
            let path = format!("{}/config", self.model_path(model)?);
            let answer = self.call(Method::GET, &path, Bytes::new()).await?;
            ModelConfig::try_from(read::<ConfigDocument>(&answer)?)
        })
    }

    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async move {
            let path = match model {
                Some(model) => format!("{}/stats", self.model_path(model)?),
                None => "/v2/models/stats".to_owned(),
            };
            let answer = self.call(Method::GET, &path, Bytes::new()).await?;
            Vec::try_from(read::<StatisticsDocument>(&answer)?)
        })
    }
}

impl RemoteWorker {
    /// The path of what is asked for, as far as the worker is known to serve it.
    fn model_path(&self, asked: ModelSelector<'_>) -> Result<String, ServiceError> {
        // It may serve it by now; but whoever asks many workers is told that this one does not.
        let metadata =
            self.known(asked).map_err(|error| ServiceError::not_found(error.to_string()))?;
        Ok(match asked.version {
            Some(version) => format!("/v2/models/{}/versions/{version}", metadata.name),
            None => format!("/v2/models/{}", metadata.name),
        })
    }

    /// Sends a document, or nothing, and returns the document that is answered.
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ServiceError> {
        let path: Uri = path.parse().map_err(|error| {
            ServiceError::not_found(format!("no such path: {path}")).caused_by(error)
        })?;
        let request = || {
            let mut http = Request::new(Chunks::one(body.clone()));
            *http.method_mut() = method.clone();
            *http.uri_mut() = path.clone();
            let fields = http.headers_mut();
            fields.insert(HOST, self.host.clone());
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            http
        };
        let response = self.exchange(request, Repeats::Once).await?;
        match response.status() {
            StatusCode::OK => Ok(response.body().contiguous().clone()),
            _ => Err(error_of(&response)),
        }
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(answer)
        .map_err(|error| ServiceError::failed("the worker's answer is malformed").caused_by(error))
}
