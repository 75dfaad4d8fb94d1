//! Who is found, how soon, and how soon forgotten.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::clock;

const HOT: RoutingKey = RoutingKey(0xdead_beef_0000_0040);
const WORKERS: usize = 3;

/// Requests at a steady pace: `share` of them for [`HOT`], the rest for keys that come once.
struct Traffic {
    hot_keys: HotKeys,
    random: fastrand::Rng,
    now: Instant,
}

impl Traffic {
    fn new(config: HotKeysConfig) -> Self {
        let random = fastrand::Rng::with_seed(7);
        Self { hot_keys: HotKeys::new(config), random, now: clock::start() }
    }

    /// 1000 requests a second for so long.
    fn pass(&mut self, seconds: u32, share: f64, workers: usize) {
        for _ in 0..1000 * seconds {
            self.now += Duration::from_millis(1);
            let is_hot = self.random.f64() < share;
            let key = if is_hot { HOT } else { RoutingKey(self.random.u64(..)) };
            self.hot_keys.spread(key, workers, self.now);
        }
    }

    fn replicas(&self) -> usize {
        self.hot_keys.published.replicas(HOT)
    }
}

#[test]
fn as_many_workers_as_keep_the_fullest_within_its_bound() {
    for (share, workers, expected) in [
        (0.0, 3, 1),
        (0.12, 3, 1),
        (0.13, 3, 2),
        (0.4, 3, 2),
        (0.6, 3, 4),
        (0.9, 3, 4),
        (0.2, 2, 1),
        (0.3, 2, 2),
        (1.0, 2, 2),
        (0.02, 10, 1),
        (0.05, 10, 2),
        (0.1, 10, 4),
        (0.5, 10, MANY),
        (0.9, 10, MANY),
        (1.0, 1, 1),
    ] {
        let replicas = replicas_for(share, workers, LoadFactor::DEFAULT);
        assert_eq!(replicas, expected, "a share of {share} among {workers}");
    }
    // Bounds that leave no room above the fair share, or all of it.
    assert_eq!(replicas_for(0.01, 3, LoadFactor::new(1.0).unwrap()), 4);
    assert_eq!(replicas_for(0.0, 3, LoadFactor::new(1.0).unwrap()), 1);
    assert_eq!(replicas_for(0.9, 3, LoadFactor::new(1000.0).unwrap()), 1);
}

#[test]
fn a_key_with_most_of_the_traffic_is_found_within_a_second_and_cools() {
    let mut traffic = Traffic::new(HotKeysConfig::default());
    traffic.pass(1, 0.0, WORKERS);
    assert_eq!((traffic.replicas(), traffic.hot_keys.len()), (1, 0));
    traffic.pass(1, 0.9, WORKERS);
    assert_eq!((traffic.replicas(), traffic.hot_keys.len()), (2, 1));
    traffic.pass(2, 0.9, WORKERS);
    assert_eq!((traffic.replicas(), traffic.hot_keys.len()), (4, 1));
    traffic.pass(20, 0.0, WORKERS);
    assert_eq!((traffic.replicas(), traffic.hot_keys.is_empty()), (1, true));
}

#[test]
fn a_key_near_the_threshold_keeps_what_it_has() {
    let mut traffic = Traffic::new(HotKeysConfig::default());
    traffic.pass(10, 0.25, WORKERS);
    assert_eq!(traffic.replicas(), 2);
    // Too little to become hot, and too much to cease to be.
    for _ in 0..30 {
        traffic.pass(1, 0.1, WORKERS);
        assert_eq!(traffic.replicas(), 2);
    }
    traffic.pass(20, 0.03, WORKERS);
    assert_eq!(traffic.replicas(), 1);
}

#[test]
fn even_traffic_has_no_hot_key() {
    let mut traffic = Traffic::new(HotKeysConfig::default());
    for number in 0..50_000 {
        traffic.now += Duration::from_micros(100);
        let spread = traffic.hot_keys.spread(RoutingKey(number % 200 * 4), 10, traffic.now);
        assert_eq!(spread.replicas, 1, "request {number}");
    }
}

#[test]
fn a_few_equal_requests_make_no_hot_key() {
    let traffic = Traffic::new(HotKeysConfig::default());
    for number in 0..40 {
        let spread = traffic.hot_keys.spread(HOT, WORKERS, traffic.now);
        assert_eq!(spread.replicas, 1, "request {number}");
    }
}

#[test]
fn nothing_is_spread_where_it_is_not_wanted_or_there_is_nobody_else() {
    let config = HotKeysConfig { replicas_max: 1, ..HotKeysConfig::default() };
    for (config, workers) in [(config, WORKERS), (HotKeysConfig::default(), 1)] {
        let mut traffic = Traffic::new(config);
        traffic.pass(3, 1.0, workers);
        assert_eq!(traffic.hot_keys.spread(HOT, workers, traffic.now), Spread::NONE);
    }
    let two = HotKeysConfig { replicas_max: 2, ..HotKeysConfig::default() };
    let mut traffic = Traffic::new(two);
    traffic.pass(3, 1.0, WORKERS);
    let Spread { replicas, exceeds, .. } = traffic.hot_keys.spread(HOT, WORKERS, traffic.now);
    assert_eq!((replicas, exceeds), (2, true));
}

#[test]
fn the_list_holds_the_hottest() {
    let published = Published::default();
    let hot = (0..40).map(|number| (number << 8 | 0b11, 2)).collect::<Vec<_>>();
    published.publish(&hot);
    assert_eq!(published.replicas(RoutingKey(31 << 8 | 0b11)), 2);
    assert_eq!(published.replicas(RoutingKey(32 << 8 | 0b11)), 1);
    published.publish(&[(0, 4)]);
    assert_eq!(published.replicas(RoutingKey(0)), 4);
    assert_eq!(published.replicas(RoutingKey(1 << 8)), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model counts every request exactly and draws none: with the sampling's uncertainty,
    /// what is far above the threshold is hot and what is far below is not.
    #[test]
    fn what_is_clearly_hot_is_spread_and_nothing_that_clearly_is_not(
        seed: u64,
        shares in prop::collection::vec(0.0..0.3_f64, 3),
        workers in 2..12_usize,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let hot_keys = HotKeys::new(HotKeysConfig::default());
        let now = clock::start();
        let mut exact = HashMap::<u64, u64>::new();
        const REQUESTS: u64 = 40_000;
        for _ in 0..REQUESTS {
            let mut draw = random.f64();
            let named = shares.iter().position(|&share| { draw -= share; draw < 0.0 });
            let key = named.map_or_else(|| random.u64(..), |key| (key as u64) << 8);
            *exact.entry(key).or_default() += 1;
            hot_keys.spread(RoutingKey(key), workers, now);
        }
        for key in (0..3).map(|key| key << 8) {
            let share = exact.get(&key).copied().unwrap_or(0) as f64 / REQUESTS as f64;
            let replicas = hot_keys.published.replicas(RoutingKey(key));
            let [low, high] = [0.8 * share - 0.02, 1.2 * share + 0.02]
                .map(|share: f64| replicas_for(share.max(0.0), workers, LoadFactor::DEFAULT));
            // Early on a share is measured on few requests; what was hot stays so down to half.
            prop_assert!(replicas >= low, "{replicas} for {share} among {workers}");
            prop_assert!(replicas <= high.max(replicas_for(2.0 * share + 0.1, workers, LoadFactor::DEFAULT)));
        }
    }
}
