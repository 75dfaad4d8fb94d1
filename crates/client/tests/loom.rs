//! Every order in which threads can take places for connections and give them back, and in which
//! those who ask and the task that drives a connection can meet, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#[path = "../src/calls.rs"]
mod calls;
#[path = "../src/places.rs"]
mod places;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
}

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use inferring_protocol::frames::Request;
use inferring_protocol::rest::Chunks;
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};

use crate::calls::{Asked, Calls};
use crate::places::Places;

#[test]
fn there_are_never_more_than_there_may_be_and_nobody_is_refused_a_free_one() {
    loom::model(|| {
        let places = Arc::new(Places::default());
        let first = places.take(2);
        let racers = [(); 2].map(|()| {
            let places = places.clone();
            spawn(move || places.take(2))
        });
        let taken = racers.map(|racer| racer.join().expect("it does not panic"));
        assert_eq!(taken.iter().flatten().count(), 1);
        assert_eq!(places.taken(), 2);
        drop((first, taken));
        assert_eq!(places.taken(), 0);
    });
}

#[test]
fn a_place_that_another_thread_gives_back_is_free() {
    loom::model(|| {
        let places = Places::default();
        let place = places.take(1);
        let other = spawn(move || drop(place));
        let beside = places.take(1);
        other.join().expect("it does not panic");
        assert_eq!(places.taken(), usize::from(beside.is_some()));
        drop(beside);
        assert!(places.take(1).is_some());
    });
}

/// What becomes of a request: its number, from a worker that answers.
type Answer = Result<u32, Broken>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Broken;

fn ask(calls: &Arc<Calls<Answer>>) -> Option<Asked<Answer>> {
    let request =
        Request { model: "m", version: None, timeout: Duration::from_secs(1), json_length: None };
    Calls::ask(calls, &request, Chunks::default())
}

/// Answers requests as soon as they are sent, until nothing more can come or the connection breaks,
/// which it does after so many turns that sent something.
fn drive(calls: Arc<Calls<Answer>>, turns: usize) -> JoinHandle<()> {
    spawn(move || {
        let mut sent = 0;
        block_on(poll_fn(|cx| {
            let mut state = calls.lock();
            if !state.outbox().is_empty() {
                sent += 1;
                while !state.outbox().is_empty() {
                    let length = state.outbox().unsent().len();
                    state.outbox().written(length);
                }
                state.heard();
                // No model asks for more; those nobody waits for are passed over.
                (1..=2).for_each(|stream| state.settle(stream, Ok(stream)));
            }
            if sent == turns { Poll::Ready(()) } else { state.poll_done(cx) }
        }));
        calls.lock().fail_after(0, |_| Err(Broken));
    })
}

#[test]
fn a_request_is_answered_and_its_connection_ends_when_nobody_needs_it() {
    loom::model(|| {
        let calls = Arc::new(Calls::default());
        let driver = drive(calls.clone(), usize::MAX);
        let asked = ask(&calls).expect("it is open");
        assert_eq!(block_on(asked), Ok(1));
        calls.lock().close();
        driver.join().expect("it does not panic");
        assert!(ask(&calls).is_none());
    });
}

#[test]
fn who_leaves_does_not_keep_the_connection() {
    loom::model(|| {
        let calls = Arc::new(Calls::default());
        let driver = drive(calls.clone(), usize::MAX);
        let asked = ask(&calls).expect("it is open");
        drop(asked);
        calls.lock().close();
        driver.join().expect("it does not panic");
    });
}

#[test]
fn who_asks_of_a_connection_that_breaks_is_answered_refused_or_told() {
    loom::model(|| {
        let calls = Arc::new(Calls::default());
        let driver = drive(calls.clone(), 1);
        let first = ask(&calls).expect("it is open");
        match ask(&calls) {
            Some(second) => assert!(matches!(block_on(second), Ok(2) | Err(Broken))),
            None => assert!(calls.lock().is_closed()),
        }
        assert_eq!(block_on(first), Ok(1));
        driver.join().expect("it does not panic");
        // The first one was answered, and the second was none: something was under way.
        assert_eq!(calls.lock().first_of_burst(), None);
    });
}
