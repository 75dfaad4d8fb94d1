//! Requests for inference that a gateway sends in frames.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use inferring_protocol::frames::{Answer, Request};
use inferring_protocol::rest::Chunks;
use inferring_protocol::status::{http_status, retry_after_seconds};
use inferring_types::{Blame, ErrorKind, ModelSelector, RequestId, ServiceError};

use super::infer::{Intake, write_v2};
use super::log;
use crate::Node;
use crate::config::ServerConfig;

/// An answer, and its body.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) body: Chunks,
}

/// Answers a request. Every failure is an answer too.
pub(crate) async fn answer(node: &dyn Node, config: &ServerConfig, message: Bytes) -> Reply {
    let (request, body) = match Request::read(&message) {
        Ok(read) => read,
        Err(error) => return refuse(&ServiceError::invalid(error.to_string()), None),
    };
    let asked = ModelSelector::new(request.model, request.version);
    let mut intake = Intake::framed(config, request.timeout, request.json_length);
    let result = async {
        let (response, form) = intake.ask_v2(node, asked, body.into()).await?;
        // What a gateway's workers expect concerns nobody else.
        let load = response.routed.is_none().then_some(response.served.load);
        let message = write_v2(intake.written_by(), response, form).await?;
        let answer = Answer {
            status: StatusCode::OK,
            load,
            retry_after: None,
            json_length: message.json_length,
        };
        Ok(Reply { answer, body: message.body })
    };
    result.await.unwrap_or_else(|error| refuse(&error, intake.id.as_ref()))
}

/// The answer to a request that cannot be answered: why not.
pub(crate) fn refuse(error: &ServiceError, id: Option<&RequestId>) -> Reply {
    log(error, id);
    let answer = Answer {
        status: http_status(error.kind()),
        load: error.load().filter(|_| error.routing().is_none()),
        retry_after: retry_after_seconds(error).map(Duration::from_secs),
        json_length: None,
    };
    Reply { answer, body: Chunks::one(error.to_string()) }
}

/// The error for a request that is longer than a body may be.
pub(crate) fn too_long(config: &ServerConfig) -> ServiceError {
    let message = format!("the request is larger than the limit of {}", config.body_size_max);
    ServiceError::new(ErrorKind::TooLarge, Blame::Client, message)
}
