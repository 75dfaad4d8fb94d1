//! The threads of a worker, owned until they have ended or are given up.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::system::{Builder, Condvar, JoinHandle};

/// Threads that were started and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Threads(Arc<Owned>);

#[derive(Debug, Default)]
struct Owned {
    state: Mutex<State>,
    one_less: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<ThreadNumber, JoinHandle<()>>,
    /// Those that have nothing left to do but to end.
    ending: Vec<JoinHandle<()>>,
    started: u64,
}

/// Tells the threads of one owner apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadNumber(u64);

impl Threads {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system's, where it starts no more threads.
    pub(crate) fn start(
        &self,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<ThreadNumber> {
        let mut state = self.0.state.lock();
        state.ending.drain(..).for_each(wait_for);
        state.started += 1;
        let number = ThreadNumber(state.started);
        let ending = Ending { owned: self.0.clone(), number };
        // It is listed before it can end: that takes the lock which is held here.
        let thread = Builder::new().name(name).spawn(move || {
            let _ending = ending;
            body();
        })?;
        state.running.insert(number, thread);
        Ok(number)
    }

    /// Gives up a thread that may never end: nobody waits for it any more.
    pub(crate) fn let_go(&self, number: ThreadNumber) {
        self.0.state.lock().running.remove(&number);
        self.0.one_less.notify_all();
    }

    /// Waits for all threads to end that are not let go. Whoever waits at the same time waits as
    /// long.
    pub(crate) fn join(&self) {
        let mut state = self.0.state.lock();
        self.0.one_less.wait_while(&mut state, |state| !state.running.is_empty());
        // Waited for under the lock: nobody starts threads any more, and nobody else may think
        // that they have ended before they have.
        state.ending.drain(..).for_each(wait_for);
    }
}

/// Notes that a thread ends, also when it panics.
struct Ending {
    owned: Arc<Owned>,
    number: ThreadNumber,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.owned.state.lock();
        if let Some(thread) = state.running.remove(&self.number) {
            state.ending.push(thread);
        }
        drop(state);
        self.owned.one_less.notify_all();
    }
}

fn wait_for(thread: JoinHandle<()>) {
    // A panic has been reported on the thread itself.
    let _ = thread.join();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn all_are_waited_for_but_those_that_are_let_go() {
        let threads = Arc::new(Threads::default());
        let (release, released) = sync_channel::<()>(0);
        let stuck = move || assert!(released.recv().is_err());
        let stuck = threads.start("stuck".to_owned(), stuck).unwrap();
        threads.start("quick".to_owned(), || {}).unwrap();
        threads.start("broken".to_owned(), || panic!("told to panic")).unwrap();
        let (joined, end) = sync_channel(1);
        let joining = std::thread::spawn({
            let threads = threads.clone();
            move || {
                threads.join();
                joined.send(()).unwrap();
            }
        });
        assert!(end.try_recv().is_err(), "one has not ended");
        threads.let_go(stuck);
        end.recv_timeout(PATIENCE).unwrap();
        joining.join().unwrap();
        // What comes back after it was let go ends unnoticed.
        drop(release);
    }
}
