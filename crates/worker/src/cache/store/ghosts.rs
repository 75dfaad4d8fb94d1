//! What fell out of the cache lately before it was asked for again.

use std::collections::VecDeque;

use crate::cache::key::{Key, KeyMap};

/// Keys whose answers fell out of the small queue lately, by eight of their bytes: to take one
/// for another costs a place in the wrong queue.
#[derive(Default)]
pub(super) struct Ghosts {
    /// Each key with the number under which it fell out.
    numbers: KeyMap<u64, u64>,
    /// Oldest first. An entry whose number is not the key's any more means nothing: the key has
    /// come back since, and may have fallen out again.
    order: VecDeque<(u64, u64)>,
    next_number: u64,
}

impl Ghosts {
    /// Remembers a key, and of all at most `max`.
    pub(super) fn add(&mut self, key: &Key, max: usize) {
        let key = key.short();
        self.numbers.insert(key, self.next_number);
        self.order.push_back((key, self.next_number));
        self.next_number += 1;
        while self.numbers.len() > max {
            let (oldest, number) = self.order.pop_front().expect("every ghost is in the order");
            if self.numbers.get(&oldest) == Some(&number) {
                self.numbers.remove(&oldest);
            }
        }
        if self.order.len() > 2 * max {
            self.order.retain(|(key, number)| self.numbers.get(key) == Some(number));
        }
    }

    /// Whether a key is remembered; from here on it is not.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        self.numbers.remove(&key.short()).is_some()
    }

    #[cfg(test)]
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.numbers.contains_key(&key.short())
    }

    /// How many are remembered, and how many places that takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.numbers.len(), self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_that_came_back_and_fell_out_again_is_remembered_anew() {
        let key = |number: u64| Key::of(&number.to_le_bytes());
        let mut ghosts = Ghosts::default();
        for number in [1, 2, 3] {
            ghosts.add(&key(number), 3);
        }
        assert!(ghosts.remove(&key(1)));
        for number in [1, 4] {
            ghosts.add(&key(number), 3);
        }
        assert!(!ghosts.remove(&key(2)), "the oldest went first");
        assert!([3, 1, 4].iter().all(|&number| ghosts.remove(&key(number))));
    }
}
