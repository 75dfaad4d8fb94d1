//! Many requests over one stream.
//!
//! Clients match answers to requests by their order, so it is kept, while several are worked on
//! at once. A request that fails is an answer like any other: its error is in the message, and
//! the stream goes on. The client ends it, or the server does when it stops.
//!
//! Requests of one sequence are worked on one after the other: each is to find the state that the
//! one before it left, and a gateway sends them over connections that overtake each other.

use std::collections::HashMap;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use inferring_protocol::fields::EXPLAIN;
use inferring_protocol::grpc::inference::infer_parameter::ParameterChoice;
use inferring_protocol::grpc::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use inferring_protocol::grpc::sequence_of;
use inferring_types::SequenceId;
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::inference::{Head, Inference};
use super::status::status;
use crate::account::Account;

/// Requests of one stream that are worked on at a time; a further one waits to be read.
const CONCURRENCY_MAX: usize = 32;

/// The answers to a stream of requests, in their order.
pub(super) fn answers(
    inference: Inference,
    head: Head,
    requests: Streaming<ModelInferRequest>,
) -> BoxStream<'static, Result<ModelStreamInferResponse, Status>> {
    let (stopping, stopped) = (closed(inference.clone()), inference.clone());
    let mut turns = Turns::default();
    let answers = requests
        .take_until(stopping)
        .map(move |request| {
            let (inference, head) = (inference.clone(), head.clone());
            let turn = request.as_ref().ok().and_then(|request| turns.next(request));
            async move { Ok(answer(&inference, head, turn, request?).await) }
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

/// The order of the requests of each sequence in a stream.
#[derive(Default)]
struct Turns {
    /// Tells of the last request of each sequence that it is over: what it watches is gone.
    last_by_sequence: HashMap<SequenceId, watch::Receiver<()>>,
}

/// A request's turn in its sequence. The next one's comes when this is dropped.
struct Turn {
    after: Option<watch::Receiver<()>>,
    _over: watch::Sender<()>,
}

impl Turns {
    /// The turn of a request that has just been read; none where it is in no sequence.
    fn next(&mut self, request: &ModelInferRequest) -> Option<Turn> {
        let sequence = sequence_of(request)?;
        if self.last_by_sequence.len() >= 2 * CONCURRENCY_MAX {
            // Half of them at least are over, as no more than that are worked on.
            self.last_by_sequence.retain(|_, last| last.has_changed().is_ok());
        }
        let (over, last) = watch::channel(());
        let after = self.last_by_sequence.insert(sequence, last);
        Some(Turn { after, _over: over })
    }
}

impl Turn {
    /// Completes when the request before it in its sequence is over.
    async fn comes(&mut self) {
        if let Some(mut before) = self.after.take() {
            // Nothing is ever sent: this ends with the sender.
            let _ = before.changed().await;
        }
    }
}

/// The answer to one request of a stream whose head is `of_stream`. The stream's time-out bounds
/// all of it; the request's own begins now.
async fn answer(
    inference: &Inference,
    of_stream: Head,
    mut turn: Option<Turn>,
    request: ModelInferRequest,
) -> ModelStreamInferResponse {
    let arrived = Instant::now();
    let elapsed = arrived - of_stream.arrived;
    let mut head = Head {
        arrived,
        id: None,
        timeout: of_stream.timeout.map(|timeout| timeout.saturating_sub(elapsed)),
        ..of_stream
    };
    let (id, model_name) = (request.id.clone(), request.model_name.clone());
    if let Some(turn) = &mut turn {
        turn.comes().await;
    }
    match inference.infer(&mut head, request).await {
        Ok((mut response, account)) => {
            explain(&mut response, account);
            ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(response),
            }
        }
        Err(error) => {
            let mut response = ModelInferResponse { id, model_name, ..Default::default() };
            explain(&mut response, head.curiosity.account_of_error(&error));
            ModelStreamInferResponse {
                error_message: status(&error, head.id.as_ref()).message().to_owned(),
                infer_response: Some(response),
            }
        }
    }
}

/// An answer in a stream has no metadata of its own: what would be there is a parameter. What it
/// took is among its parameters anyway.
fn explain(response: &mut ModelInferResponse, account: Account) {
    if let Some(text) = account.into_explanation() {
        let choice = Some(ParameterChoice::StringParam(text));
        let parameter = InferParameter { parameter_choice: choice };
        response.parameters.insert(EXPLAIN.as_str().to_owned(), parameter);
    }
}
