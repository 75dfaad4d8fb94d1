//! One computation that several requests wait for.
//!
//! The requests are equal among themselves: whoever came first is a waiter like all others, and
//! the computation belongs to the batcher. So a client that leaves takes nothing with it but
//! its own wish for the answer; and only when the last one has left is there nobody whom the
//! computation is for.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use inferring_policy::scheduler::JobId;
use inferring_types::Deadline;
use smallvec::SmallVec;

use crate::party::Party;
use crate::sync::{Mutex, MutexGuard};

/// A computation in progress, and who waits for it to be told its outcome `O`.
pub(crate) struct Flight<O> {
    state: Mutex<State<O>>,
}

/// How urgent a computation is to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Urgency {
    /// The priority class; 0 is the most urgent.
    pub(crate) class: usize,
    /// After which the answer is of no use.
    pub(crate) deadline: Deadline,
}

struct State<O> {
    /// To whoever it was most urgent so far.
    urgency: Urgency,
    /// By which it is known in the queue, from a moment after it was queued on.
    job: Option<JobId>,
    /// A place for each who waits, and places that were left and may be taken again: clients
    /// that come and go must not grow a flight that takes long to land.
    seats: SmallVec<[Option<Waiter>; 1]>,
    vacant: Vec<usize>,
    /// The run that this is computed in, from its beginning on.
    party: Option<Arc<Party>>,
    /// Whether the party was told that nobody waits here.
    has_left: bool,
    /// Once it is known.
    outcome: Option<O>,
}

struct Waiter {
    deadline: Deadline,
    /// Whom to wake; `None` before the first look.
    waker: Option<Waker>,
}

impl<O> Flight<O> {
    /// A computation that is so urgent to whoever asks first.
    pub(crate) fn new(urgency: Urgency) -> Self {
        let state = State {
            urgency,
            job: None,
            seats: SmallVec::new(),
            vacant: Vec::new(),
            party: None,
            has_left: false,
            outcome: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// Adds a waiter. `None` where that is too late: all others have left, and the run is being
    /// ended.
    pub(crate) fn join(self: &Arc<Self>, urgency: Urgency) -> Option<Seat<O>> {
        let mut state = self.lock();
        if state.has_left {
            let party = state.party.as_ref().expect("what has left it had joined");
            if !party.rejoin() {
                return None;
            }
            state.has_left = false;
        }
        let is_hurried = state.raise(urgency);
        let hurried = if is_hurried { state.job } else { None };
        let waiter = Some(Waiter { deadline: urgency.deadline, waker: None });
        let place = match state.vacant.pop() {
            Some(place) => {
                state.seats[place] = waiter;
                place
            }
            None => {
                state.seats.push(waiter);
                state.seats.len() - 1
            }
        };
        drop(state);
        Some(Seat { flight: self.clone(), place, hurried, is_over: false })
    }

    /// It waits in the queue under this name. Where it has become more urgent since it was led,
    /// says how urgent.
    pub(crate) fn queued(&self, job: JobId, led: Urgency) -> Option<Urgency> {
        let mut state = self.lock();
        state.job = Some(job);
        (state.urgency != led).then_some(state.urgency)
    }

    /// From here on it is computed in the run of `party`, of which it is a member, and no longer
    /// in another. Where nobody waits any more it leaves at once.
    pub(crate) fn attach(&self, party: Arc<Party>) {
        let mut state = self.lock();
        state.has_left = !state.has_waiters();
        if state.has_left {
            party.leave();
        }
        state.party = Some(party);
    }

    /// Whether anybody still waits whose deadline has not passed at `now`.
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.lock().waiters().any(|waiter| !waiter.deadline.has_passed(now))
    }

    /// The latest deadline of those who still wait; `None` where nobody does.
    pub(crate) fn wanted_until(&self) -> Option<Deadline> {
        self.lock().waiters().map(|waiter| waiter.deadline).max()
    }

    /// Tells everybody.
    pub(crate) fn land(&self, outcome: O) {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        state.party = None;
        state.has_left = false;
        let seats = std::mem::take(&mut state.seats);
        state.vacant = Vec::new();
        drop(state);
        // Whoever is woken may look at once, from another thread.
        for waiter in seats.into_iter().flatten() {
            if let Some(waker) = waiter.waker {
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<O>> {
        // What could panic under the lock leaves the state as it should be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O> State<O> {
    /// Whether it is more urgent than to anybody before.
    fn raise(&mut self, urgency: Urgency) -> bool {
        let before = self.urgency;
        self.urgency.class = before.class.min(urgency.class);
        self.urgency.deadline = before.deadline.min(urgency.deadline);
        self.urgency != before
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.seats.iter().flatten()
    }

    fn has_waiters(&self) -> bool {
        self.seats.len() > self.vacant.len()
    }
}

#[cfg(test)]
impl<O> Flight<O> {
    /// How many places it has, those included that were left.
    pub(crate) fn seats(&self) -> usize {
        self.lock().seats.len()
    }
}

/// Waits for a flight's outcome. Dropping it gives up this one wish.
pub(crate) struct Seat<O> {
    flight: Arc<Flight<O>>,
    place: usize,
    hurried: Option<JobId>,
    /// Whether the outcome was taken.
    is_over: bool,
}

impl<O> Seat<O> {
    /// The job that waits in the queue and is more urgent to this waiter than to those before.
    pub(crate) fn hurried(&self) -> Option<JobId> {
        self.hurried
    }

    /// See [`Flight::queued`].
    pub(crate) fn queued(&self, job: JobId, led: Urgency) -> Option<Urgency> {
        self.flight.queued(job, led)
    }

    /// Whether it waits for this flight.
    pub(crate) fn is_of(&self, flight: &Arc<Flight<O>>) -> bool {
        Arc::ptr_eq(&self.flight, flight)
    }
}

impl<O: Clone> Future for Seat<O> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O> {
        let mut state = self.flight.lock();
        if let Some(outcome) = &state.outcome {
            let outcome = outcome.clone();
            drop(state);
            self.is_over = true;
            return Poll::Ready(outcome);
        }
        let waiter = state.seats[self.place].as_mut().expect("a seat is kept until it is left");
        match &mut waiter.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => waiter.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<O> Drop for Seat<O> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.flight.lock();
        if state.outcome.is_some() {
            return;
        }
        let left = state.seats[self.place].take();
        state.vacant.push(self.place);
        if !state.has_waiters()
            && let Some(party) = &state.party
        {
            // Under the lock, so that whoever joins now knows of it.
            party.leave();
            state.has_left = true;
        }
        drop(state);
        // What a waker does when it is dropped is not known here.
        drop(left);
    }
}
