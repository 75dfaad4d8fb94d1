//! Who leads a computation, and who waits for it.

use std::sync::Arc;
use std::time::Instant;

use inferring_types::{ContentDigest, Deadline, RowAxes, ServiceError};
use smallvec::SmallVec;

use super::flight::{Flight, Seat};
use super::{Answer, ResultCache, TenantId};
use crate::party::Party;

/// What all who wait for a computation are told.
pub(crate) type Outcome = Result<Arc<Answer>, ServiceError>;

/// A computation of answers.
pub(super) type AnswerFlight = Flight<Outcome>;

/// Waits for the answer of a computation.
pub(crate) type Ticket = Seat<Outcome>;

/// Under which others find a computation: a key for each of its rows, or one for all of it.
pub(super) type Keys = SmallVec<[ContentDigest; 1]>;

/// The duty to end a flight: with an answer, an error, or by being dropped.
pub(crate) struct Leader {
    cache: Arc<ResultCache>,
    pub(super) keys: Keys,
    /// Where the rows of outputs lie, where there is a key for each row.
    pub(super) axes: Option<Arc<RowAxes>>,
    /// Who keeps the answer; nobody where `None`.
    keeper: Option<TenantId>,
    flight: Option<Arc<AnswerFlight>>,
}

impl Leader {
    pub(super) fn new(
        cache: Arc<ResultCache>,
        keeper: Option<TenantId>,
        flight: Arc<AnswerFlight>,
    ) -> Self {
        Self { cache, keys: Keys::new(), axes: None, keeper, flight: Some(flight) }
    }

    /// Ends the flight. An answer is kept, an error is not.
    pub(crate) fn complete(mut self, outcome: Outcome) {
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
            flight.land(Err(ServiceError::deadline_exceeded(
                "the deadline passed while the request waited for an instance",
            )));
        }
        false
    }

    fn land(&self, flight: &Arc<AnswerFlight>, outcome: Outcome) {
        let kept = match (&outcome, self.keeper) {
            (Ok(answer), Some(keeper)) => self.parts(answer).map(|parts| (keeper, parts)),
            _ => None,
        };
        self.cache.withdraw(&self.keys, flight, kept);
        flight.land(outcome);
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
