//! Every order in which threads can take places for connections and give them back, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#[path = "../src/places.rs"]
mod places;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}

use loom::sync::Arc;

use crate::places::Places;

#[test]
fn there_are_never_more_than_there_may_be_and_nobody_is_refused_a_free_one() {
    loom::model(|| {
        let places = Arc::new(Places::default());
        let first = places.take(2);
        let racers = [(); 2].map(|()| {
            let places = places.clone();
            loom::thread::spawn(move || places.take(2))
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
        let other = loom::thread::spawn(move || drop(place));
        let beside = places.take(1);
        other.join().expect("it does not panic");
        assert_eq!(places.taken(), usize::from(beside.is_some()));
        drop(beside);
        assert!(places.take(1).is_some());
    });
}
