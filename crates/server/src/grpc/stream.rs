//! Many requests over one stream.
//!
//! Clients match answers to requests by their order, so it is kept, while several are worked on
//! at once. A request that fails is an answer like any other: its error is in the message, and
//! the stream goes on. The client ends it, or the server does when it stops.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use inferring_protocol::grpc::inference::{
    ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tonic::{Status, Streaming};

use super::inference::{Head, Inference};
use super::status::status;

/// Requests of one stream that are worked on at a time; a further one waits to be read.
const CONCURRENCY_MAX: usize = 32;

/// The answers to a stream of requests, in their order.
pub(super) fn answers(
    inference: Inference,
    head: Head,
    requests: Streaming<ModelInferRequest>,
) -> BoxStream<'static, Result<ModelStreamInferResponse, Status>> {
    let (stopping, stopped) = (closed(inference.clone()), inference.clone());
    let answers = requests
        .take_until(stopping)
        .map(move |request| {
            let (inference, head) = (inference.clone(), head.clone());
            async move { Ok(answer(&inference, head, request?).await) }
        })
        .buffered(CONCURRENCY_MAX);
    let end = stream::once(async move {
        let is_stopping = *stopped.closing.borrow();
        is_stopping.then(|| Err(Status::unavailable("the server is stopping")))
    });
    answers.chain(end.filter_map(std::future::ready)).boxed()
}

async fn closed(inference: Inference) {
    let mut closing = inference.closing;
    // It never fails: the other end outlives all connections.
    let _ = closing.wait_for(|&closing| closing).await;
}

/// The answer to one request of a stream whose head is `of_stream`. The stream's time-out bounds
/// all of it; the request's own begins now.
async fn answer(
    inference: &Inference,
    of_stream: Head,
    request: ModelInferRequest,
) -> ModelStreamInferResponse {
    let arrived = Instant::now();
    let elapsed = arrived - of_stream.arrived;
    let mut head = Head {
        arrived,
        id: None,
        timeout: of_stream.timeout.map(|timeout| timeout.saturating_sub(elapsed)),
    };
    let (id, model_name) = (request.id.clone(), request.model_name.clone());
    match inference.infer(&mut head, request).await {
        Ok(response) => ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        },
        Err(error) => ModelStreamInferResponse {
            error_message: status(&error, head.id.as_ref()).message().to_owned(),
            infer_response: Some(ModelInferResponse {
                id,
                model_name,
                ..ModelInferResponse::default()
            }),
        },
    }
}
