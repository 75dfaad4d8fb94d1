//! Finds the keys that are asked for so often that one worker is too few for them.
//!
//! A key with a share s of all requests puts s / r + (1 - s) / N of them on the fullest of its r
//! workers, of N that there are. The bound of a worker is c / N. So the key needs
//!
//! ```text
//! r >= s * N / (c - 1 + s)
//! ```
//!
//! workers for the bound not to be reached by its requests alone, and gets one, two or four. What
//! is too much for four goes to whoever has least to do. A key that has got several keeps them until half its share
//! would be too little for them, so that it does not come and go.
//!
//! Keys are counted by a space-saving sketch (Metwally, Agrawal, El Abbadi, 2005), of one in eight
//! requests, drawn at random; the counts are halved again and again. What a request costs is
//! mostly a look at the list of hot keys, which is empty as a rule, without any lock. The lock of
//! the sketch is never waited for: whoever finds it taken is not counted, whichever key it is.

mod space_saving;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inferring_types::RoutingKey;
use parking_lot::Mutex;

use crate::bounded_load::{LoadFactor, REPLICAS_MAX, Spread};
use crate::mix::mix;
use space_saving::SpaceSaving;

/// When a key is hot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HotKeysConfig {
    /// The time in which past requests lose half of their weight.
    pub half_life: Duration,
    /// The most workers for one key; 1 finds no hot keys.
    pub replicas_max: usize,
    /// How far above its share a worker may be.
    pub factor: LoadFactor,
}

impl Default for HotKeysConfig {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(2),
            replicas_max: REPLICAS_MAX,
            factor: LoadFactor::DEFAULT,
        }
    }
}

/// The keys that are hot now.
#[derive(Debug)]
pub struct HotKeys {
    config: HotKeysConfig,
    turns: AtomicU64,
    published: Published,
    census: Mutex<Census>,
}

impl HotKeys {
    /// One request in so many is counted.
    const SAMPLED: u64 = 8;

    /// No key is hot.
    pub fn new(config: HotKeysConfig) -> Self {
        Self {
            config,
            turns: AtomicU64::new(0),
            published: Published::default(),
            census: Mutex::default(),
        }
    }

