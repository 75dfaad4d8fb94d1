//! Every order in which an interrupt and a run can meet, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#[path = "../src/run.rs"]
#[expect(unreachable_pub, reason = "public in the library, which this is not")]
mod run;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use std::sync::Arc;

// What a model observes is of loom too: else nothing could come between an interrupt's decision
// to tell an engine and the telling.
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::run::{Interrupt, Run};

/// An engine whose every run must be over, or told to end, as a real one's would be.
#[derive(Default)]
struct Engine {
    told: AtomicUsize,
}

impl Interrupt for Engine {
    fn interrupt(&self) {
        self.told.fetch_add(1, SeqCst);
    }
}

impl Engine {
    fn told(&self) -> usize {
        self.told.load(SeqCst)
    }
}

#[test]
fn a_run_does_not_begin_or_is_told_to_end_or_was_over() {
    loom::model(|| {
        let run = loom::sync::Arc::new(Run::new());
        let interrupter = {
            let run = loom::sync::Arc::clone(&run);
            loom::thread::spawn(move || run.interrupt())
        };
        let engine = Arc::new(Engine::default());
        match run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>) {
            Ok(under_way) => {
                loom::thread::yield_now();
                let told = under_way.end();
                // From here on the engine may use for its next run what it was told through.
                let at_the_end = engine.told();
                assert_eq!(told, at_the_end == 1);
                interrupter.join().unwrap();
                assert_eq!(engine.told(), at_the_end, "told after the run was over");
            }
            Err(_) => {
                assert!(run.is_interrupted());
                interrupter.join().unwrap();
                assert_eq!(engine.told(), 0);
            }
        }
        assert!(run.is_interrupted() && !run.is_under_way());
    });
}

#[test]
fn an_engine_that_waits_for_an_interrupt_is_woken() {
    loom::model(|| {
        let run = loom::sync::Arc::new(Run::new());
        let engine = Arc::new(Engine::default());
        let interrupter = {
            let run = loom::sync::Arc::clone(&run);
            loom::thread::spawn(move || run.interrupt())
        };
        // The second run is under way when the interrupt comes, or does not begin.
        for _ in 0..2 {
            let Ok(under_way) = run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>) else {
                break;
            };
            drop(under_way);
        }
        let begun = run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>).ok();
        interrupter.join().unwrap();
        if let Some(under_way) = begun {
            assert_eq!(engine.told(), 1, "it would wait for ever");
            assert!(under_way.end());
        }
        assert!(run.begin(engine).is_err());
    });
}

#[test]
fn two_interrupts_tell_an_engine_once() {
    loom::model(|| {
        let run = loom::sync::Arc::new(Run::new());
        let engine = Arc::new(Engine::default());
        let under_way = run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>).unwrap();
        let interrupters = [(); 2].map(|()| {
            let run = loom::sync::Arc::clone(&run);
            loom::thread::spawn(move || run.interrupt())
        });
        for interrupter in interrupters {
            interrupter.join().unwrap();
        }
        assert_eq!(engine.told(), 1);
        assert!(under_way.end());
    });
}

#[test]
fn runs_beside_each_other_are_all_told() {
    loom::model(|| {
        let run = loom::sync::Arc::new(Run::new());
        let other = {
            let run = loom::sync::Arc::clone(&run);
            loom::thread::spawn(move || {
                let engine = Arc::new(Engine::default());
                let under_way = run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>).ok()?;
                Some((under_way.end(), engine.told()))
            })
        };
        let engine = Arc::new(Engine::default());
        let under_way = run.begin(Arc::clone(&engine) as Arc<dyn Interrupt>).unwrap();
        run.interrupt();
        assert!(under_way.end());
        assert_eq!(engine.told(), 1);
        if let Some((told, count)) = other.join().unwrap() {
            assert_eq!(told, count == 1);
        }
    });
}
