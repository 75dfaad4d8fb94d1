//! How long a process lives: what goes on in it ends with it, wherever it is.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The life of a process.
#[derive(Default)]
pub(crate) struct Life {
    is_over: Mutex<bool>,
    told: Notify,
}

impl Life {
    /// It is over, and with it what was begun by [`Life::share`].
    pub(crate) fn end(&self) {
        *self.is_over.lock() = true;
        self.told.notify_waiters();
    }

    /// What comes of some work in that process; `None` where the process ends before.
    pub(crate) async fn share<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        // In this order: nothing goes on in the moment of the end.
        tokio::select! {
            biased;
            () = self.over() => None,
            result = work => Some(result),
        }
    }

    async fn over(&self) {
        loop {
            let told = self.told.notified();
            if *self.is_over.lock() {
                return;
            }
            told.await;
        }
    }
}
