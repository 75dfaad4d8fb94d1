//! Keys of kept answers, oldest first.

use std::collections::VecDeque;

use crate::cache::Key;

/// A queue of keys, and how much room their answers take.
///
/// What leaves the cache by another way than the queue's head stays in it as a place that means
/// nothing any more: nobody has to look for it, and it is passed over at the head.
#[derive(Default)]
pub(super) struct Queue {
    places: VecDeque<Place>,
    /// Of these places, those that mean something, and the bytes of their answers.
    live: usize,
    bytes: u64,
}

/// A key's turn in a queue. An entry knows the number of its place: another number means nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) number: u64,
}

impl Queue {
    pub(super) fn push(&mut self, place: Place, weight: u64) {
        self.places.push_back(place);
        self.live += 1;
        self.bytes += weight;
    }

    /// The number of the oldest place that `is_live`.
    pub(super) fn oldest(&mut self, is_live: impl Fn(Place) -> bool) -> Option<u64> {
        while let Some(place) = self.places.front() {
            if is_live(*place) {
                return Some(place.number);
            }
            self.places.pop_front();
        }
        None
    }

    /// Takes the place at the head, of an answer of so many bytes; [`Queue::oldest`] has found it.
    pub(super) fn pop(&mut self, weight: impl FnOnce(Place) -> u64) -> Option<Place> {
        let place = self.places.pop_front()?;
        self.left(weight(place));
        Some(place)
    }

    /// An answer of so many bytes left, wherever its place is.
    pub(super) fn left(&mut self, weight: u64) {
        self.live -= 1;
        self.bytes -= weight;
    }

    /// Lets go of places that mean nothing, once they are most of the queue.
    pub(super) fn tidy(&mut self, is_live: impl Fn(Place) -> bool) {
        const FEW: usize = 64;
        if self.places.len() > 2 * self.live + FEW {
            self.places.retain(|place| is_live(*place));
        }
    }

    /// How many answers it has.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many places it has, those included that mean nothing.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }
}
