//! A step of a sequence, which is executed once at most.
//!
//! Another worker is asked where this one has executed nothing: where a sequence starts, if nothing
//! was sent or the worker takes nothing new, and that one then keeps the state; where it goes on,
//! if the worker says that it does not know it, for its state may be elsewhere
//! ([`Route::next_of`](crate::routing::Route::next_of)). A step is neither hedged nor given up before
//! its deadline: somebody else could not go on with it.

use std::pin::pin;

use inferring_types::{Blame, ErrorKind, InferResponse, SequenceStep, ServiceError};

use super::single::answer;
use super::{Work, count, deadline_exceeded};
use crate::clock;
use crate::endpoint::Endpoint;
use crate::routing::Unplaced;

/// The answer, or the error of the worker that was asked last; `None` where nobody could be.
pub(super) async fn run(
    mut work: Work<'_>,
    step: &SequenceStep,
) -> Option<Result<InferResponse, ServiceError>> {
    let mut last_error = None;
    let mut now = work.arrived;
    loop {
        let chosen = match work.route.next_of(step, now) {
            Ok(chosen) => chosen,
            Err(Unplaced::Nobody) => return last_error.map(Err),
            Err(Unplaced::Away(home)) => return Some(Err(away(home, step))),
        };
        if last_error.is_some() {
            count(&work.attempts.failovers);
        }
        let worker = chosen.endpoint.number();
        let mut lost = pin!(chosen.endpoint.lost());
        let mut tried = Some(work.begin(chosen, None, None, now));
        let deadline = tokio::time::sleep_until(work.request.deadline.at().into());
        // The deadline first: whoever asks the worker gives up at the same moment, and its error
        // would say no more than that the time is over.
        let result = tokio::select! {
            biased;
            () = deadline => return Some(Err(broken_off(&deadline_exceeded(), step))),
            result = answer(&mut tried, lost.as_mut()) => result,
        };
        now = clock::now();
        let tried = tried.take().expect("it has just been asked");
        match work.settle(tried, result, now) {
            Ok(response) => {
                work.route.answered_step(step, worker, now);
                return Some(Ok(response));
            }
            Err(error) if is_for_another(&error, step) => {
                if !step.start {
                    work.route.knows_no_sequence();
                }
                if work.request.deadline.has_passed(now) {
                    return Some(Err(deadline_exceeded()));
                }
                last_error = Some(error);
            }
            Err(error) if error.blame() == Blame::WorkerUnreachable => {
                return Some(Err(broken_off(&error, step)));
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Whether the worker has executed nothing and another one may take the step.
fn is_for_another(error: &ServiceError, step: &SequenceStep) -> bool {
    match (error.kind(), error.blame()) {
        // Of one that takes nothing new no sequence is lost that begins elsewhere.
        (ErrorKind::Unavailable, Blame::Server) if step.start => true,
        // It does not know the sequence.
        (_, Blame::Client) if !step.start => error.is_retryable(),
        _ => step.start && error.is_unsent(),
    }
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

/// The error of a step that was sent to nobody, as the worker with the state cannot be asked.
fn away(home: &Endpoint, step: &SequenceStep) -> ServiceError {
    let message = format!(
        "the state of sequence `{}` is at worker {}, which cannot be asked now: send the step again \
         later, or start again, under another id",
        step.id,
        home.id(),
    );
    ServiceError::new(ErrorKind::Unavailable, Blame::Server, message)
}
