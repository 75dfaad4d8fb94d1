//! Every order in which threads can meet at the counters that are written by hand, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#[path = "../src/concurrency_limit/gate.rs"]
mod gate;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use loom::sync::Arc;

use crate::gate::Gate;

#[test]
fn of_those_who_race_for_the_last_places_exactly_as_many_enter() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        assert!(gate.try_enter(|limit| limit));
        let racers = [(); 2].map(|()| {
            let gate = gate.clone();
            loom::thread::spawn(move || gate.try_enter(|limit| limit))
        });
        let entered = racers.map(|racer| racer.join().expect("it does not panic"));
        assert_eq!(entered.iter().filter(|entered| **entered).count(), 1);
        assert_eq!((gate.in_flight(), gate.refused(), gate.take_peak()), (2, 1, 2));
    });
}

#[test]
fn a_limit_that_is_lowered_holds_for_all_who_come_after() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        let other = {
            let gate = gate.clone();
            loom::thread::spawn(move || gate.try_enter(|limit| limit))
        };
        gate.set_limit(0);
        assert_eq!(gate.limit(), 0);
        assert!(!gate.try_enter(|limit| limit));
        let entered = other.join().expect("it does not panic");
        assert_eq!(gate.in_flight(), u64::from(entered));
    });
}

/// One enters and leaves beside another: there is room for both, so neither is refused, and the
/// peak is not lost.
#[test]
fn nobody_is_refused_for_a_place_that_is_free() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        let visit = |gate: Arc<Gate>| {
            move || {
                assert!(gate.try_enter(|limit| limit));
                gate.leave();
            }
        };
        let other = loom::thread::spawn(visit(gate.clone()));
        visit(gate.clone())();
        other.join().expect("it does not panic");
        assert_eq!((gate.in_flight(), gate.refused()), (0, 0));
        assert!((1..=2).contains(&gate.take_peak()));
    });
}
