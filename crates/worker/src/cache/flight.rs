//! One computation that several requests wait for.
//!
//! The requests are equal among themselves: whoever came first is a waiter like all others, and
//! the computation belongs to the batcher. So a client that leaves takes nothing with it but
//! its own wish for the answer.

use std::sync::Arc;

use inferring_types::{ContentDigest, Deadline, ServiceError};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Answer, ResultCache};

type Outcome = Result<Arc<Answer>, ServiceError>;

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
        self.waiters.lock().push(Waiter { deadline, answer });
        Ticket(receiver)
    }

    /// Whether anybody still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiters.lock().iter().any(|waiter| !waiter.answer.is_closed())
    }

    /// Answers everybody.
    pub(super) fn land(&self, outcome: &Outcome) {
        for waiter in std::mem::take(&mut *self.waiters.lock()) {
            // A waiter that has left does not mind.
            let _ = waiter.answer.send(outcome.clone());
        }
    }

    /// The latest deadline of those who still wait.
    fn deadline(&self) -> Option<Deadline> {
        let waiters = self.waiters.lock();
        waiters.iter().filter(|w| !w.answer.is_closed()).map(|w| w.deadline).max()
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
    key: ContentDigest,
    flight: Option<Arc<Flight>>,
}

impl Leader {
    pub(super) fn new(cache: Arc<ResultCache>, key: ContentDigest, flight: Arc<Flight>) -> Self {
        Self { cache, key, flight: Some(flight) }
    }

    /// Ends the flight. An answer is kept, an error is not.
    pub(crate) fn complete(mut self, outcome: Result<Arc<Answer>, ServiceError>) {
        if let Some(flight) = self.flight.take() {
            self.cache.land(&self.key, &flight, &outcome);
        }
    }

    /// The leader back, or `None` if nobody waits any more: then the flight has ended.
    pub(crate) fn unless_unwanted(mut self) -> Option<Self> {
        let flight = self.flight.take()?;
        if self.cache.end_if_unwanted(&self.key, &flight) {
            return None;
        }
        self.flight = Some(flight);
        Some(self)
    }

    /// The latest deadline of those who wait; `None` if nobody does.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.flight.as_ref().and_then(|flight| flight.deadline())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            let error = ServiceError::unavailable("the worker gave up the computation");
            self.cache.land(&self.key, &flight, &Err(error));
        }
    }
}
