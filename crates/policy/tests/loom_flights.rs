//! Every order in which threads can meet at the table of flights, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#![expect(unreachable_pub, reason = "the library's own source")]

#[path = "../src/flights/table.rs"]
mod table;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread::JoinHandle;

use crate::table::{Seat, Table};

const KEY: u64 = 7;

/// A request that can be given to `worker`: its seat, and the worker that it is asked of.
fn board(table: &Table, worker: u64) -> (Seat<'_>, u64) {
    let turn = table.turn(KEY);
    match turn.worker() {
        Some(other) => (turn.ride().expect("it was there"), other),
        None => (turn.lead(worker), worker),
    }
}

fn spawn<T: 'static>(
    table: &Arc<Table>,
    visit: impl FnOnce(&Table) -> T + 'static,
) -> JoinHandle<T> {
    let table = table.clone();
    loom::thread::spawn(move || visit(&table))
}

/// Three come at once, and none is answered: they are all asked of one worker.
#[test]
fn fault_26_equal_requests_at_once_go_to_one_worker() {
    loom::model(|| {
        let table = Arc::new(Table::new(1));
        let stay = |worker| {
            move |table: &Table| {
                let (seat, asked) = board(table, worker);
                // Still under way when the others come.
                std::mem::forget(seat);
                asked
            }
        };
        let others = [1, 2].map(|worker| spawn(&table, stay(worker)));
        let asked = stay(3)(&table);
        for other in others {
            assert_eq!(other.join().expect("it does not panic"), asked);
        }
        assert_eq!(table.len(), 1);
    });
}

/// One leaves while others come. Whoever led, those who are aboard keep the flight; and when all
/// have left, nothing remains.
#[test]
fn who_leaves_ends_no_flight_that_others_are_aboard() {
    loom::model(|| {
        let table = Arc::new(Table::new(1));
        let leaves = spawn(&table, |table| drop(board(table, 1)));
        let stays = spawn(&table, |table| {
            let (seat, asked) = board(table, 2);
            assert_eq!(table.turn(KEY).worker(), Some(asked));
            drop(seat);
        });
        let (seat, asked) = board(&table, 3);
        assert_eq!(table.turn(KEY).worker(), Some(asked));
        drop(seat);
        leaves.join().expect("it does not panic");
        stays.join().expect("it does not panic");
        assert_eq!(table.len(), 0);
    });
}

/// An answer ends its own flight and no later one: who comes after it leads anew, and that one
/// lasts, whatever those of the first flight do.
#[test]
fn what_comes_of_a_flight_does_not_touch_the_next_one() {
    loom::model(|| {
        let table = Arc::new(Table::new(1));
        let answered = Arc::new(AtomicU64::new(0));
        let (seat, _) = board(&table, 1);
        let (companion, _) = board(&table, 1);
        let next = {
            let answered = answered.clone();
            spawn(&table, move |table| {
                let was_over = answered.load(Ordering::Acquire) == 1;
                let (seat, asked) = board(table, 2);
                assert!(asked == 2 || !was_over, "it goes along with an answer");
                if asked == 2 {
                    assert_eq!(table.turn(KEY).worker(), Some(2));
                }
                drop(seat);
            })
        };
        seat.end();
        answered.store(1, Ordering::Release);
        companion.end();
        next.join().expect("it does not panic");
        assert_eq!(table.len(), 0);
    });
}
