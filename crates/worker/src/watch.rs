//! Follows what becomes of the models' files.
//!
//! The folder is looked at from time to time. That works on any file system, over a network as
//! well, and a change is acted upon only once two looks in a row have seen the same, so that a
//! model which is being copied is left in peace.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use inferring_repository::{Change, ChangeKind, RepositorySnapshot, Watch};
use parking_lot::Mutex;
use tracing::info;

use crate::loader::Loader;
use crate::system::Condvar;
use crate::threads::Threads;

/// Looks at the repository until it is stopped.
#[derive(Default)]
pub(crate) struct Watcher {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    threads: Threads,
}

impl Watcher {
    /// Begins to look, that often. `seen` is what was there when the models were loaded.
    ///
    /// # Errors
    /// The system's, where it starts no more threads.
    pub(crate) fn start(
        &self,
        loader: Arc<Loader>,
        seen: RepositorySnapshot,
        interval: Duration,
    ) -> io::Result<()> {
        let stopped = self.stopped.clone();
        self.threads.start("watch models".to_owned(), move || {
            let mut watch = Watch::new(seen);
            while !wait(&stopped, interval) {
                for change in watch.settle(loader.repository().scan()) {
                    follow(&loader, change);
                }
            }
        })?;
        Ok(())
    }

    /// Looks no more. This waits for a look that is under way.
    pub(crate) fn stop(&self) {
        let (stopped, changed) = &*self.stopped;
        *stopped.lock() = true;
        changed.notify_all();
        self.threads.join();
    }
}

/// Waits that long; `true` where it was told to stop.
fn wait((stopped, changed): &(Mutex<bool>, Condvar), interval: Duration) -> bool {
    let mut stopped = stopped.lock();
    // However short an interval is asked for, the disk is left alone in between.
    let interval = interval.max(Duration::from_millis(10));
    changed.wait_while_for(&mut stopped, |stopped| !*stopped, interval);
    *stopped
}

fn follow(loader: &Arc<Loader>, Change { name, kind }: Change) {
    info!(model = %name, ?kind, "the model's files have changed");
    match kind {
        ChangeKind::Added | ChangeKind::Changed => loader.follow_change(name),
        ChangeKind::Removed => loader.follow_removal(name),
    }
}
