//! One computation that several requests wait for.
//!
//! The requests are equal among themselves: whoever came first is a waiter like all others, and
//! the computation belongs to the batcher. So a client that leaves takes nothing with it but
//! its own wish for the answer.

use std::sync::Arc;
use std::time::Instant;

use inferring_types::{ContentDigest, Deadline, ServiceError};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Answer, ResultCache, TenantId};

/// What all who wait for a computation are told.
pub(super) type Outcome = Result<Arc<Answer>, ServiceError>;

/// A computation in progress, and who waits for it.
#[derive(Default)]
pub(super) struct Flight {
    waiters: Mutex<SmallVec<[Waiter; 1]>>,
}

struct Waiter {
    deadline: Deadline,
    answer: oneshot::Sender<Outcome>,
}

impl Flight {
    /// Adds a waiter.
    pub(super) fn join(&self, deadline: Deadline) -> Ticket {
        let (answer, receiver) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        if waiters.len() == waiters.capacity() {
            // Clients that come and go must not grow a flight that takes long to land. Room for
            // as many again keeps this rare.
            waiters.retain(|waiter| !waiter.answer.is_closed());
            let waiting = waiters.len();
            waiters.reserve(waiting);
        }
        waiters.push(Waiter { deadline, answer });
        Ticket(receiver)
    }

    /// Whether anybody still waits whose deadline has not passed at `now`.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        let waiters = self.waiters.lock();
        waiters.iter().any(|w| !w.answer.is_closed() && !w.deadline.has_passed(now))
    }

    /// Answers everybody.
    pub(super) fn land(&self, outcome: Outcome) {
        let mut waiters = std::mem::take(&mut *self.waiters.lock());
        let last = waiters.pop();
        // A waiter that has left does not mind that nobody receives its answer.
        for waiter in waiters {
            let _ = waiter.answer.send(outcome.clone());
        }
        if let Some(waiter) = last {
            let _ = waiter.answer.send(outcome);
        }
    }
}

#[cfg(test)]
impl Flight {
    /// How many waiters it holds, those included that have left.
    pub(super) fn waiters_kept(&self) -> usize {
        self.waiters.lock().len()
    }
}

/// Waits for a flight's answer. Dropping it gives up this one wish.
pub(crate) struct Ticket(oneshot::Receiver<Outcome>);

impl Ticket {
    /// The answer, once it is there.
    ///
    /// # Errors
    /// The computation's error, shared by all who waited for it.
    pub(crate) async fn wait(self) -> Result<Arc<Answer>, ServiceError> {
        self.0.await.expect("a flight lands before it is dropped: see Leader's drop")
    }
}

/// The duty to end a flight: with an answer, an error, or by being dropped.
pub(crate) struct Leader {
    cache: Arc<ResultCache>,
    /// Under which others find the flight; `None` where they may not.
    key: Option<ContentDigest>,
    /// Who keeps the answer; nobody where `None`.
    keeper: Option<TenantId>,
    flight: Option<Arc<Flight>>,
}

impl Leader {
    pub(super) fn new(
        cache: Arc<ResultCache>,
        key: Option<ContentDigest>,
        keeper: Option<TenantId>,
        flight: Arc<Flight>,
    ) -> Self {
        Self { cache, key, keeper, flight: Some(flight) }
    }

    /// Ends the flight. An answer is kept, an error is not.
    pub(crate) fn complete(mut self, outcome: Result<Arc<Answer>, ServiceError>) {
        if let Some(flight) = self.flight.take() {
            self.cache.land(self.key.as_ref(), self.keeper, &flight, outcome);
        }
    }

    /// Whether anybody still waits whose deadline has not passed. If not, the flight ends here,
    /// and who still waits is told so.
    pub(crate) fn is_wanted_or_ends(&mut self, now: Instant) -> bool {
        let Some(flight) = self.flight.take() else {
            return false;
        };
        let wanted =
            flight.is_wanted(now) || !self.cache.end_unless_wanted(self.key.as_ref(), &flight, now);
        if wanted {
            self.flight = Some(flight);
        }
        wanted
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            let error = ServiceError::unavailable("the worker gave up the computation");
            self.cache.land(self.key.as_ref(), None, &flight, Err(error));
        }
    }
}
