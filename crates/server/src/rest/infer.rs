//! Inference requests: from bytes to the service and back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use inferring_protocol::rest::{BodyError, Chunks, collect, headers, plain, v2};
use inferring_types::{
    Blame, Deadline, ErrorKind, InferRequest, InferResponse, ModelMetadata, ModelSelector,
    NamedTensor, RequestId, ServiceError, TensorName,
};

use super::{error_response, insert_request_id, respond};
use crate::Node;
use crate::config::ServerConfig;

/// Answers a request in the plain form.
pub(super) async fn plain(
    node: &dyn Node,
    config: &ServerConfig,
    model: Option<&str>,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let mut intake = Intake::new(config);
    let result = async {
        let body = intake.receive(head, body).await?;
        let model = node.model(ModelSelector { name: model, version: None })?;
        let decoded = plain::decode_request(&body, &model)?;
        intake.identify(decoded.id);
        let request = intake.request(&model, vec![decoded.input], Vec::new());
        let response = node.infer(request).await?;
        Ok((plain::encode_response(&response)?, response.id))
    };
    match result.await {
        Ok((body, id)) => {
            let mut response = respond(StatusCode::OK, "application/json", Chunks::one(body));
            insert_request_id(&mut response, &id);
            response
        }
        Err(error) => error_response(&error, intake.id.as_ref()),
    }
}

/// Answers a request of Open Inference Protocol v2.
pub(super) async fn v2(
    node: &dyn Node,
    config: &ServerConfig,
    model: &str,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let mut intake = Intake::new(config);
    let result = async {
        let body = intake.receive(head, body).await?;
        let model = node.model(ModelSelector::named(model))?;
        let mut decoded = v2::decode_request(&body, intake.json_length)?;
        intake.identify(decoded.id.take());
        intake.timeout = decoded.timeout.or(intake.timeout);
        let inputs = std::mem::take(&mut decoded.inputs);
        let request = intake.request(&model, inputs, decoded.outputs.clone());
        let response = node.infer(request).await?;
        encode_v2(&response, |output| decoded.wants_binary(output))
    };
    result.await.unwrap_or_else(|error| error_response(&error, intake.id.as_ref()))
}

fn encode_v2(
    response: &InferResponse,
    wants_binary: impl Fn(&TensorName) -> bool,
) -> Result<Response<Chunks>, ServiceError> {
    let message = v2::encode_response(response, wants_binary)?;
    let content_type = match message.json_length {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    let mut http = respond(StatusCode::OK, content_type, message.body);
    if let Some(length) = message.json_length {
        http.headers_mut().insert(headers::JSON_LENGTH, HeaderValue::from(length));
    }
    insert_request_id(&mut http, &response.id);
    Ok(http)
}

/// What is known of a request while it is read, so that an error can be answered to it.
struct Intake<'a> {
    config: &'a ServerConfig,
    arrived: Instant,
    id: Option<RequestId>,
    timeout: Option<Duration>,
    json_length: Option<usize>,
}

impl<'a> Intake<'a> {
    fn new(config: &'a ServerConfig) -> Self {
        Self { config, arrived: Instant::now(), id: None, timeout: None, json_length: None }
    }

    /// Reads the head's meaning and the whole body.
    async fn receive(&mut self, head: &Parts, body: &mut Incoming) -> Result<Bytes, ServiceError> {
        self.id = headers::request_id(&head.headers)?;
        self.timeout = headers::timeout(&head.headers)?;
        let limit = usize::try_from(self.config.body_size_max.as_u64()).unwrap_or(usize::MAX);
        let body = tokio::time::timeout(self.config.body_timeout, collect(body, limit))
            .await
            .map_err(|_| body_too_slow(self.config.body_timeout))?
            .map_err(body_error)?;
        self.json_length = headers::json_length(&head.headers, body.len())?;
        Ok(body)
    }

    /// Takes the id in the body, which goes before the one in the head; makes one where there
    /// is none.
    fn identify(&mut self, in_body: Option<RequestId>) {
        self.id = in_body.or_else(|| self.id.take()).or_else(|| Some(RequestId::generate()));
    }

    fn request(
        &self,
        model: &ModelMetadata,
        inputs: Vec<NamedTensor>,
        outputs: Vec<TensorName>,
    ) -> InferRequest {
        let timeout = self.timeout.unwrap_or(self.config.request_timeout);
        InferRequest {
            id: self.id.clone().unwrap_or_else(RequestId::generate),
            model: model.name.clone(),
            version: None,
            inputs,
            outputs,
            deadline: Deadline::after(self.arrived, timeout),
        }
    }
}

fn body_too_slow(limit: Duration) -> ServiceError {
    let message = format!("the body did not arrive within {limit:?}");
    ServiceError::new(ErrorKind::DeadlineExceeded, Blame::Client, message)
}

fn body_error(error: BodyError<hyper::Error>) -> ServiceError {
    match error {
        BodyError::TooLarge { .. } => {
            ServiceError::new(ErrorKind::TooLarge, Blame::Client, error.to_string())
        }
        BodyError::Broken(source) => {
            ServiceError::invalid("the body is malformed or broke off").caused_by(source)
        }
    }
}
