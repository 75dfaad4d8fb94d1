//! What a simulation takes for granted of its threads.

use std::sync::Arc;
use std::time::Duration;

use inferring_lockstep::{Builder, Condvar, Lockstep, now, sleep_until};
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);

/// Runs `body` in a simulation of its own.
fn simulate<T>(seed: u64, body: impl AsyncFnOnce() -> T) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a timer");
    runtime.block_on(async {
        let lockstep = Lockstep::new(seed);
        let outcome = tokio::select! {
            biased;
            outcome = body() => outcome,
            () = lockstep.drive() => unreachable!("it never ends"),
        };
        assert_eq!(lockstep.running(), [""; 0]);
        outcome
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    Builder::new().name(name.to_owned()).spawn(body).expect("the system has threads");
}

/// Three threads write down when they have their turns, a second apart and on top of each other.
fn turns(seed: u64) -> Vec<(char, u64)> {
    simulate(seed, async || {
        let (start, journal) = (now(), Arc::new(Mutex::new(Vec::new())));
        for name in ['a', 'b', 'c'] {
            let journal = journal.clone();
            spawn("writer", move || {
                for turn in 1..=4 {
                    let seconds = (now() - start).as_secs();
                    journal.lock().push((name, seconds));
                    sleep_until(start + turn * SECOND);
                }
            });
        }
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(now() - start, 10 * SECOND);
        std::mem::take(&mut *journal.lock())
    })
}

#[test]
fn the_same_seed_gives_the_same_order_and_others_give_others() {
    let first = turns(1);
    assert_eq!(first.len(), 12);
    assert!(first.is_sorted_by_key(|(_, seconds)| *seconds));
    assert!((0..20).all(|_| turns(1) == first));
    let orders: std::collections::HashSet<_> = (0..20).map(turns).collect();
    assert!(orders.len() > 10, "{} orders", orders.len());
}

#[test]
fn a_wait_ends_by_a_notice_or_by_its_time_whichever_comes_first() {
    simulate(3, async || {
        let start = now();
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        for patience in [1, 60] {
            let shared = shared.clone();
            spawn("patient", move || {
                let (ends, told) = &*shared;
                let mut ends = ends.lock();
                let result = told.wait_until(&mut ends, start + patience * SECOND);
                ends.push((patience, result.timed_out(), now() - start));
            });
        }
        tokio::time::sleep(5 * SECOND).await;
        assert!(shared.1.notify_one(), "one waits");
        assert!(!shared.1.notify_one(), "the other has left");
        tokio::time::sleep(SECOND).await;
        assert_eq!(*shared.0.lock(), [(1, true, SECOND), (60, false, 5 * SECOND)]);
    });
}

#[test]
fn tasks_and_threads_wake_each_other_at_the_same_moment() {
    simulate(4, async || {
        let start = now();
        let questions = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let answering = questions.clone();
        spawn("answers", move || {
            let (queue, arrived) = &*answering;
            for _ in 0..100 {
                let mut queue = queue.lock();
                arrived.wait_while(&mut queue, |queue: &mut Vec<_>| queue.is_empty());
                let (number, answer): (u32, tokio::sync::oneshot::Sender<u32>) = queue.remove(0);
                drop(queue);
                answer.send(number + 1).unwrap();
            }
        });
        let mut number = 0;
        for _ in 0..100 {
            let (answer, answered) = tokio::sync::oneshot::channel();
            questions.0.lock().push((number, answer));
            questions.1.notify_one();
            number = answered.await.unwrap();
        }
        assert_eq!((number, now() - start), (100, Duration::ZERO));
    });
}

#[test]
fn a_thread_that_panics_ends_and_tells_whoever_joins_it() {
    simulate(5, async || {
        spawn("joins", || {
            let broken = Builder::new().name("broken".to_owned());
            let broken = broken.spawn(|| panic!("told to panic")).unwrap();
            let well = Builder::new().spawn(|| 7).unwrap();
            assert!(broken.join().is_err());
            assert_eq!(well.join().unwrap(), 7);
        });
        tokio::time::sleep(SECOND).await;
    });
}
