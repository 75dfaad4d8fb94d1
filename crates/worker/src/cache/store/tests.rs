use std::collections::HashMap;

use bytesize::ByteSize;
use proptest::prelude::*;

use super::*;

fn store(entries: usize, bytes: u64) -> Store {
    let bytes = ByteSize(bytes);
    Store::new(&CacheConfig { entries, bytes, ..CacheConfig::default() })
}

fn key(number: u64) -> Key {
    Key::of(&number.to_le_bytes())
}

fn answer() -> Arc<Answer> {
    Arc::new(Answer {
        outputs: [].into(),
        queue_time: Duration::ZERO,
        execution_time: Duration::ZERO,
        batch_size: 1,
    })
}

fn keeper(tenant: u64) -> Keeper {
    Keeper { tenant: TenantId(tenant), time_to_live: None, bytes_max: None }
}

fn keep_for(store: &mut Store, number: u64, weight: u64, keeper: Keeper, now: Instant) {
    store.insert(key(number), keeper, answer(), weight, now, &mut Vec::new());
}

fn keep(store: &mut Store, number: u64, weight: u64) {
    keep_for(store, number, weight, keeper(number % 3), Instant::now());
}

fn has(store: &mut Store, number: u64) -> bool {
    store.get(&key(number), None, Instant::now()).is_some()
}

#[test]
fn as_many_as_configured_are_kept() {
    let mut store = store(1000, u64::MAX);
    (0..1000).for_each(|number| keep(&mut store, number, 1));
    assert!((0..1000).all(|number| has(&mut store, number)));
    keep(&mut store, 1000, 1);
    assert_eq!(store.status().entries, 1000);
    assert_eq!(store.status().evictions, 1);
}

#[test]
fn a_scan_does_not_wash_out_what_is_asked_for_often() {
    let mut store = store(100, u64::MAX);
    for _ in 0..3 {
        for number in 0..50 {
            if !has(&mut store, number) {
                keep(&mut store, number, 1);
            }
        }
    }
    (1000..11_000).for_each(|number| keep(&mut store, number, 1));
    let left = (0..50).filter(|&number| has(&mut store, number)).count();
    assert_eq!(left, 50);
}

#[test]
fn an_answer_larger_than_the_room_is_not_kept_and_puts_nothing_out() {
    let mut store = store(10, 100);
    keep(&mut store, 1, 60);
    keep(&mut store, 2, 101);
    assert!(has(&mut store, 1) && !has(&mut store, 2));
    let bounded = Keeper { bytes_max: Some(10), ..keeper(1) };
    keep_for(&mut store, 3, 11, bounded, Instant::now());
    assert!(has(&mut store, 1) && !has(&mut store, 3));
}

#[test]
fn nothing_is_kept_with_no_room() {
    let mut store = store(0, 100);
    keep(&mut store, 1, 1);
    assert!(!has(&mut store, 1));
}

#[test]
fn an_answer_expires_by_its_own_time_and_goes_away() {
    let mut store = store(1000, u64::MAX);
    let start = Instant::now();
    let seconds = Duration::from_secs;
    let of = |tenant, limit| Keeper { time_to_live: Some(seconds(limit)), ..keeper(tenant) };
    for number in 0..30 {
        let keeper = match number % 3 {
            0 => of(0, 10),
            1 => of(1, 20),
            _ => keeper(2),
        };
        keep_for(&mut store, number, 1, keeper, start);
    }
    let has = |store: &mut Store, number, now| store.get(&key(number), None, now).is_some();
    let nearly = start + seconds(10) - Duration::from_nanos(1);
    assert!(has(&mut store, 0, nearly) && !has(&mut store, 0, start + seconds(10)));
    assert!(has(&mut store, 1, start + seconds(10)));
    let mut freed = Vec::new();
    assert!(store.remove_expired(start + seconds(10), 5, &mut freed), "there are more");
    assert!(!store.remove_expired(start + seconds(10), 50, &mut freed));
    assert_eq!((freed.len(), store.status().entries, store.status().evictions), (10, 20, 0));
    // Computed anew, it is good for as long again.
    keep_for(&mut store, 1, 1, of(1, 20), start + seconds(15));
    store.remove_expired(start + seconds(21), 50, &mut freed);
    assert_eq!(store.status().entries, 11);
    assert!(has(&mut store, 1, start + seconds(34)) && !has(&mut store, 4, start + seconds(21)));
    // While others are kept, old ones go as well.
    keep_for(&mut store, 100, 1, keeper(2), start + seconds(40));
    assert_eq!(store.status().entries, 11);
}