    /// Counts a request for `key`, which `workers` could answer, and tells over how many of them
    /// to spread it.
    pub fn spread(&self, key: RoutingKey, workers: usize, now: Instant) -> Spread {
        if self.config.replicas_max <= 1 || workers <= 1 {
            return Spread::NONE;
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        // Drawn at random, not each eighth: clients that take turns would have theirs counted
        // always or never.
        if mix(turn).is_multiple_of(Self::SAMPLED)
            && let Some(mut census) = self.census.try_lock()
        {
            census.count(key, workers, now, &self.config, &self.published);
        }
        let needed = self.published.replicas(key);
        let replicas = needed.min(self.config.replicas_max).min(REPLICAS_MAX);
        Spread { replicas, exceeds: needed > replicas, turn }
    }

    /// How many keys are spread over several workers.
    pub fn len(&self) -> usize {
        self.published.len.load(Ordering::Relaxed)
    }

    /// Whether each key is at one worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// More workers than any key is said to have.
const MANY: usize = 2 * REPLICAS_MAX;

/// The workers that a key with this share of the requests needs, of so many: 1, 2, 4 or [`MANY`].
fn replicas_for(share: f64, workers: usize, factor: LoadFactor) -> usize {
    let needed = share * workers as f64 / (factor.get() - 1.0 + share);
    match needed {
        // Where c is 1 and the share nothing: no number.
        needed if needed.is_nan() || needed <= 1.0 => 1,
        needed if needed <= 2.0 => 2,
        needed if needed <= 4.0 => 4,
        _ => MANY,
    }
}

/// The list that requests look at. While it is being written a reader may miss a key or find one
/// that has cooled: a request then goes to another one of the key's workers, and no more.
#[derive(Debug, Default)]
struct Published {
    len: AtomicUsize,
    /// The upper 62 bits of the key, and the power of two of its replicas.
    keys: [AtomicU64; Published::MAX],
}

impl Published {
    /// With a share that needs two of N workers there are 4 N keys at most, and they could not be
    /// said to be few and hot.
    const MAX: usize = 32;

    const REPLICAS: u64 = 0b11;

    fn replicas(&self, key: RoutingKey) -> usize {
        let len = self.len.load(Ordering::Acquire);
        let keys = self.keys[..len].iter().map(|slot| slot.load(Ordering::Relaxed));
        let found = keys.into_iter().find(|slot| slot & !Self::REPLICAS == key.0 & !Self::REPLICAS);
        found.map_or(1, |slot| 1 << (slot & Self::REPLICAS))
    }

    fn publish(&self, hot: &[(u64, usize)]) {
        let len = hot.len().min(Self::MAX);
        for (slot, &(key, replicas)) in self.keys.iter().zip(hot) {
            let power = u64::from(replicas.trailing_zeros());
            slot.store(key & !Self::REPLICAS | power, Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Release);
    }
}

/// Who was asked for how often of late.
#[derive(Debug, Default)]
struct Census {
    counts: SpaceSaving,
    halved: Option<Instant>,
    /// Keys with more than one replica, and how many.
    hot: Vec<(u64, usize)>,
}

impl Census {
    fn count(
        &mut self,
        key: RoutingKey,
        workers: usize,
        now: Instant,
        config: &HotKeysConfig,
        published: &Published,
    ) {
        let has_aged = self.age(now, config.half_life);
        self.counts.count(key.0);
        let known = self.replicas(key.0);
        if has_aged || replicas_for(self.certain_share(key.0), workers, config.factor) > known {
            self.judge(workers, config.factor);
            published.publish(&self.hot);
        }
    }

    /// Halves the counts as often as the time that has passed asks for; whether it did.
    fn age(&mut self, now: Instant, half_life: Duration) -> bool {
        let halved = *self.halved.get_or_insert(now);
        let lives = now.saturating_duration_since(halved).as_nanos() / half_life.as_nanos().max(1);
        if lives == 0 {
            return false;
        }
        let times = u32::try_from(lives).unwrap_or(u32::MAX);
        self.counts.halve(times);
        self.halved = Some(now);
        true
    }

    fn judge(&mut self, workers: usize, factor: LoadFactor) {
        let mut hot = Vec::new();
        for key in self.counts.keys() {
            let share = self.share(key);
            let wanted = replicas_for(self.certain_share(key), workers, factor);
            let kept = replicas_for(2.0 * share, workers, factor).min(self.replicas(key));
            let replicas = wanted.max(kept);
            if replicas > 1 {
                hot.push((key, replicas, share));
            }
        }
        hot.sort_by(|a, b| b.2.total_cmp(&a.2));
        hot.truncate(Published::MAX);
        self.hot = hot.into_iter().map(|(key, replicas, _)| (key, replicas)).collect();
    }

    /// The key's share of what was counted.
    fn share(&self, key: u64) -> f64 {
        match self.counts.total() {
            0 => 0.0,
            total => self.counts.at_least(key) as f64 / total as f64,
        }
    }

    /// The share that the key has all but certainly. That three of ten requests are equal says
    /// little: of n that were counted, chance may have added twice the root of n.
    fn certain_share(&self, key: u64) -> f64 {
        let counted = self.counts.at_least(key) as f64 / SpaceSaving::ONE as f64;
        let certain = (counted - 2.0 * counted.sqrt()).max(0.0);
        certain / (self.counts.total() as f64 / SpaceSaving::ONE as f64).max(1.0)
    }

    fn replicas(&self, key: u64) -> usize {
        self.hot.iter().find(|hot| hot.0 == key).map_or(1, |hot| hot.1)
    }
}

#[cfg(test)]
mod tests;
