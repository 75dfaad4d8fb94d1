//! The rule against a second implementation of it, over random histories; and what must hold
//! whatever happens.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Workers with these weights, all of them candidates.
fn candidates<'a>(loads: &'a [Load], weights: &[f64]) -> Vec<Option<Candidate<'a>>> {
    let candidate =
        |(load, &weight)| Some(Candidate { load, weight, has_queue: false, hesitates: false });
    loads.iter().zip(weights).map(candidate).collect()
}

fn loads(count: usize) -> Vec<Load> {
    (0..count).map(|_| Load::new()).collect()
}

#[test]
fn a_factor_below_one_is_none() {
    for factor in [0.0, 0.999, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(LoadFactor::new(factor), None, "{factor}");
    }
    assert_eq!(LoadFactor::new(1.0).map(LoadFactor::get), Some(1.0));
}

#[test]
fn a_cap_is_the_share_rounded_up_and_one_at_least() {
    let quarter = LoadFactor::DEFAULT;
    for (total, weight, weights, expected) in [
        (1, 1.0, 3.0, 1),
        (2, 1.0, 3.0, 1),
        (3, 1.0, 3.0, 2),
        (4, 1.0, 5.0, 1),
        (64, 1.0, 3.0, 27),
        (64, 2.0, 4.0, 40),
        (1, 0.001, 100.0, 1),
    ] {
        assert_eq!(quarter.cap(total, weight, weights), expected, "{total} * {weight}/{weights}");
    }
    // A product that floating point puts a hair above the whole number that it is.
    assert_eq!(LoadFactor::new(1.1).unwrap().cap(10, 1.0, 11.0), 1);
}

#[test]
fn without_candidates_nobody_takes_it() {
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    assert!(ledger.reserve(&[None, None], 0..2, Spread::NONE).is_none());
    assert!(ledger.reserve(&[], 0..0, Spread::NONE).is_none());
}

#[test]
fn overflow_goes_on_in_the_keys_order_and_comes_back() {
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    let loads = loads(3);
    let field = candidates(&loads, &[1.0; 3]);
    let reserve = || ledger.reserve(&field, [2, 0, 1].into_iter(), Spread::NONE).unwrap();
    let taken = [(); 9].map(|()| reserve());
    let places = taken.each_ref().map(|reserved| reserved.place);
    // Bounds of 1, 1, 2, 2, 3, 3, 3, 4, 4 for the requests one by one.
    assert_eq!(places, [2, 0, 2, 0, 2, 0, 1, 2, 0]);
    let because = taken.each_ref().map(|reserved| reserved.because);
    assert!(because.iter().zip(places).all(|(because, place)| match place {
        2 => *because == Because::First,
        _ => *because == Because::Bound,
    }));
    drop(taken);
    assert_eq!(reserve().place, 2);
}

#[test]
fn what_is_no_candidate_takes_nothing_off_the_others() {
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    let loads = loads(3);
    let mut field = candidates(&loads, &[1.0; 3]);
    let _busy = [(); 30].map(|()| ledger.enter(&loads[0]));
    field[0] = None;
    // Two workers share 8: 5 each at most, whatever the third one has.
    let taken = [(); 8].map(|()| ledger.reserve(&field, 0..3, Spread::NONE).unwrap());
    let at_second = taken.iter().filter(|reserved| reserved.place == 1).count();
    assert_eq!((at_second, loads[1].in_flight(), loads[2].in_flight()), (5, 5, 3));
}

#[test]
fn one_that_hesitates_takes_what_comes_while_it_is_idle() {
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    let loads = loads(2);
    let mut field = candidates(&loads, &[1.0; 2]);
    field[0].as_mut().unwrap().hesitates = true;
    let idle = ledger.reserve(&field, 0..2, Spread::NONE).unwrap();
    assert_eq!((idle.place, idle.because), (0, Because::First));
    let other = ledger.reserve(&field, 0..2, Spread::NONE).unwrap();
    assert_eq!((other.place, other.because), (1, Because::Hesitation));
    // Of seven requests the other one has five, its bound, and it has one.
    let _busy = [(); 4].map(|()| ledger.enter(&loads[1]));
    let third = ledger.reserve(&field, 0..2, Spread::NONE).unwrap();
    assert_eq!((third.place, third.because), (0, Because::First));
}

