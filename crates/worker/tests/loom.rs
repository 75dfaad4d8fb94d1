//! Every order in which members of a running batch can leave it and come back, in which runs begin
//! while the watchdog falls asleep, and in which jobs come while instances do, tried by loom.
//!
//! The source under test is the library's own, compiled over loom's primitives: these models run
//! with all other tests and need no flag.

#[path = "../src/watchdog/attention.rs"]
mod attention;
#[path = "../src/party.rs"]
mod party;
#[path = "../src/batcher/sleepers.rs"]
mod sleepers;

/// Stands in for the library's own module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

/// The same: nothing here waits for a moment.
mod system {
    pub(crate) fn now() -> std::time::Instant {
        std::time::Instant::now()
    }

    /// Like the library's, it says whether it called anybody; this one cannot know and says yes.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(pub(crate) loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) -> bool {
            self.0.notify_one();
            true
        }
    }
}

use loom::sync::{Arc, Mutex};

use crate::attention::Attention;
use crate::party::Party;
use crate::sleepers::Sleepers;
use crate::system::Condvar;

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
        assert!(party.run().is_interrupted());
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
        assert!(!party.run().is_interrupted());
        party.leave();
        party.leave();
        assert!(!party.run().is_interrupted());
        party.leave();
        assert!(party.run().is_interrupted());
    });
}

/// What an instance does when it begins a run, and the watchdog while it looks around. A run that
/// is missed shows as a watchdog that sleeps for ever, which loom reports.
#[test]
fn a_run_is_seen_or_wakes_the_watchdog() {
    loom::model(|| {
        let attention = Arc::new(Attention::new());
        let runs = Arc::new(Mutex::new(false));
        let watchdog = {
            let (attention, runs) = (attention.clone(), runs.clone());
            loom::thread::spawn(move || {
                loop {
                    attention.look();
                    if *runs.lock().unwrap() {
                        return;
                    }
                    assert!(attention.sleep(None), "nobody closed it");
                }
            })
        };
        *runs.lock().unwrap() = true;
        attention.notice();
        watchdog.join().unwrap();
    });
}

#[test]
fn a_watchdog_that_sleeps_is_woken_to_end() {
    loom::model(|| {
        let attention = Arc::new(Attention::new());
        let watchdog = {
            let attention = attention.clone();
            loom::thread::spawn(move || {
                attention.look();
                while attention.sleep(None) {
                    attention.look();
                }
            })
        };
        attention.close();
        watchdog.join().unwrap();
    });
}

/// A queue and its bell, as a batcher has them.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    bell: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: usize,
    taken: usize,
    sleepers: Sleepers,
}

impl Queue {
    fn lock(&self) -> loom::sync::MutexGuard<'_, QueueState> {
        self.state.lock().expect("no thread panics")
    }

    /// Jobs come, of which nobody is told before the last one is there.
    fn put(&self, jobs: usize) {
        let mut state = self.lock();
        state.jobs += jobs;
        state.sleepers.call_one(&self.bell);
    }

    /// What an instance does that runs one job at a time, until `all` have run.
    fn serve(&self, all: usize) {
        let mut state = self.lock();
        while state.taken < all {
            if state.jobs == 0 {
                state.sleepers.falls_asleep();
                state = self.bell.0.wait(state).expect("no thread panics");
                state.sleepers.has_come();
                continue;
            }
            state.jobs -= 1;
            state.taken += 1;
            if state.jobs > 0 {
                state.sleepers.call_one(&self.bell);
            }
            // It runs outside of the lock.
            drop(state);
            state = self.lock();
        }
        self.bell.0.notify_all();
    }
}

/// A job that is left while all instances sleep would be a deadlock, which loom reports.
#[test]
fn no_job_is_left_while_all_instances_sleep() {
    for batches in [&[1, 1][..], &[2], &[2, 1]] {
        let all = batches.iter().sum();
        loom::model(move || {
            let queue = Arc::new(Queue::default());
            let instances = [(); 2].map(|()| {
                let queue = queue.clone();
                loom::thread::spawn(move || queue.serve(all))
            });
            batches.iter().for_each(|&jobs| queue.put(jobs));
            for instance in instances {
                instance.join().unwrap();
            }
        });
    }
}
