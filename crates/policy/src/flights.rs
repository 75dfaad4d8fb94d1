//! Sends equal requests after each other to one worker, for as long as none of them is answered.
//!
//! A worker computes what is asked of it at once by many only once: all but the first wait for the
//! first one's run. To count each of them against the worker's bound on load (`bounded_load`)
//! would send most of them on to others, which would compute the same again, for the sake of
//! requests that cost nothing but their wait. So a **flight** is kept for each key that is under
//! way: the worker that the first request of it was given to. Who comes while it is unanswered
//! goes along, and is not counted.
//!
//! With the first answer that is over. From then on a request of that key is work like any other,
//! a look into the worker's memory at least, and goes by bounds and replicas; for a key of nine
//! tenths of the traffic must not be at one worker just because some request of it always is under
//! way. So a key counts as **answered** for a second after each of its answers, and makes no
//! flights then.
//!
//! A flight also ends with the first error, as whoever shares a run shares its error; and when
//! nobody is aboard any more. That the one who began it has left ends nothing.
//!
//! Keys are those of routing, 64 bits of content. Two contents of one key share a worker for a
//! moment, and nothing else: who gets which answer is not decided here.

mod answered;
mod table;

use std::time::Instant;

use inferring_types::RoutingKey;

use answered::Answered;
use table::Table;
pub use table::{Seat, Turn};

/// The keys that are under way, and those that were answered of late.
#[derive(Debug)]
pub struct Flights {
    under_way: Table,
    answered: Answered,
}

impl Flights {
    /// Requests of different keys seldom meet at one of so many locks.
    const SHARDS: usize = 64;

    /// Nothing is under way. Times before `now` are taken for it.
    pub fn new(now: Instant) -> Self {
        Self { under_way: Table::new(Self::SHARDS), answered: Answered::new(now) }
    }

    /// The turn of a request that is asked of a worker for the first time; `None` where its key was
    /// answered of late, so that it is work like any other.
    pub fn first_turn(&self, key: RoutingKey, now: Instant) -> Option<Turn<'_>> {
        (!self.answered.is_recent(key.0, now)).then(|| self.under_way.turn(key.0))
    }

    /// The turn of a request that a worker has failed: others may know the answer or not, and of
    /// all that it has failed one is enough to find out.
    pub fn another_turn(&self, key: RoutingKey) -> Turn<'_> {
        self.under_way.turn(key.0)
    }

    /// Takes note of an answer.
    pub fn answered(&self, key: RoutingKey, now: Instant) {
        self.answered.note(key.0, now);
    }

    /// How many keys are under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no key is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
