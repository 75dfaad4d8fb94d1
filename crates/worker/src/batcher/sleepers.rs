//! Instances that wait for a job, and whether one of them has been called.
//!
//! Calling an instance is a system call and a switch of threads, and one that comes may take all
//! there is. So one at a time is called, and if it leaves something it calls the next. All of this
//! is guarded by the lock that also guards the queue: who sleeps has seen it empty. Every order
//! in which threads can meet here is tried by loom (`tests/loom.rs`).

use crate::system::Condvar;

/// Instances of one model that have nothing to do.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    idle: usize,
    /// One of them has been called and has not come yet.
    is_called: bool,
}

impl Sleepers {
    /// Whether there is one to call, and none on its way already.
    pub(super) fn can_be_called(&self) -> bool {
        self.idle > 0 && !self.is_called
    }

    /// Calls one through `bell`, for which all of them wait; unless one is on its way.
    pub(super) fn call_one(&mut self, bell: &Condvar) {
        if self.can_be_called() {
            self.is_called = bell.notify_one();
        }
    }

    /// The instance that asks is about to wait.
    pub(super) fn falls_asleep(&mut self) {
        self.idle += 1;
    }

    /// It waits no longer, called or not, and will look at the queue.
    pub(super) fn has_come(&mut self) {
        self.idle -= 1;
        self.is_called = false;
    }
}