#[test]
fn a_spread_key_leaves_its_worker_when_that_is_busy() {
    let ledger = LoadLedger::new(LoadFactor::new(100.0).unwrap());
    let loads = loads(3);
    let mut field = candidates(&loads, &[1.0; 3]);
    let spread = Spread { replicas: 2, ..Spread::NONE };
    let reserve = |field: &[_]| ledger.reserve(field, [1, 2, 0].into_iter(), spread).unwrap();
    let first = reserve(&field);
    assert_eq!((first.place, first.because), (1, Because::First));
    let second = reserve(&field);
    assert_eq!((second.place, second.because), (2, Because::Replica));
    let third = reserve(&field);
    assert_eq!((third.place, third.because), (1, Because::First));
    drop((first, third));
    // Nothing in flight from here, but it told of a queue: others use it too.
    field[1].as_mut().unwrap().has_queue = true;
    drop(second);
    let _busy = ledger.enter(&loads[1]);
    assert_eq!(reserve(&field).place, 2);
    assert_eq!(loads[0].in_flight(), 0, "it is no replica of this key");
}

#[test]
fn a_spread_key_takes_fair_shares_and_leaves_the_rest_to_those_at_home() {
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    let loads = loads(8);
    let field = candidates(&loads, &[1.0; 8]);
    let spread = |turn| Spread { replicas: 4, exceeds: true, turn };
    let _held: Vec<_> =
        (0..80).map(|turn| ledger.reserve(&field, 0..8, spread(turn)).unwrap()).collect();
    assert!(loads.iter().all(|load| load.in_flight() == 10), "{loads:?}");
    // So each of them has room for what has no other home.
    for home in 0..8 {
        let order = (home..8).chain(0..home);
        assert_eq!(ledger.reserve(&field, order, Spread::NONE).unwrap().place, home);
    }
}

#[test]
fn pairs_of_replicas_are_all_drawn_about_as_often() {
    let mut drawn = std::collections::HashMap::<_, u32>::new();
    for turn in 0..6000 {
        let pair = Spread { replicas: 4, exceeds: false, turn }.pair(4);
        assert!(pair.0 < pair.1 && pair.1 < 4);
        *drawn.entry(pair).or_default() += 1;
    }
    assert_eq!(drawn.len(), 6);
    assert!(drawn.values().all(|count| (850..1150).contains(count)), "{drawn:?}");
}

/// Where all take the same order, it does not matter who comes first: at the end the loads are
/// what they are when one comes after the other. One admission beyond a bound would show.
#[test]
fn fault_21_of_64_threads_at_once_none_exceeds_a_bound() {
    const THREADS: usize = 64;
    const EACH: usize = 50;
    let one_by_one = loads(3);
    let racing = loads(3);
    let ledger = LoadLedger::new(LoadFactor::DEFAULT);
    let reserve = |loads| {
        let field = candidates(loads, &[1.0, 2.0, 0.5]);
        ledger.reserve(&field, [2, 0, 1].into_iter(), Spread::NONE).unwrap().slot
    };
    let _slots = (0..THREADS * EACH).map(|_| reserve(&one_by_one)).collect::<Vec<_>>();
    let start = std::sync::Barrier::new(THREADS);
    let held = std::thread::scope(|scope| {
        let racers = (0..THREADS).map(|_| {
            scope.spawn(|| {
                start.wait();
                (0..EACH).map(|_| reserve(&racing)).collect::<Vec<_>>()
            })
        });
        let racers = racers.collect::<Vec<_>>();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
    });
    let in_flight = |loads: &[Load]| loads.iter().map(Load::in_flight).collect::<Vec<_>>();
    assert_eq!(in_flight(&racing), in_flight(&one_by_one));
    drop(held);
    assert_eq!(in_flight(&racing), [0, 0, 0]);
}

#[derive(Debug, Clone)]
enum Step {
    /// A request with this order of workers, spread over so many.
    Reserve {
        order: Vec<usize>,
        spread: Spread,
        absent: Vec<bool>,
    },
    Enter(usize),
    Release(Index),
}