#[test]
fn who_wants_fresh_answers_gets_no_old_ones_of_others() {
    let mut store = store(10, u64::MAX);
    let start = Instant::now();
    keep_for(&mut store, 1, 1, keeper(1), start);
    let second = Duration::from_secs(1);
    assert!(store.get(&key(1), Some(2 * second), start + second).is_some());
    assert!(store.get(&key(1), Some(second), start + second).is_none());
    assert!(store.get(&key(1), None, start + 100 * second).is_some());
}

#[test]
fn answers_that_are_kept_again_and_again_leave_nothing_behind() {
    let mut store = store(10, u64::MAX);
    let hour = Duration::from_secs(3600);
    let keeper = Keeper { time_to_live: Some(hour), bytes_max: Some(1000), ..keeper(1) };
    let start = Instant::now();
    for turn in 0..10_000 {
        keep_for(&mut store, turn % 5, 1, keeper, start + hour * turn as u32);
    }
    assert!(store.expiry.terms() < 200, "{}", store.expiry.terms());
    let places: usize =
        store.shares.values().map(|share| share.small.places() + share.main.places()).sum();
    assert!(places < 200, "{places}");
}

#[test]
fn a_tenant_with_a_bound_puts_out_its_own_answers_only() {
    let mut store = store(1000, 1000);
    for number in 0..50 {
        keep_for(&mut store, number, 10, keeper(1), Instant::now());
    }
    let bounded = Keeper { bytes_max: Some(100), ..keeper(2) };
    for number in 100..200 {
        keep_for(&mut store, number, 10, bounded, Instant::now());
        let own = store.entries.values().filter(|entry| entry.tenant == bounded.tenant);
        assert!(own.map(|entry| entry.weight).sum::<u64>() <= 100);
    }
    assert!((0..50).all(|number| has(&mut store, number)));
    assert_eq!(store.status().bytes, 600);
    store.forget(bounded.tenant);
    assert_eq!((store.status().bytes, store.shares.len()), (500, 1));
}

/// What is kept by a model that nobody asks any more does not stay for ever.
#[test]
fn answers_within_a_bound_of_their_own_grow_old_among_the_others() {
    let mut store = store(1000, 1000);
    let bounded = Keeper { bytes_max: Some(400), ..keeper(2) };
    (0..40).for_each(|number| keep_for(&mut store, number, 10, bounded, Instant::now()));
    (100..1000).for_each(|number| keep_for(&mut store, number, 10, keeper(1), Instant::now()));
    assert!((0..40).all(|number| !has(&mut store, number)));
    assert_eq!(store.status().bytes, 1000);
}

/// The least recently used goes first: what the store is held against.
struct Lru {
    size: usize,
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    clock: u64,
}

