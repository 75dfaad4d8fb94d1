//! Gives a worker that has just begun a growing part of its work instead of all at once.
//!
//! It knows no answers yet, so that all it is asked has to be computed; its memory is not paged
//! in, its engine has not seen the shapes that come. On the ring it has its full share of the
//! keys from the first moment on, and without this all of them would come in the same second.
//!
//! What grows is a factor, from a floor to 1. By it the worker's weight counts for its bound on
//! requests in flight; and of its keys that part is its own, each by a threshold that is made of
//! the key. So a key moves to the newcomer once, at its time, and stays; and gateways that saw the
//! worker come agree on which keys have moved. The others stay where they were before, at the next
//! worker in their order, which knows their answers.
//!
//! A newcomer that has nothing to do takes any of its keys: slow start is for a worker that could
//! not cope, and one that is idle can. So nothing changes in a fleet without load.
//!
//! The ring itself does not move: where its points would grow with the factor, each gateway would
//! rebuild it again and again, at moments of its own.

use std::time::Duration;

use inferring_types::RoutingKey;

use crate::mix::mix;

/// How a worker's part grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// The time after which it has all of it; zero for at once.
    pub window: Duration,
    /// The part that it has at the beginning: above 0, at most 1.
    pub floor: f64,
}

impl Default for SlowStart {
    /// A tenth at first, all after 30 seconds.
    ///
    /// The time is that of filling a cache with what is asked for most often: a key that comes
    /// once in ten seconds has come by then. A floor of less than a tenth would teach the worker
    /// so little that the window's first seconds were lost.
    fn default() -> Self {
        Self { window: Duration::from_secs(30), floor: 0.1 }
    }
}

impl SlowStart {
    /// The part of its work that a worker of this age gets, between the floor and 1.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let floor = self.floor.clamp(f64::MIN_POSITIVE, 1.0);
        floor + (1.0 - floor) * age.as_secs_f64() / self.window.as_secs_f64()
    }
}

/// Whether `key` is among the part of a newcomer's keys that is its own already. What was at a
/// smaller factor still is at a larger one.
pub fn has_moved(key: RoutingKey, factor: f64) -> bool {
    // Mixed anew: the keys of one worker lie together on the ring, between its points and the
    // ones before them.
    let threshold = (mix(key.0) >> 11) as f64 / (1_u64 << 53) as f64;
    threshold < factor
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_part_grows_evenly_from_the_floor_to_all() {
        let slow = SlowStart { window: 30 * SECOND, floor: 0.1 };
        for (seconds, expected) in [(0, 0.1), (10, 0.4), (20, 0.7), (30, 1.0), (3000, 1.0)] {
            let factor = slow.factor(seconds * SECOND);
            assert!((factor - expected).abs() < 1e-9, "{factor} after {seconds} s");
        }
    }

    #[test]
    fn without_a_window_a_worker_has_all_at_once() {
        let at_once = SlowStart { window: Duration::ZERO, floor: 0.1 };
        assert_eq!(at_once.factor(Duration::ZERO), 1.0);
    }

    #[test]
    fn as_many_keys_have_moved_as_the_factor_says() {
        for factor in [0.1, 0.25, 0.5, 0.9] {
            let moved = (0..20_000).filter(|&key| has_moved(RoutingKey(key << 40), factor)).count();
            let share = moved as f64 / 20_000.0;
            assert!((share - factor).abs() < 0.015, "{share} of the keys at {factor}");
        }
    }

    proptest! {
        #[test]
        fn the_part_is_above_nothing_never_shrinks_and_a_key_moves_once(
            key: u64,
            floor in 0.0..1.5_f64,
            window in 0..100_000_u64,
            mut ages in prop::collection::vec(0..120_000_u64, 1..20),
        ) {
            let slow = SlowStart { window: Duration::from_millis(window), floor };
            ages.sort_unstable();
            let factors = ages.iter().map(|&age| slow.factor(Duration::from_millis(age)));
            let factors = factors.collect::<Vec<_>>();
            prop_assert!(factors.iter().all(|&factor| factor > 0.0 && factor <= 1.0));
            prop_assert!(factors.is_sorted());
            prop_assert!(factors.iter().map(|&f| has_moved(RoutingKey(key), f)).is_sorted());
            prop_assert!(has_moved(RoutingKey(key), 1.0));
        }
    }
}
