//! Counts the most frequent keys of a stream in a fixed number of places.
//!
//! A key without a place takes that of the least frequent one and goes on from its count, which is
//! the most that the newcomer can have been seen without having had a place. So every count is at
//! least the truth, and too high by no more than what it began with, which is remembered. Of T
//! keys counted in k places, each that came more than T / k times has one.

/// Keys and their counts; halving them all makes the past count less.
#[derive(Debug)]
pub(super) struct SpaceSaving {
    keys: Vec<u64>,
    counts: Vec<Count>,
    total: u64,
    /// No count is below it.
    floor: u64,
    /// Where the search for the least frequent key goes on.
    hand: usize,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    /// At least how often the key came, by [`SpaceSaving::ONE`].
    upper: u64,
    /// How much of that may be another key's.
    error: u64,
}

impl Default for SpaceSaving {
    fn default() -> Self {
        Self {
            keys: Vec::with_capacity(Self::PLACES),
            counts: Vec::with_capacity(Self::PLACES),
            total: 0,
            floor: 0,
            hand: 0,
        }
    }
}

impl SpaceSaving {
    /// Enough to be sure of each key above a share of 1 / 128, which for 30 workers is a hot one.
    pub(super) const PLACES: usize = 128;

    /// What a key counts when it comes; a fraction of it is left after some halvings.
    pub(super) const ONE: u64 = 16;

    /// Counts `key` once.
    pub(super) fn count(&mut self, key: u64) {
        self.total += Self::ONE;
        if let Some(place) = self.place(key) {
            self.counts[place].upper += Self::ONE;
        } else if self.keys.len() < Self::PLACES {
            // Nobody has a lower count than a newcomer; after a halving there may be room again.
            self.floor = 0;
            self.keys.push(key);
            self.counts.push(Count { upper: Self::ONE, error: 0 });
        } else {
            let place = self.least();
            let error = self.counts[place].upper;
            self.keys[place] = key;
            self.counts[place] = Count { upper: error + Self::ONE, error };
        }
    }

    /// The place of one of the least frequent keys. Of keys that come once each next place is one.
    fn least(&mut self) -> usize {
        for _ in 0..Self::PLACES {
            self.hand = (self.hand + 1) % Self::PLACES;
            if self.counts[self.hand].upper <= self.floor {
                return self.hand;
            }
        }
        let least = (0..Self::PLACES).min_by_key(|&place| self.counts[place].upper);
        self.hand = least.expect("there are places");
        self.floor = self.counts[self.hand].upper;
        self.hand
    }

    /// Halves all counts so many times; keys of which nothing is left lose their places.
    pub(super) fn halve(&mut self, times: u32) {
        let halve = |count: u64| count.checked_shr(times).unwrap_or(0);
        self.total = halve(self.total);
        self.floor = halve(self.floor);
        for place in (0..self.keys.len()).rev() {
            let Count { upper, error } = self.counts[place];
            let halved = Count {
                upper: halve(upper),
                // Rounded up, as what is certain must not become more.
                error: halve(error) + u64::from(halve(error) << times.min(63) != error),
            };
            if halved.upper == 0 {
                self.keys.swap_remove(place);
                self.counts.swap_remove(place);
            } else {
                self.counts[place] = halved;
            }
        }
    }

    /// All that was counted, as far as it has not been halved away.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The keys that have places.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys.iter().copied()
    }

    /// What `key` has certainly been counted.
    pub(super) fn at_least(&self, key: u64) -> u64 {
        self.place(key).map_or(0, |place| {
            let Count { upper, error } = self.counts[place];
            upper.saturating_sub(error)
        })
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|&known| known == key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Count(u64),
        Halve(u32),
    }

    /// Keys of which the low ones come far more often: 0 is the most frequent.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = (0.0..1.0_f64).prop_map(|u| Step::Count((1000.0 * u * u * u) as u64));
        let step = prop_oneof![400 => key, 1 => (0..70_u32).prop_map(Step::Halve)];
        prop::collection::vec(step, 0..4000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The model has a place for every key.
        #[test]
        fn what_is_certain_is_true_and_nothing_frequent_is_missed(steps in steps()) {
            let mut sketch = SpaceSaving::default();
            let mut exact = HashMap::<u64, u64>::new();
            for step in steps {
                match step {
                    Step::Count(key) => {
                        sketch.count(key);
                        *exact.entry(key).or_default() += SpaceSaving::ONE;
                    }
                    Step::Halve(times) => {
                        sketch.halve(times);
                        exact.values_mut().for_each(|count| *count = count.checked_shr(times).unwrap_or(0));
                    }
                }
                prop_assert!(sketch.keys.len() <= SpaceSaving::PLACES);
            }
            let kept = sketch.counts.iter().map(|count| count.upper).sum::<u64>();
            prop_assert!(kept <= sketch.total, "{} counted, {} kept", sketch.total, kept);
            for (key, true_count) in exact {
                let certain = sketch.at_least(key);
                prop_assert!(certain <= true_count, "{key}: {certain} of {true_count}");
                match sketch.place(key) {
                    Some(place) => prop_assert!(sketch.counts[place].upper >= true_count),
                    None => prop_assert!(
                        true_count <= sketch.total / SpaceSaving::PLACES as u64,
                        "{key} came {true_count} of {}", sketch.total
                    ),
                }
            }
        }
    }

    #[test]
    fn a_key_that_came_only_long_ago_loses_its_place() {
        let mut sketch = SpaceSaving::default();
        sketch.count(1);
        sketch.halve(3);
        sketch.count(2);
        sketch.halve(2);
        assert_eq!(sketch.keys().collect::<Vec<_>>(), [2]);
        assert_eq!(sketch.at_least(1), 0);
    }
}
