//! The threads of a worker, owned until they have ended.

use std::io;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

/// Threads that were started and not yet waited for.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// Starts a thread, and lets go of those that have ended.
    ///
    /// # Errors
    /// The system's, where it starts no more threads.
    pub(crate) fn start(
        &self,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mut threads = self.0.lock();
        let ended = threads.extract_if(.., |thread| thread.is_finished());
        ended.for_each(wait_for);
        threads.push(Builder::new().name(name).spawn(body)?);
        Ok(())
    }

    /// Waits for all threads to end. Whoever waits at the same time waits as long.
    pub(crate) fn join(&self) {
        // Waited for under the lock: nobody starts threads any more, and nobody else may think
        // that they have ended before they have.
        self.0.lock().drain(..).for_each(wait_for);
    }
}

fn wait_for(thread: JoinHandle<()>) {
    // A panic has been reported on the thread itself.
    let _ = thread.join();
}