const WORKERS: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let order = Just((0..WORKERS).collect::<Vec<_>>()).prop_shuffle();
    let absent = prop::collection::vec(prop::bool::weighted(0.2), WORKERS);
    let spread = (1..6_usize, any::<bool>(), any::<u64>())
        .prop_map(|(replicas, exceeds, turn)| Spread { replicas, exceeds, turn });
    let reserve = (order, spread, absent).prop_map(|(order, spread, absent)| Step::Reserve {
        order,
        spread,
        absent,
    });
    let step = prop_oneof![
        6 => reserve,
        1 => (0..WORKERS).prop_map(Step::Enter),
        4 => any::<Index>().prop_map(Step::Release),
    ];
    prop::collection::vec(step, 1..200)
}

/// The rule in whole numbers: weights are tenths, the factor is in hundredths.
fn naive_cap(hundredths: u64, total: u64, weight: u64, weights: u64) -> u64 {
    (hundredths * total * weight).div_ceil(100 * weights).max(1)
}

proptest! {
    /// The model is a list of who has each request. It says for each admission whether the rule
    /// allows it, and where a request must go that is not spread.
    #[test]
    fn every_admission_is_within_the_bound(
        steps in steps(),
        tenths in prop::collection::vec(1..30_u64, WORKERS),
        hundredths in 100..300_u64,
        hesitating in prop::collection::vec(prop::bool::weighted(0.2), WORKERS),
    ) {
        let factor = LoadFactor::new(hundredths as f64 / 100.0).unwrap();
        let ledger = LoadLedger::new(factor);
        let loads = loads(WORKERS);
        let weights: Vec<f64> = tenths.iter().map(|&tenths| tenths as f64 / 10.0).collect();
        let mut all = candidates(&loads, &weights);
        for (candidate, &hesitates) in all.iter_mut().flatten().zip(&hesitating) {
            candidate.hesitates = hesitates;
        }
        let mut held: Vec<(usize, LoadSlot<'_>)> = Vec::new();
        for step in steps {
            let has = |place| held.iter().filter(|(at, _)| *at == place).count() as u64;
            match step {
                Step::Reserve { order, spread, absent } => {
                    let Spread { replicas, exceeds, .. } = spread;
                    let mut field = all.clone();
                    for place in (0..WORKERS).filter(|&place| absent[place]) {
                        field[place] = None;
                    }
                    let there: Vec<usize> =
                        order.iter().copied().filter(|&place| !absent[place]).collect();
                    let total = 1 + there.iter().map(|&place| has(place)).sum::<u64>();
                    let sum = there.iter().map(|&place| tenths[place]).sum::<u64>();
                    let fits = |place: usize| {
                        has(place) < naive_cap(hundredths, total, tenths[place], sum)
                    };
                    let Some(reserved) = ledger.reserve(&field, order.into_iter(), spread) else {
                        prop_assert!(there.is_empty());
                        continue;
                    };
                    let Reserved { place, because, slot } = reserved;
                    prop_assert!(there.contains(&place));
                    prop_assert!(fits(place), "{place} has {} of {total}", has(place));
                    prop_assert_eq!(because == Because::First, place == there[0]);
                    let ready = |place: usize| !hesitating[place] || has(place) == 0;
                    let expected = there.iter().copied().find(|&place| ready(place) && fits(place))
                        .or_else(|| there.iter().copied().find(|&place| fits(place)));
                    let heads = there.iter().copied().filter(|&place| ready(place));
                    let heads = heads.take(replicas.min(REPLICAS_MAX)).collect::<Vec<_>>();
                    let is_light = has(place) < naive_cap(100, total, tenths[place], sum);
                    let is_spread = match exceeds {
                        false => heads.contains(&place),
                        true => ready(place) && is_light,
                    };
                    prop_assert!(
                        Some(place) == expected || replicas > 1 && is_spread,
                        "{place}, {because:?}, of {total} over {there:?}"
                    );
                    if because == Because::Replica {
                        prop_assert!(heads.contains(&place), "{place} of {heads:?}");
                        prop_assert!(has(heads[0]) > 0, "its own worker is idle");
                    }
                    held.push((place, slot));
                }
                Step::Enter(place) => held.push((place, ledger.enter(&loads[place]))),
                Step::Release(index) if !held.is_empty() => {
                    drop(held.swap_remove(index.index(held.len())));
                }
                Step::Release(_) => {}
            }
            for (place, load) in loads.iter().enumerate() {
                let count = held.iter().filter(|(at, _)| *at == place).count() as u64;
                prop_assert_eq!(load.in_flight(), count);
            }
        }
    }
}
