//! How much more time a request must have than it is reckoned to need, if it is to be received.
//!
//! An estimate that is right on the whole is wrong for half of those at its edge, and under overload
//! they are all at its edge: the queue is as long as deadlines allow. Who is let in and comes too late
//! after all was received for nothing. What was reckoned is therefore multiplied by a factor that
//! follows what becomes of those who were let in: it grows with each that is late and falls with
//! each that is not, by steps so unequal that in the long run a small part is late. It is never less
//! than one: where there is capacity to spare nobody is late, and nobody is turned away for it.

/// The factor.
#[derive(Debug, Clone, Copy)]
pub struct Caution(f64);

impl Caution {
    /// The part of those let in that may be late. Fewer would be had by a queue so short that it
    /// runs empty when several are late on their way.
    const LATE: f64 = 1.0 / 32.0;
    /// How far one that is late moves the factor.
    const STEP: f64 = 0.04;
    /// The most. A model whose estimates are worse than that is better found out by trying.
    const MOST: f64 = 3.0;

    /// What was reckoned is believed.
    #[must_use]
    pub fn new() -> Self {
        Self(1.0)
    }

    /// By which what is reckoned is multiplied.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.0
    }

    /// One who was let in was in time, or was late.
    pub fn record(&mut self, was_late: bool) {
        let step = if was_late { 1.0 - Self::LATE } else { -Self::LATE };
        self.0 = (self.0 + Self::STEP * step).clamp(1.0, Self::MOST);
    }
}

impl Default for Caution {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
impl Caution {
    pub(crate) fn of(factor: f64) -> Self {
        Self(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is reckoned is 0.7 to 1.5 of what it takes, and everybody has twice as much time as the
    /// first is reckoned to need: so all those are let in at the edge who are let in at all.
    #[test]
    fn a_small_part_of_those_let_in_is_late_however_wrong_the_estimate() {
        let mut random = fastrand::Rng::with_seed(7);
        for bias in [0.7, 1.0, 1.5] {
            let mut caution = Caution::new();
            let mut late = 0;
            for number in 0..20_000 {
                // A queue as long as the time that there is by the estimate.
                let reckoned = 1.0 / caution.factor();
                let taken = reckoned * bias * (0.8 + 0.4 * random.f64());
                caution.record(taken > 1.0);
                late += u32::from(number >= 10_000 && taken > 1.0);
            }
            let expected = if bias < 0.8 { 0..1 } else { 200..450 };
            assert!(expected.contains(&late), "{late} of 10000 with {bias}");
        }
    }

    #[test]
    fn it_is_bounded_and_forgets() {
        let mut caution = Caution::new();
        (0..1000).for_each(|_| caution.record(true));
        assert_eq!(caution.factor(), Caution::MOST);
        (0..2000).for_each(|_| caution.record(false));
        assert_eq!(caution.factor(), 1.0);
    }
}
