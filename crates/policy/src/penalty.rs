//! How long a worker that did badly is left alone: twice as long each time, and less again once
//! it has done well for a while.
//!
//! A fixed time is wrong at both ends. A worker that stumbled once should be back soon; one that
//! fails whenever it is given another chance costs a few requests each time, and so the chances
//! must become rare. And several gateways that saw the same worker fail must not all come back
//! to it in one moment: each adds up to a fifth, drawn from its own seed.

use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How penalties grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PenaltyConfig {
    /// The first one.
    pub first: Duration,
    /// What doubling ends at; `first` where that is longer.
    pub max: Duration,
}

impl Default for PenaltyConfig {
    fn default() -> Self {
        Self { first: Duration::from_secs(30), max: Duration::from_secs(300) }
    }
}

/// The penalties of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Penalty {
    config: PenaltyConfig,
    seed: u64,
    /// How often the first penalty would be doubled if the next one came now and nothing of the
    /// past were forgiven.
    level: u32,
    good_since: Option<Instant>,
    drawn: u64,
}

impl Penalty {
    /// A worker without a past. Equal seeds draw equal penalties.
    pub(crate) fn new(config: PenaltyConfig, seed: u64) -> Self {
        Self { config, seed, level: 0, good_since: None, drawn: 0 }
    }

    /// How often the first penalty would be doubled if the next one came at `now`.
    ///
    /// Each stretch of good conduct as long as two first penalties takes back one doubling.
    pub(crate) fn level(&self, now: Instant) -> u32 {
        let good =
            self.good_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let stretch = self.config.first.saturating_mul(2);
        let forgiven = good.as_nanos().checked_div(stretch.as_nanos()).unwrap_or(u128::MAX);
        self.level.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    /// The penalty that begins at `now`: between what its level says and a fifth more.
    pub(crate) fn impose(&mut self, now: Instant) -> Duration {
        let level = self.level(now);
        let factor = 1_u32.checked_shl(level).unwrap_or(u32::MAX);
        let max = self.config.max.max(self.config.first);
        let time = self.config.first.saturating_mul(factor).min(max);
        self.level = level.saturating_add(1);
        self.good_since = None;
        time.saturating_add((time / 5).mul_f64(self.draw()))
    }

    /// From `now` on the worker does well, until the next penalty.
    pub(crate) fn good_from(&mut self, now: Instant) {
        self.good_since = Some(now);
    }

    /// 0 or more, less than 1.
    fn draw(&mut self) -> f64 {
        self.drawn += 1;
        let bits = xxh3_64_with_seed(&self.drawn.to_le_bytes(), self.seed) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn assert_about(penalty: Duration, seconds: u32) {
        let least = SECOND * seconds;
        assert!((least..=least + least / 5).contains(&penalty), "{penalty:?} for {seconds} s");
    }

    #[test]
    fn penalties_double_up_to_their_bound() {
        let now = clock::start();
        let mut penalty = Penalty::new(PenaltyConfig::default(), 7);
        for seconds in [30, 60, 120, 240, 300, 300, 300] {
            assert_about(penalty.impose(now), seconds);
        }
        for _ in 0..100 {
            assert_about(penalty.impose(now), 300);
        }
    }

    #[test]
    fn a_minute_of_good_conduct_takes_back_one_doubling() {
        let start = clock::start();
        for (good, then) in
            [(0, 240), (59, 240), (60, 120), (119, 120), (120, 60), (180, 30), (9999, 30)]
        {
            let mut penalty = Penalty::new(PenaltyConfig::default(), good);
            for _ in 0..3 {
                penalty.impose(start);
            }
            penalty.good_from(start);
            assert_about(penalty.impose(start + SECOND * good as u32), then);
        }
    }

    #[test]
    fn seeds_draw_apart_and_equal_seeds_alike() {
        let now = clock::start();
        let first = |seed| Penalty::new(PenaltyConfig::default(), seed).impose(now);
        assert_eq!(first(1), first(1));
        let mut drawn: Vec<_> = (0..1000).map(first).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
        assert!(
            drawn[100] < SECOND * 31 && drawn[900] > SECOND * 35,
            "spread over the whole fifth"
        );
    }

    #[test]
    fn no_time_is_too_short_or_too_long() {
        let now = clock::start();
        for first in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut penalty = Penalty::new(PenaltyConfig { first, max: Duration::ZERO }, 1);
            for _ in 0..40 {
                assert!(penalty.impose(now) >= first);
            }
            penalty.good_from(now);
            assert!(penalty.level(now + SECOND) <= 40);
        }
    }
}
