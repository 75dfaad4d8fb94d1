//! Asks one worker after the other until one answers, inside the request's deadline.

use std::time::Duration;

use inferring_policy::Outcome;
use inferring_types::{Blame, ErrorKind, InferRequest, InferResponse, ServiceError};
use tracing::debug;

use crate::clock;
use crate::endpoint::Endpoint;
use crate::routing::Route;

/// The answer, or the last worker's error; `None` where nobody could be asked at all.
///
/// A worker is asked at most once. Only errors that another worker may not make lead on to the
/// next. `failovers` counts tries beyond the first.
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
        let timeout = route.has_next().then_some(attempt_timeout);
        let (result, outcome) = ask(endpoint, request.clone(), timeout).await;
        permit.record(outcome, clock::now());
        match result {
            Ok(response) => return Some(Ok(response)),
            Err(error) => {
                let worker = endpoint.id();
                debug!(request = %request.id, %worker, error = %error.chain(), "attempt failed");
                if matches!(outcome, Outcome::Unreachable | Outcome::Failed) {
                    endpoint.count_failure();
                }
                // The model is known here: a worker that lacks it has lost it since it was probed.
                if !error.is_retryable() && error.kind() != ErrorKind::NotFound {
                    return Some(Err(error));
                }
                last_error = Some(error);
            }
        }
    }
}

/// One try, and what it says about the worker. `timeout` limits it beside the deadline.
async fn ask(
    endpoint: &Endpoint,
    request: InferRequest,
    timeout: Option<Duration>,
) -> (Result<InferResponse, ServiceError>, Outcome) {
    let _in_flight = endpoint.enter();
    let lost = endpoint.lost();
    let deadline = request.deadline.at();
    let patience = timeout.map_or(deadline, |timeout| deadline.min(clock::now() + timeout));
    let answer = endpoint.member.service.infer(request);
    tokio::select! {
        biased;
        result = answer => {
            let outcome = outcome_of(&result);
            (result, outcome)
        }
        () = lost => {
            let error = format!("worker {} fell silent", endpoint.id());
            (Err(ServiceError::unreachable(error)), Outcome::Unreachable)
        }
        () = tokio::time::sleep_until(patience.into()) => {
            if patience == deadline {
                // The client set the deadline: that it was too short says nothing of the worker.
                return (Err(deadline_exceeded()), Outcome::Neutral);
            }
            (Err(too_slow(endpoint)), Outcome::Failed)
        }
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
