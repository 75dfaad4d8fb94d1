//! Asks one worker after the other until one answers, inside the request's deadline.
//!
//! A step of a sequence is different: its state is at one worker, and changes when it is executed.
//! No other worker can go on with it, and none may do it twice. Only where a sequence starts, and
//! where nothing was sent, is the next worker asked: that one then keeps the state.

use std::time::Duration;

use inferring_policy::Outcome;
use inferring_types::{Blame, ErrorKind, InferRequest, InferResponse, SequenceStep, ServiceError};
use tracing::debug;

use crate::clock;
use crate::endpoint::Endpoint;
use crate::routing::Route;

/// The answer, or the last worker's error; `None` where nobody could be asked at all.
///
/// A worker is asked at most once. Only errors that another worker may not make lead on to the
/// next, and of a sequence only its start that was not sent. `failovers` counts tries beyond the
/// first.
pub(crate) async fn run<'a>(
    request: &'a InferRequest,
    mut route: Route<impl Iterator<Item = &'a Endpoint>>,
    attempt_timeout: Duration,
    mut failovers: impl FnMut(),
) -> Option<Result<InferResponse, ServiceError>> {
    let mut last_error: Option<ServiceError> = None;
    loop {
        let now = clock::now();
        if request.deadline.has_passed(now) {
            return Some(Err(deadline_exceeded()));
        }
        let Some((endpoint, permit)) = route.next(now) else {
            return last_error.map(Err);
        };
        if last_error.is_some() {
            failovers();
        }
        let has_other = request.sequence.is_none() && route.has_next();
        let timeout = has_other.then_some(attempt_timeout);
        let Try { result, outcome, reached } = ask(endpoint, request.clone(), timeout).await;
        permit.record(outcome, clock::now());
        match result {
            Ok(response) => return Some(Ok(response)),
            Err(error) => {
                let worker = endpoint.id();
                debug!(request = %request.id, %worker, error = %error.chain(), "attempt failed");
                if matches!(outcome, Outcome::Unreachable | Outcome::Failed) {
                    endpoint.count_failure();
                }
                match &request.sequence {
                    None if may_another_do_better(&error) => last_error = Some(error),
                    None => return Some(Err(error)),
                    Some(_) if reached == Reached::Answer => return Some(Err(error)),
                    Some(step) if step.start && reached == Reached::Nobody => {
                        last_error = Some(error);
                    }
                    Some(step) => return Some(Err(broken_off(&error, step))),
                }
            }
        }
    }
}

fn may_another_do_better(error: &ServiceError) -> bool {
    // The model is known here: a worker that lacks it has lost it since it was probed.
    error.is_retryable() || error.kind() == ErrorKind::NotFound
}

/// The error of a step of a sequence that got no answer from the worker with the sequence's state.
///
/// The id of the new sequence is to be another one: the worker may come back with the old state,
/// and what was begun elsewhere under the same id would meet it.
fn broken_off(error: &ServiceError, step: &SequenceStep) -> ServiceError {
    let message = format!(
        "{error}: what became of sequence `{}` is not known; start again, under another id",
        step.id,
    );
    ServiceError::new(error.kind(), error.blame(), message).caused_by(error.clone())
}

/// How one try ended.
struct Try {
    result: Result<InferResponse, ServiceError>,
    /// What that says about the worker.
    outcome: Outcome,
    reached: Reached,
}

/// How far a request came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// It was not sent.
    Nobody,
    /// The worker may have executed it.
    Worker,
    /// The worker has answered, if only with an error.
    Answer,
}

/// One try. `timeout` limits it beside the deadline.
async fn ask(endpoint: &Endpoint, request: InferRequest, timeout: Option<Duration>) -> Try {
    let _in_flight = endpoint.enter();
    let lost = endpoint.lost();
    let deadline = request.deadline.at();
    let patience = timeout.map_or(deadline, |timeout| deadline.min(clock::now() + timeout));
    let answer = endpoint.member.service.infer(request);
    let given_up = |error, outcome| Try { result: Err(error), outcome, reached: Reached::Worker };
    tokio::select! {
        biased;
        result = answer => {
            let (outcome, reached) = (outcome_of(&result), reached(&result));
            Try { result, outcome, reached }
        }
        () = lost => {
            let error = format!("worker {} fell silent", endpoint.id());
            given_up(ServiceError::unreachable(error), Outcome::Unreachable)
        }
        () = tokio::time::sleep_until(patience.into()) => {
            if patience == deadline {
                // The client set the deadline: that it was too short says nothing of the worker.
                return given_up(deadline_exceeded(), Outcome::Neutral);
            }
            given_up(too_slow(endpoint), Outcome::Failed)
        }
    }
}

/// How far a request came that a worker's service has done with. Of an unreachable worker it says
/// by `retryable` whether a step of a sequence may still be taken elsewhere.
fn reached(result: &Result<InferResponse, ServiceError>) -> Reached {
    match result {
        Err(error) if error.blame() == Blame::WorkerUnreachable => {
            if error.is_retryable() {
                Reached::Nobody
            } else {
                Reached::Worker
            }
        }
        _ => Reached::Answer,
    }
}

/// What an answer says about the worker that gave it. A client's mistake, a full queue, a
/// draining worker or a passed deadline say nothing.
fn outcome_of(result: &Result<InferResponse, ServiceError>) -> Outcome {
    match result.as_ref().map_err(ServiceError::blame) {
        Ok(_) => Outcome::Success,
        Err(Blame::WorkerUnreachable) => Outcome::Unreachable,
        Err(Blame::WorkerFailed) => Outcome::Failed,
        Err(Blame::Client | Blame::Server) => Outcome::Neutral,
    }
}

/// Probes would tell if the worker were not there: it is there, and fails.
fn too_slow(endpoint: &Endpoint) -> ServiceError {
    let message = format!("worker {} did not answer in time", endpoint.id());
    ServiceError::new(ErrorKind::Unavailable, Blame::WorkerFailed, message).retryable()
}

fn deadline_exceeded() -> ServiceError {
    ServiceError::new(
        ErrorKind::DeadlineExceeded,
        Blame::Server,
        "the deadline passed before a worker answered",
    )
}
