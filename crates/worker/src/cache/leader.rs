//! Who leads a computation, and who waits for it.

use std::sync::Arc;
use std::time::Instant;

use inferring_types::{Deadline, ErrorKind, ServiceError};
use smallvec::SmallVec;

use super::flight::{Flight, Seat};
use super::store::Keeper;
use super::{Answer, Key, OutputAxes, ResultCache};
use crate::party::Party;

/// What all who wait for a computation are told.
pub(crate) type Outcome = Result<Landed, Failure>;

/// An answer, to as many keys as it was computed for.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub(crate) answer: Arc<Answer>,
    /// Each key's part of it is one row where there are several.
    pub(crate) parts: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: ServiceError,
    /// How many keys it was to be computed for.
    parts: usize,
}

impl Failure {
    /// Whether the failure may be none of somebody who asked for so many of the parts: it came
    /// about on the way and not by the model, or by rows that others asked for.
    pub(crate) fn is_of_others(&self, asked: usize) -> bool {
        match self.error.kind() {
            ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => true,
            _ => asked < self.parts,
        }
    }
}

/// A computation of answers.
pub(super) type AnswerFlight = Flight<Outcome>;

/// Waits for the answer of a computation.
pub(crate) type Ticket = Seat<Outcome>;

impl Ticket {
    /// The answer to all of what is computed, once it is there.
    pub(crate) async fn wait(self) -> Result<Arc<Answer>, ServiceError> {
        match self.await {
            Ok(landed) => Ok(landed.answer),
            Err(failure) => Err(failure.error),
        }
    }
}

/// Under which others find a computation: a key for each of its rows, or one for all of it.
pub(super) type Keys = SmallVec<[Key; 1]>;

/// The duty to end a flight: with an answer, an error, or by being dropped.
pub(crate) struct Leader {
    cache: Arc<ResultCache>,
    pub(super) keys: Keys,
    /// Where there is a key for each row.
    pub(super) axes: Option<Arc<OutputAxes>>,
    /// Who keeps the answer; nobody where `None`.
    keeper: Option<Keeper>,
    flight: Option<Arc<AnswerFlight>>,
}

impl Leader {
    pub(super) fn new(
        cache: Arc<ResultCache>,
        keeper: Option<Keeper>,
        flight: Arc<AnswerFlight>,
    ) -> Self {
        Self { cache, keys: Keys::new(), axes: None, keeper, flight: Some(flight) }
    }

    /// Ends the flight. An answer is kept, an error is not.
    pub(crate) fn complete(mut self, outcome: Result<Arc<Answer>, ServiceError>) {
        if let Some(flight) = self.flight.take() {
            self.land(&flight, outcome);
        }
    }

    /// From here on it is computed in the run of this party, and no longer in another: when the
    /// last one who waits has left, so does this member.
    pub(crate) fn attach(&self, party: Arc<Party>) {
        if let Some(flight) = &self.flight {
            flight.attach(party);
        }
    }

    /// The latest deadline of those who still wait; `None` where nobody does.
    pub(crate) fn wanted_until(&self) -> Option<Deadline> {
        self.flight.as_ref()?.wanted_until()
    }

    /// Whether anybody still waits whose deadline has not passed. If not, the flight ends here,
    /// and who still waits is told so.
    pub(crate) fn is_wanted_or_ends(&mut self, now: Instant) -> bool {
        let Some(flight) = &self.flight else {
            return false;
        };
        if flight.is_wanted(now) || !self.cache.withdraw_unless_wanted(&self.keys, flight, now) {
            return true;
        }
        if let Some(flight) = self.flight.take() {
            let error = ServiceError::deadline_exceeded(
                "the deadline passed while the request waited for an instance",
            );
            flight.land(self.outcome(Err(error)));
        }
        false
    }

    fn land(&self, flight: &Arc<AnswerFlight>, answer: Result<Arc<Answer>, ServiceError>) {
        let kept = match (&answer, self.keeper) {
            (Ok(answer), Some(keeper)) => self.parts(answer).map(|parts| (keeper, parts)),
            _ => None,
        };
        self.cache.withdraw(&self.keys, flight, kept);
        flight.land(self.outcome(answer));
    }

    fn outcome(&self, answer: Result<Arc<Answer>, ServiceError>) -> Outcome {
        let parts = self.keys.len().max(1);
        match answer {
            Ok(answer) => Ok(Landed { answer, parts }),
            Err(error) => Err(Failure { error, parts }),
        }
    }

    /// What is kept of an answer: one for each key. `None` where the answer does not come apart.
    fn parts(&self, answer: &Arc<Answer>) -> Option<Vec<Arc<Answer>>> {
        match (&self.keys[..], &self.axes) {
            ([_], _) => Some(vec![answer.clone()]),
            (keys, Some(axes)) => answer.rows(axes, keys.len()),
            (_, None) => None,
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            let error = ServiceError::unavailable("the worker gave up the computation");
            self.land(&flight, Err(error));
        }
    }
}
