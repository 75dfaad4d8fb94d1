//! Flights against a plain model of them, over random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::clock;

/// Far fewer than what could be told apart, so that all meet: also two of one lock.
fn key(number: u8) -> RoutingKey {
    RoutingKey(u64::from(number) << 61 | u64::from(number % 2) << 32)
}

#[derive(Debug, Clone)]
enum Step {
    /// A request of this key, which can be given to this worker, and may or may not go along.
    Come { key: u8, worker: u64, may_ride: bool },
    /// One of those aboard leaves.
    Leave(Index),
    /// A worker's answer to one of those aboard comes.
    End(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let come = (0..5_u8, 0..4_u64, prop::bool::weighted(0.8))
        .prop_map(|(key, worker, may_ride)| Step::Come { key, worker, may_ride });
    let step = prop_oneof![
        6 => come,
        3 => any::<Index>().prop_map(Step::Leave),
        1 => any::<Index>().prop_map(Step::End),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// The model keeps all flights that ever were, with those aboard by name, and which of them
    /// each key has.
    #[test]
    fn a_flight_lasts_until_its_first_answer_or_its_last_passenger(steps in steps()) {
        let flights = Flights::new(clock::start());
        let mut seats = Vec::new();
        let mut aboard: Vec<(u64, BTreeSet<usize>)> = Vec::new();
        let mut current = BTreeMap::<u8, usize>::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::Come { key: number, worker, may_ride } => {
                    let turn = flights.another_turn(key(number));
                    let known = current.get(&number).map(|&flight| aboard[flight].0);
                    prop_assert_eq!(turn.worker(), known);
                    let (seat, flight) = match current.get(&number) {
                        Some(&flight) if may_ride => (turn.ride().unwrap(), flight),
                        _ => {
                            aboard.push((worker, BTreeSet::new()));
                            (turn.lead(worker), aboard.len() - 1)
                        }
                    };
                    current.insert(number, flight);
                    aboard[flight].1.insert(name);
                    seats.push((seat, name, number, flight));
                }
                Step::Leave(index) if !seats.is_empty() => {
                    let (seat, name, number, flight) = seats.swap_remove(index.index(seats.len()));
                    drop(seat);
                    aboard[flight].1.remove(&name);
                    if aboard[flight].1.is_empty() && current.get(&number) == Some(&flight) {
                        current.remove(&number);
                    }
                }
                Step::End(index) if !seats.is_empty() => {
                    let (seat, name, number, flight) = seats.swap_remove(index.index(seats.len()));
                    seat.end();
                    aboard[flight].1.remove(&name);
                    if current.get(&number) == Some(&flight) {
                        current.remove(&number);
                    }
                }
                Step::Leave(_) | Step::End(_) => {}
            }
            prop_assert_eq!(flights.len(), current.len());
            for number in 0..5 {
                let known = current.get(&number).map(|&flight| aboard[flight].0);
                prop_assert_eq!(flights.another_turn(key(number)).worker(), known);
            }
        }
        drop(seats);
        prop_assert!(flights.is_empty());
    }
}

#[test]
fn a_key_that_was_answered_makes_no_flight_for_a_second() {
    let start = clock::start();
    let flights = Flights::new(start);
    let later = |millis| start + Duration::from_millis(millis);
    let seat = flights.first_turn(key(1), start).unwrap().lead(7);
    flights.answered(key(1), later(50));
    assert!(flights.first_turn(key(1), later(60)).is_none());
    assert!(flights.first_turn(key(2), later(60)).is_some(), "another one does");
    // Who was failed by a worker goes along with others of its kind all the same.
    let turn = flights.another_turn(key(1));
    assert_eq!(turn.worker(), Some(7));
    drop((turn, seat));
    assert!(flights.first_turn(key(1), later(1500)).is_some());
    assert!(flights.is_empty());
}

#[test]
fn without_a_flight_nobody_rides() {
    let flights = Flights::new(clock::start());
    assert!(flights.another_turn(key(1)).ride().is_err());
}

/// Of many at once one leads; all others find it, whoever is first.
#[test]
fn fault_26_of_64_threads_at_once_one_leads() {
    const THREADS: usize = 64;
    let flights = Flights::new(clock::start());
    let (start, all) = (std::sync::Barrier::new(THREADS), std::sync::Barrier::new(THREADS));
    let board = |worker| {
        start.wait();
        let turn = flights.another_turn(key(1));
        let found = turn.worker();
        let _seat = match found {
            Some(_) => turn.ride().unwrap(),
            None => turn.lead(worker),
        };
        all.wait();
        found
    };
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS as u64).map(|worker| scope.spawn(move || board(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let leaders: Vec<_> = (0..THREADS).filter(|&thread| found[thread].is_none()).collect();
    let [leader] = leaders[..] else { panic!("{leaders:?} lead") };
    assert!(found.iter().flatten().all(|&worker| worker == leader as u64));
    assert!(flights.is_empty());
}
