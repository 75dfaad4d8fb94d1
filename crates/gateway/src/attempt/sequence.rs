//! A step of a sequence, which is tried once.
//!
//! Only where a sequence starts, and where nothing was sent, is the next worker asked: that one
//! then keeps the state. A step is neither hedged nor given up before its deadline: somebody else
//! could not go on with it.

use std::pin::pin;

use inferring_types::{Blame, InferResponse, SequenceStep, ServiceError};

use super::single::answer;
use super::{Work, count, deadline_exceeded};
use crate::clock;

/// The answer, or the error of the worker that was asked last; `None` where nobody could be.
pub(super) async fn run(
    mut work: Work<'_>,
    step: &SequenceStep,
) -> Option<Result<InferResponse, ServiceError>> {
    let mut last_error = None;
    let mut now = work.arrived;
    loop {
        let Some(chosen) = work.route.next(now) else { return last_error.map(Err) };
        if last_error.is_some() {
            count(&work.attempts.failovers);
        }
        let mut lost = pin!(chosen.endpoint.lost());
        let mut tried = Some(work.begin(chosen, None, None, now));
        let deadline = tokio::time::sleep_until(work.request.deadline.at().into());
        let result = tokio::select! {
            biased;
            result = answer(&mut tried, lost.as_mut()) => result,
            () = deadline => return Some(Err(broken_off(&deadline_exceeded(), step))),
        };
        now = clock::now();
        let tried = tried.take().expect("it has just been asked");
        match work.settle(tried, result, now) {
            Ok(response) => return Some(Ok(response)),
            Err(error) if error.is_unsent() && step.start => {
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
