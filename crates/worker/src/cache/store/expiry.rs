//! When answers grow too old.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::cache::Key;

/// Keys in the order in which their answers expire.
///
/// Answers that stay good equally long expire in the order in which they came, and there are as
/// many such times as models with a time of their own: a queue for each is all there is to sort.
#[derive(Default)]
pub(super) struct Expiry {
    queues: HashMap<Duration, VecDeque<Term>>,
    terms: usize,
}

/// The end of an answer. The entry knows it, too: another end means another answer, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) key: Key,
    pub(super) ends: Instant,
}

impl Expiry {
    /// An answer was kept that stays good so long from now on; gives its end.
    pub(super) fn add(
        &mut self,
        key: Key,
        time_to_live: Duration,
        now: Instant,
    ) -> Option<Instant> {
        // What ends beyond the clock does not end.
        let ends = now.checked_add(time_to_live)?;
        self.queues.entry(time_to_live).or_default().push_back(Term { key, ends });
        self.terms += 1;
        Some(ends)
    }

    /// The next end that has passed at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Term> {
        let mut queues = self.queues.values_mut();
        let queue = queues.find(|queue| queue.front().is_some_and(|term| term.ends <= now))?;
        self.terms -= 1;
        queue.pop_front()
    }

    /// Lets go of what means nothing, where that is more than half of it: of `entries` answers,
    /// those end that `is_live` says.
    pub(super) fn tidy(&mut self, entries: usize, is_live: impl Fn(Term) -> bool) {
        const FEW: usize = 64;
        if self.terms > 2 * entries + FEW {
            self.queues.retain(|_, queue| {
                queue.retain(|term| is_live(*term));
                !queue.is_empty()
            });
            self.terms = self.queues.values().map(VecDeque::len).sum();
        }
    }

    /// How many ends are known, those included that mean nothing.
    #[cfg(test)]
    pub(super) fn terms(&self) -> usize {
        self.terms
    }
}
