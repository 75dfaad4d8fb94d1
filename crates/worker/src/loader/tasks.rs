//! Work on models, on threads of its own: that on one model one piece after the other, in the
//! order in which it came; that on different models beside each other.
//!
//! Threads are there only while there is work.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use inferring_types::ModelName;
use parking_lot::Mutex;
use tracing::error;

use crate::threads::Threads;

/// Pieces of work, and the threads that do them.
pub(super) struct Tasks {
    state: Mutex<State>,
    threads: Threads,
    threads_max: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    /// Models that are being worked on.
    busy: HashSet<ModelName>,
    threads: usize,
    closed: bool,
}

struct Task {
    model: ModelName,
    body: Box<dyn FnOnce() + Send>,
}

/// Why a piece of work is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no more room in the queue.
    Full,
    /// The worker is shutting down.
    Closed,
    /// The system starts no thread for it.
    NoThread(io::Error),
}

impl Tasks {
    pub(super) fn new(threads_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), threads: Threads::default(), threads_max })
    }

    /// Takes a piece of work on a model, unless `waiting_max` others wait already. Work that is
    /// dropped by [`Tasks::close`] is never done.
    pub(super) fn submit(
        self: &Arc<Self>,
        model: ModelName,
        waiting_max: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.queue.len() >= waiting_max {
            return Err(Refusal::Full);
        }
        // Whoever works on this model now comes back for this when it is done.
        if state.threads < self.threads_max && !state.busy.contains(&model) {
            let tasks = self.clone();
            self.threads
                .start("load models".to_owned(), move || tasks.work())
                .map_err(Refusal::NoThread)?;
            state.threads += 1;
        }
        state.queue.push_back(Task { model, body: Box::new(body) });
        Ok(())
    }

    /// Takes nothing more, drops what waits, and waits for what is being done.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.queue)
        };
        drop(dropped);
        self.threads.join();
    }

    fn work(&self) {
        while let Some(Task { model, body }) = self.next() {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                error!(%model, "work on a model ended in a panic");
            }
            self.state.lock().busy.remove(&model);
        }
    }

    /// The oldest piece of work on a model that nobody works on. Where there is none, the thread
    /// is counted out and ends: what still waits is for those who work on its models.
    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        let State { queue, busy, .. } = &mut *state;
        let place = queue.iter().position(|task| !busy.contains(&task.model));
        let task = place.and_then(|place| queue.remove(place));
        match &task {
            Some(task) => {
                state.busy.insert(task.model.clone());
            }
            None => state.threads -= 1,
        }
        task
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn name(name: &str) -> ModelName {
        name.parse().unwrap()
    }

    /// Work that says that it has begun and ends when it is told to.
    fn held(
        begun: &SyncSender<&'static str>,
        what: &'static str,
    ) -> (SyncSender<()>, impl FnOnce() + Send + use<>) {
        let (release, released) = sync_channel::<()>(1);
        let begun = begun.clone();
        let body = move || {
            begun.send(what).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
        };
        (release, body)
    }

    fn next(begun: &Receiver<&'static str>) -> &'static str {
        begun.recv_timeout(PATIENCE).unwrap()
    }

    #[test]
    fn work_on_one_model_is_done_in_order_and_on_others_meanwhile() {
        let tasks = Tasks::new(4);
        let (begun, began) = sync_channel(10);
        let [(release_a1, a1), (release_a2, a2), (release_b, b)] =
            ["a1", "a2", "b"].map(|what| held(&begun, what));
        tasks.submit(name("a"), 9, a1).unwrap();
        assert_eq!(next(&began), "a1");
        tasks.submit(name("a"), 9, a2).unwrap();
        tasks.submit(name("b"), 9, b).unwrap();
        assert_eq!(next(&began), "b", "what waits behind a1 holds up nobody else");
        release_b.send(()).unwrap();
        release_a1.send(()).unwrap();
        assert_eq!(next(&began), "a2");
        release_a2.send(()).unwrap();
        tasks.close();
    }

    #[test]
    fn a_panic_ends_its_piece_of_work_alone() {
        let tasks = Tasks::new(1);
        let (begun, began) = sync_channel(10);
        let (release, body) = held(&begun, "after");
        tasks.submit(name("a"), 9, || panic!("told to panic")).unwrap();
        tasks.submit(name("a"), 9, body).unwrap();
        assert_eq!(next(&began), "after");
        release.send(()).unwrap();
        tasks.close();
    }

    #[test]
    fn there_is_a_bound_on_what_waits_and_an_end() {
        let tasks = Tasks::new(1);
        let (begun, began) = sync_channel(10);
        let (release, body) = held(&begun, "first");
        tasks.submit(name("a"), 1, body).unwrap();
        assert_eq!(next(&began), "first");
        let (never, dropped) = sync_channel::<()>(1);
        tasks.submit(name("b"), 1, move || never.send(()).unwrap()).unwrap();
        assert!(matches!(tasks.submit(name("c"), 1, || {}), Err(Refusal::Full)));
        let closing = std::thread::spawn({
            let tasks = tasks.clone();
            move || tasks.close()
        });
        assert!(dropped.recv_timeout(PATIENCE).is_err(), "what waits is dropped undone");
        assert!(matches!(tasks.submit(name("c"), 9, || {}), Err(Refusal::Closed)));
        release.send(()).unwrap();
        closing.join().unwrap();
    }
}
