//! How the watchdog sleeps while nothing runs, and is awake before a run can be missed.
//!
//! Whoever begins a run pays a look at one flag for it. The flag is raised before the watchdog
//! looks whether anything runs: so either it sees the run, or the run's beginner sees the flag.
//! Both look under the lock of the instance's workbench, which puts one before the other.

use std::sync::PoisonError;
use std::time::Instant;

use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering};
use crate::system;

/// Whether the watchdog watches, or is to be woken.
pub(crate) struct Attention {
    /// Whether whoever begins a run is to say so.
    wants_notice: AtomicBool,
    closed: Mutex<bool>,
    noticed: Condvar,
}

impl Attention {
    pub(crate) fn new() -> Self {
        Self {
            wants_notice: AtomicBool::new(false),
            closed: Mutex::new(false),
            noticed: Condvar::new(),
        }
    }

    /// Says that a run has begun, after it can be seen.
    pub(crate) fn notice(&self) {
        // A plain look first: it is hardly ever raised, and runs begin on many threads.
        if self.wants_notice.load(Ordering::Acquire)
            && self.wants_notice.swap(false, Ordering::AcqRel)
        {
            // Not between the sleeper's last look at the flag and its sleep.
            drop(self.lock());
            self.noticed.notify_all();
        }
    }

    /// Raises the flag, before a look at what runs.
    pub(crate) fn look(&self) {
        self.wants_notice.store(true, Ordering::Release);
    }

    /// Sleeps until that moment; where nothing runs, until a run begins. `false` once it is
    /// closed.
    pub(crate) fn sleep(&self, until: Option<Instant>) -> bool {
        let mut closed = self.lock();
        match until {
            None => {
                while !*closed && self.wants_notice.load(Ordering::Acquire) {
                    closed = self.noticed.wait(closed).unwrap_or_else(PoisonError::into_inner);
                }
            }
            Some(until) => {
                // It comes back in time by itself.
                self.wants_notice.store(false, Ordering::Release);
                while !*closed {
                    let left = until.saturating_duration_since(system::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.noticed.wait_timeout(closed, left);
                    closed = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        !*closed
    }

    /// Wakes whoever sleeps, for good.
    pub(crate) fn close(&self) {
        *self.lock() = true;
        self.noticed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