impl Lru {
    fn ask(&mut self, number: u64) -> bool {
        self.clock += 1;
        let before = self.used.insert(number, self.clock);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        self.order.insert(self.clock, number);
        if self.used.len() > self.size {
            let (_, oldest) = self.order.pop_first().expect("there is one for each");
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

/// Over ten thousand keys. Published for room for 1 % and 10 % of the keys: LRU 39.2 and 67.6 %,
/// other caches that resist scans 51 to 52 and 74 to 76 %.
#[test]
fn hit_rates_on_zipf_traffic_are_those_of_the_best_and_beat_lru() {
    let keys = 10_000;
    let start = Instant::now();
    let cumulative: Vec<f64> = (1..=keys)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    // Bounded by number, and by bytes alone.
    let digests: Vec<_> = (0..keys as u64).map(key).collect();
    let by_number = |size| store(size, u64::MAX);
    let by_bytes = |size| store(usize::MAX, 100 * size as u64);
    for (size, good, lru_published) in [(keys / 100, 0.50, 0.392), (keys / 10, 0.73, 0.676)] {
        for mut store in [by_number(size), by_bytes(size)] {
            let mut lru = Lru { size, used: HashMap::new(), order: BTreeMap::new(), clock: 0 };
            let mut random = fastrand::Rng::with_seed(7);
            let requests = 150_000;
            let (mut hits, mut hits_of_lru) = (0, 0);
            for request in 0..requests {
                let point = random.f64() * cumulative[keys - 1];
                let number = cumulative.partition_point(|&sum| sum < point) as u64;
                let key = digests[number as usize];
                let is_hit = store.get(&key, None, start).is_some();
                if !is_hit {
                    store.insert(key, keeper(1), answer(), 100, start, &mut Vec::new());
                }
                let is_hit_of_lru = lru.ask(number);
                // The caches are full by then.
                if request >= requests / 3 {
                    hits += u32::from(is_hit);
                    hits_of_lru += u32::from(is_hit_of_lru);
                }
            }
            let rate = |hits: u32| f64::from(hits) / f64::from(requests - requests / 3);
            let (ours, lru) = (rate(hits), rate(hits_of_lru));
            println!("room for {size} of {keys}: {ours:.3}, LRU {lru:.3}");
            assert!((lru - lru_published).abs() < 0.03, "not the traffic that was published");
            assert!(ours > good && ours > lru + 0.05, "{ours} of {size}, LRU {lru}");
        }
    }
}

proptest! {
    #[test]
    fn bounds_hold_and_accounts_agree_after_any_operations(
        operations in prop::collection::vec((0u64..40, 1u64..30, 0..20u8), 1..400),
        entries_max in 1usize..20,
        bytes_max in 1u64..200,
        own_bytes_max in 1u64..200,
    ) {
        let mut store = store(entries_max, bytes_max);
        let start = Instant::now();
        for (turn, (number, weight, what)) in operations.into_iter().enumerate() {
            let now = start + Duration::from_secs(turn as u64);
            let keeper = match number % 3 {
                0 => keeper(0),
                1 => Keeper { bytes_max: Some(own_bytes_max), ..keeper(1) },
                _ => Keeper { time_to_live: Some(Duration::from_secs(weight)), ..keeper(2) },
            };
            let mut freed = Vec::new();
            let kept = store.get(&key(number), keeper.time_to_live, now).is_some();
            if what == 0 {
                store.forget(keeper.tenant);
                prop_assert!((0..40).all(|n| n % 3 != number % 3 || !has(&mut store, n)));
            } else if what == 1 {
                store.remove_expired(now, 3, &mut freed);
            } else if what > 9 && !kept {
                store.insert(key(number), keeper, answer(), weight, now, &mut freed);
            }
            prop_assert!(store.entries.len() <= entries_max);
            prop_assert!(store.bytes() <= bytes_max);
            let weight = |of: u64| -> u64 {
                let own = store.entries.values().filter(|entry| entry.tenant == TenantId(of));
                own.map(|entry| entry.weight).sum()
            };
            prop_assert_eq!((0..3).map(weight).sum::<u64>(), store.bytes());
            prop_assert!(weight(1) <= own_bytes_max);
            let answers: usize =
                store.shares.values().map(|share| share.small.len() + share.main.len()).sum();
            prop_assert_eq!(answers, store.entries.len());
            for share in store.shares.values() {
                let (ghosts, places) = share.ghosts.size();
                prop_assert!(ghosts <= entries_max && places <= 2 * entries_max);
            }
            for (key, entry) in &store.entries {
                prop_assert!(!store.shares[&entry.share()].ghosts.contains(key));
            }
        }
    }
}
