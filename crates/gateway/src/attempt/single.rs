//! One try at one worker.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use inferring_policy::{AnswerTime, Outcome, Permit, RetryPermit};
use inferring_types::{
    Blame, BoxFuture, CacheOutcome, ErrorKind, InferResponse, RouteReason, Routed, ServiceError,
};
use tokio::sync::futures::Notified;
use tracing::debug;

use super::Work;
use super::witness::Witness;
use crate::endpoint::Endpoint;
use crate::routing::{Chosen, Stay};

/// A worker at work on a request. Dropped, it counts for nothing, and is cancelled if it is no
/// witness.
pub(super) struct Try<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) began: Instant,
    answer: BoxFuture<'a, Result<InferResponse, ServiceError>>,
    permit: Permit<'a>,
    stay: Stay<'a>,
    /// Held by all but first tries, and those that cost nothing.
    leave: Option<RetryPermit<'a>>,
    /// Which try of its request it is.
    number: u32,
    reason: RouteReason,
}

impl<'a> Work<'a> {
    /// Begins a try; for that `reason`, if not for the one for which the worker was chosen.
    pub(super) fn begin(
        &mut self,
        chosen: Chosen<'a>,
        reason: Option<RouteReason>,
        leave: Option<RetryPermit<'a>>,
        now: Instant,
    ) -> Try<'a> {
        let Chosen { endpoint, permit, stay, reason: chosen_for } = chosen;
        self.progress.tries += 1;
        let request = self.request.clone();
        // A step of a sequence must not be executed once it is given up, and what had to have leave
        // is to be over when that is given back.
        let may_stay = request.sequence.is_none() && leave.is_none();
        let witness = may_stay.then(|| Witness::of(endpoint, now)).flatten();
        let answer = match witness {
            Some(witness) => witness.infer(request),
            None => endpoint.member.service.infer(request),
        };
        Try {
            endpoint,
            began: now,
            answer,
            permit,
            stay,
            leave,
            number: self.progress.tries,
            reason: reason.unwrap_or(chosen_for),
        }
    }

    /// Ends a try that has an answer, and takes note of what that says.
    pub(super) fn settle(
        &mut self,
        tried: Try<'a>,
        result: Result<InferResponse, ServiceError>,
        now: Instant,
    ) -> Result<InferResponse, ServiceError> {
        let took = tried.lasted(now);
        let Try { endpoint, permit, stay, leave, number, reason, .. } = tried;
        let outcome = outcome_of(&result);
        if matches!(outcome, Outcome::Success | Outcome::Failed | Outcome::Refused) {
            endpoint.heard();
        }
        permit.record(outcome, now);
        if result.is_ok() {
            self.route.answered(now);
        }
        stay.end();
        drop(leave);
        let time = now.saturating_duration_since(self.arrived);
        let routed = Routed { attempt: number, reason, time };
        match result {
            Ok(mut response) => {
                endpoint.report(self.request.selector(), response.served.load, now);
                endpoint.answered(&response, took, now);
                if response.served.cache != CacheOutcome::Hit {
                    let (worker, ran) = (endpoint.number(), Some(response.served.execution_time));
                    self.times.record(AnswerTime { worker, time: took, ran }, now);
                }
                response.routed = Some(routed);
                Ok(response)
            }
            Err(error) => {
                self.note(endpoint, &error, outcome, now);
                Err(error.at_worker(endpoint.id().clone()).routed(routed))
            }
        }
    }

    fn note(&mut self, endpoint: &Endpoint, error: &ServiceError, outcome: Outcome, now: Instant) {
        let worker = endpoint.id();
        debug!(request = %self.request.id, %worker, error = %error.chain(), "attempt failed");
        if matches!(outcome, Outcome::Unreachable | Outcome::Failed) {
            endpoint.count_failure();
        }
        if let Some(load) = error.load() {
            endpoint.report(self.request.selector(), load, now);
        }
        if error.kind() == ErrorKind::Unavailable {
            endpoint.probe_soon();
        }
        self.progress.refusals += u32::from(error.kind() == ErrorKind::Overloaded);
        let told = error.worth_retrying_after();
        let shortest = self.progress.retry_after.into_iter().chain(told).min();
        self.progress.retry_after = shortest;
    }

    /// Ends a try that another one takes the place of. That it was not answered is its worker's
    /// failure where it had all the time that a worker gets.
    pub(super) fn give_up(&mut self, tried: Try<'a>, had_its_time: bool, now: Instant) {
        self.lose(&tried, now);
        if had_its_time {
            let error = too_slow(tried.endpoint);
            self.note(tried.endpoint, &error, Outcome::Failed, now);
            tried.permit.record(Outcome::Failed, now);
        }
    }

    /// Takes note of a try that was not answered for so long: how long it would have taken is not
    /// known, but that it is more.
    pub(super) fn lose(&self, tried: &Try<'a>, now: Instant) {
        let (worker, time) = (tried.endpoint.number(), tried.lasted(now));
        self.times.record(AnswerTime { worker, time, ran: None }, now);
    }
}

impl Try<'_> {
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

/// The worker's answer, or the error that it has fallen silent; for ever where there is no try.
/// Cancelled, it goes on from where it was when it is called again.
pub(super) async fn answer(
    tried: &mut Option<Try<'_>>,
    lost: Pin<&mut Notified<'_>>,
) -> Result<InferResponse, ServiceError> {
    let Some(Try { endpoint, answer, .. }) = tried else { return pending().await };
    tokio::select! {
        biased;
        result = answer => result,
        () = lost => {
            Err(ServiceError::unreachable(format!("worker {} fell silent", endpoint.id())))
        }
    }
}

/// What an answer says about the worker that gave it. A client's mistake or a passed deadline say
/// nothing.
fn outcome_of(result: &Result<InferResponse, ServiceError>) -> Outcome {
    match result.as_ref().map_err(|error| (error.blame(), error.kind())) {
        Ok(_) => Outcome::Success,
        Err((Blame::WorkerUnreachable, _)) => Outcome::Unreachable,
        Err((Blame::WorkerFailed, _)) => Outcome::Failed,
        Err((Blame::Server, ErrorKind::Overloaded | ErrorKind::Unavailable)) => Outcome::Refused,
        Err((Blame::Client | Blame::Server, _)) => Outcome::Neutral,
    }
}

/// Probes would tell if the worker were not there: it is there, and fails.
fn too_slow(endpoint: &Endpoint) -> ServiceError {
    let message = format!("worker {} did not answer in time", endpoint.id());
    ServiceError::new(ErrorKind::Unavailable, Blame::WorkerFailed, message).retryable()
}
