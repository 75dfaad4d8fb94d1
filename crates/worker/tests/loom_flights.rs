//! Every order in which clients can come to a computation, wait for it and leave it while it
//! begins, runs and ends, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../src/cache/flight.rs"]
#[expect(dead_code, reason = "models use a part of it")]
mod flight;
#[path = "../src/party.rs"]
mod party;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::Deadline;
use loom::future::block_on;
use loom::sync::Mutex;
use loom::thread;

use crate::flight::{Flight, Seat, Urgency};
use crate::party::Party;

fn later() -> Urgency {
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(3600));
    Urgency { class: 0, deadline }
}

fn flight() -> (Arc<Flight<u32>>, Seat<u32>) {
    let flight = Arc::new(Flight::new(later()));
    let seat = flight.join(later()).unwrap();
    (flight, seat)
}

#[test]
fn who_waits_is_told_whether_it_looks_before_or_after_the_landing() {
    loom::model(|| {
        let (flight, first) = flight();
        let second = flight.join(later()).unwrap();
        let landing = {
            let flight = flight.clone();
            thread::spawn(move || flight.land(7))
        };
        let leaving = thread::spawn(move || drop(second));
        assert_eq!(block_on(first), 7);
        landing.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(block_on(flight.join(later()).unwrap()), 7, "a late look is no wait");
    });
}

#[test]
fn the_run_ends_when_the_last_one_leaves_before_or_after_it_begins() {
    loom::model(|| {
        let (flight, first) = flight();
        let second = flight.join(later()).unwrap();
        let leaving = [first, second].map(|seat| thread::spawn(move || drop(seat)));
        let party = Party::new(1);
        flight.attach(party.clone());
        for thread in leaving {
            thread.join().unwrap();
        }
        assert!(party.run().is_interrupted());
        assert!(flight.join(later()).is_none(), "what is being ended cannot be joined");
    });
}

#[test]
fn who_comes_while_the_last_one_leaves_keeps_the_run_or_is_told_that_it_is_too_late() {
    loom::model(|| {
        let (flight, first) = flight();
        let party = Party::new(1);
        flight.attach(party.clone());
        let leaving = thread::spawn(move || drop(first));
        let came = flight.join(later());
        leaving.join().unwrap();
        assert_eq!(party.run().is_interrupted(), came.is_none());
        if let Some(seat) = came {
            assert!(flight.is_wanted(Instant::now()));
            flight.land(3);
            assert_eq!(block_on(seat), 3);
        }
    });
}

#[test]
fn a_member_comes_back_while_others_hold_the_run() {
    loom::model(|| {
        let (flight, first) = flight();
        let party = Party::new(2);
        flight.attach(party.clone());
        let leaving = thread::spawn(move || drop(first));
        let other = {
            let party = party.clone();
            thread::spawn(move || party.leave())
        };
        let came = flight.join(later());
        leaving.join().unwrap();
        other.join().unwrap();
        assert_eq!(party.run().is_interrupted(), came.is_none());
        drop(came);
        assert!(party.run().is_interrupted(), "each left as often as it came");
    });
}

#[test]
fn who_leaves_at_the_landing_ends_no_other_run() {
    loom::model(|| {
        let (flight, seat) = flight();
        let (first, second) = (Party::new(1), Party::new(2));
        flight.attach(first.clone());
        let leaving = thread::spawn(move || drop(seat));
        // The batch was halved: its other half is a member, too.
        flight.attach(second.clone());
        flight.land(1);
        leaving.join().unwrap();
        assert!(!second.run().is_interrupted());
    });
}

/// As the cache does it: whoever joins and whoever gives up look under one lock.
#[test]
fn nobody_joins_what_is_given_up_unexecuted() {
    loom::model(|| {
        let (flight, first) = flight();
        let found = Arc::new(Mutex::new(Some(flight.clone())));
        let leaving = thread::spawn(move || drop(first));
        let giving_up = {
            let (flight, found) = (flight.clone(), found.clone());
            thread::spawn(move || {
                let mut found = found.lock().unwrap();
                let is_wanted = flight.is_wanted(Instant::now());
                if !is_wanted {
                    *found = None;
                }
                drop(found);
                // Whoever gives up says so; whoever goes on computes.
                flight.land(u32::from(is_wanted));
            })
        };
        let joined = found.lock().unwrap().as_ref().and_then(|flight| flight.join(later()));
        if let Some(seat) = joined {
            assert_eq!(block_on(seat), 1, "joined, and given up all the same");
        }
        leaving.join().unwrap();
        giving_up.join().unwrap();
    });
}
