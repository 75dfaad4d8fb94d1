//! Whether a request is worth receiving whose answer nobody could compute in time.
//!
//! A large body costs a good part of what computing its answer costs: it is received, decoded and
//! hashed. Under overload this is done for requests that are then refused, and the time is missing
//! for those that could have been answered. But a head says nothing about content. The answer may
//! be known already, or be under way for somebody else, and then refusing by the head throws away
//! an answer that would have cost no more than the reading.
//!
//! So the share of large requests of which that was true is kept, for each model. To receive one
//! takes `r`, and to receive and compute one `r + c`. In the time in which one is received for its
//! chance `h` of being known, `r / (r + c)` of another one is answered. It is received where `h` is
//! more than that.
//!
//! The share follows those that are received: all that find room, most of the time plenty. Where
//! none does, a small part is received all the same, so that a share that has grown is noticed.
//! Until something is known everything is received.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use inferring_types::Announced;

/// The weight of one request in the share: it follows about as many of the last.
const WEIGHT: f32 = 1.0 / 32.0;

/// One of so many is received whatever the share.
const TRIED: u32 = 64;

/// What a byte costs that is received, decoded from raw tensors and hashed, in nanoseconds of a
/// core. Measured on the worker at twice and five times its load with bodies of 600 KB; what is in
/// JSON costs more.
const BYTE_NANOSECONDS: f64 = 0.75;

/// Whether inputs of so many bytes may have come in a large body; in JSON they take more room. The
/// small ones are very many, and those who count them would be in each other's way.
pub(crate) fn is_large(bytes: u64) -> bool {
    const JSON_LONGER_MAX: u64 = 16;
    bytes > Announced::LARGE / JSON_LONGER_MAX
}

/// What is known of a model's large requests.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The share whose answers were known, as bits; `None` where no two requests share answers.
    known: Option<AtomicU32>,
}

impl Reading {
    /// Nothing is known yet; `shares_answers` tells whether answers can be known at all.
    pub(crate) fn new(shares_answers: bool) -> Self {
        Self { known: shares_answers.then(|| AtomicU32::new(1_f32.to_bits())) }
    }

    /// Takes note of a large request that was received and looked up.
    pub(crate) fn record(&self, was_known: bool) {
        let Some(known) = &self.known else { return };
        // Of two at once one may be lost: it is a share.
        let share = f32::from_bits(known.load(Ordering::Relaxed));
        let share = share + WEIGHT * (f32::from(u8::from(was_known)) - share);
        known.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Of so many requests the answer has to be computed.
    pub(crate) fn misses(&self) -> f64 {
        1.0 - self.known_share()
    }

    /// Whether it pays to receive a body of `bytes` whose answer cannot be computed, which would
    /// have taken `cost`.
    pub(crate) fn pays(&self, bytes: u64, cost: Duration) -> bool {
        if self.known.is_none() {
            return false;
        }
        let reading = bytes as f64 * BYTE_NANOSECONDS * 1e-9;
        let both = reading + cost.as_secs_f64();
        self.known_share() * both > reading || fastrand::u32(..TRIED) == 0
    }

    fn known_share(&self) -> f64 {
        let share = |known: &AtomicU32| f32::from_bits(known.load(Ordering::Relaxed));
        self.known.as_ref().map_or(0.0, share).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 600_000;
    const COST: Duration = Duration::from_millis(4);

    /// How many of 6,400 are received, and what was recorded leaves as it is.
    fn received(reading: &Reading) -> usize {
        fastrand::seed(7);
        (0..6400).filter(|_| reading.pays(BYTES, COST)).count()
    }

    #[test]
    fn what_is_never_known_is_soon_received_no_more_but_for_a_small_part() {
        let reading = Reading::new(true);
        assert_eq!(received(&reading), 6400, "nothing is known yet");
        (0..200).for_each(|_| reading.record(false));
        assert!((50..200).contains(&received(&reading)), "{}", received(&reading));
        // One that is known now and then is no reason, one of two is.
        (0..200).for_each(|number| reading.record(number % 50 == 0));
        assert!(received(&reading) < 200);
        (0..200).for_each(|number| reading.record(number % 2 == 0));
        assert_eq!(received(&reading), 6400);
        assert!((0.4..0.6).contains(&reading.misses()), "{}", reading.misses());
    }

    #[test]
    fn the_dearer_the_computation_the_smaller_a_chance_is_worth_it() {
        let reading = Reading::new(true);
        (0..2000).for_each(|number| reading.record(number % 8 == 0));
        let pays = |cost| {
            fastrand::seed(7);
            (0..640).filter(|_| reading.pays(BYTES, cost)).count() == 640
        };
        assert!(pays(Duration::from_millis(50)) && !pays(Duration::from_millis(1)));
    }

    #[test]
    fn where_no_answer_is_shared_nothing_is_received_for_it() {
        let reading = Reading::new(false);
        reading.record(true);
        assert_eq!((received(&reading), reading.misses()), (0, 1.0));
    }
}
