//! Every order in which members of a running batch can leave it and come back, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../src/party.rs"]
mod party;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}

use crate::party::Party;

#[test]
fn the_run_ends_with_the_last_of_several_that_leave_at_once() {
    loom::model(|| {
        let party = Party::new(3);
        let leaving = [(); 2].map(|()| {
            let party = party.clone();
            loom::thread::spawn(move || party.leave())
        });
        assert!(!party.run().is_interrupted(), "one is still there");
        party.leave();
        for thread in leaving {
            thread.join().unwrap();
        }
        assert!(party.is_abandoned() && party.run().is_interrupted());
    });
}

#[test]
fn who_comes_back_in_time_keeps_the_run_and_who_is_late_is_told() {
    loom::model(|| {
        let party = Party::new(2);
        // One job's clients are gone already.
        party.leave();
        let other = {
            let party = party.clone();
            loom::thread::spawn(move || party.leave())
        };
        let is_back = party.rejoin();
        other.join().unwrap();
        assert_eq!(party.run().is_interrupted(), !is_back);
        assert_eq!(party.is_abandoned(), !is_back);
        if is_back {
            party.leave();
        }
        assert!(party.run().is_interrupted());
        assert!(!party.rejoin(), "what was given up stays so");
    });
}

#[test]
fn of_two_that_come_back_each_holds_the_run() {
    loom::model(|| {
        let party = Party::new(3);
        let returning = [(); 2].map(|()| {
            let party = party.clone();
            loom::thread::spawn(move || {
                party.leave();
                party.rejoin()
            })
        });
        for thread in returning {
            assert!(thread.join().unwrap(), "the third never left");
        }
        assert!(!party.is_abandoned());
        party.leave();
        party.leave();
        assert!(!party.run().is_interrupted());
        party.leave();
        assert!(party.run().is_interrupted());
    });
}
