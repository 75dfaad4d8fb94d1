//! How long to wait before another try: a random time, whose bound grows with each try.
//!
//! *Full jitter*: the wait is drawn evenly from zero to the bound, not around it. Requests that
//! failed together, because a worker died, then come to the next one spread over the whole time
//! and not in waves (M. Brooker, "Exponential Backoff And Jitter").

use std::time::Duration;

/// Bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// The bound of no wait exceeds this.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(10), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The wait before the retry after `waits` others; `random` is drawn evenly from 0 to 1.
    pub fn wait(&self, waits: u32, random: f64) -> Duration {
        let bound = self.base.saturating_mul(1_u32.checked_shl(waits).unwrap_or(u32::MAX));
        bound.min(self.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_largest() {
        let backoff = Backoff::default();
        let bounds = [10, 20, 40, 80, 160, 250, 250];
        for (waits, bound) in (0..).zip(bounds) {
            assert_eq!(backoff.wait(waits, 1.0), Duration::from_millis(bound));
            assert_eq!(backoff.wait(waits, 0.5), Duration::from_millis(bound) / 2);
            assert_eq!(backoff.wait(waits, 0.0), Duration::ZERO);
        }
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_largest(
            base in 0..u64::MAX, max in 0..u64::MAX, waits in any::<u32>(), random in any::<f64>(),
        ) {
            prop_assume!(!random.is_nan());
            let max = Duration::from_micros(max);
            let backoff = Backoff { base: Duration::from_micros(base), max };
            // The product is rounded to the nearest nanosecond that a float can tell.
            prop_assert!(backoff.wait(waits, random) <= max.mul_f64(1.000_001));
        }
    }
}
