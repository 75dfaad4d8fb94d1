//! Every order in which threads can meet at the ledger of loads, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#![expect(
    unreachable_pub,
    dead_code,
    reason = "the library's own source, of which models use a part"
)]

#[path = "../src/bounded_load/choice.rs"]
mod choice;
#[path = "../src/bounded_load/ledger.rs"]
mod ledger;
#[path = "../src/mix.rs"]
mod mix;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use loom::sync::Arc;

use crate::choice::{Candidate, LoadFactor, Spread};
use crate::ledger::{Load, LoadLedger, Reserved};

/// Two workers of equal weight.
struct Fleet {
    ledger: LoadLedger,
    loads: [Load; 2],
}

impl Fleet {
    fn new() -> Arc<Self> {
        let ledger = LoadLedger::new(LoadFactor::DEFAULT);
        Arc::new(Self { ledger, loads: [Load::new(), Load::new()] })
    }

    /// A request for a key of the first worker.
    fn reserve(&self) -> Reserved<'_> {
        let candidates = self
            .loads
            .each_ref()
            .map(|load| Some(Candidate { load, weight: 1.0, has_queue: false, hesitates: false }));
        self.ledger.reserve(&candidates, 0..2, Spread::NONE).expect("there are candidates")
    }

    fn in_flight(&self) -> [u64; 2] {
        self.loads.each_ref().map(Load::in_flight)
    }
}

/// One after the other they go to workers 0, 1, 0: the bounds are 1, 2 and 2. Whatever the order
/// in which they meet, no two may both take what is the last room.
#[test]
fn fault_21_who_races_for_the_last_room_does_not_exceed_the_bound() {
    loom::model(|| {
        let fleet = Fleet::new();
        let racers = [(); 2].map(|()| {
            let fleet = fleet.clone();
            loom::thread::spawn(move || {
                let Reserved { place, slot, .. } = fleet.reserve();
                // Still in flight when the others come.
                std::mem::forget(slot);
                place
            })
        });
        let Reserved { place, slot, .. } = fleet.reserve();
        std::mem::forget(slot);
        let mut places = racers.map(|racer| racer.join().expect("it does not panic")).to_vec();
        places.push(place);
        places.sort_unstable();
        assert_eq!(fleet.in_flight(), [2, 1], "{places:?}");
    });
}

/// Others leave meanwhile: an admission is within the bound that held at its moment, and every
/// slot is given back once.
#[test]
fn fault_21_who_leaves_beside_others_is_forgotten_once() {
    loom::model(|| {
        let fleet = Fleet::new();
        let visitors = [(); 2].map(|()| {
            let fleet = fleet.clone();
            loom::thread::spawn(move || {
                let visit = fleet.reserve();
                let [first, second] = fleet.in_flight();
                assert!((1..=3).contains(&(first + second)), "{first} and {second}");
                // At most three at once: bounds of two.
                assert!(first <= 2 && second <= 2, "{first} and {second}");
                drop(visit);
            })
        });
        drop(fleet.reserve());
        for visitor in visitors {
            visitor.join().expect("it does not panic");
        }
        assert_eq!(fleet.in_flight(), [0, 0]);
        assert_eq!(fleet.reserve().place, 0, "nobody is in its way");
    });
}
