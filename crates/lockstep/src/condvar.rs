//! Threads that wait for each other, in the form of `parking_lot`.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::kernel::{Number, Place};

/// Stands for [`parking_lot::Condvar`].
#[derive(Debug, Default)]
pub struct Condvar {
    waiting: Mutex<Vec<Number>>,
}

/// Whether a wait ended because its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// One that nobody waits at.
    pub const fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// Wakes one of those who wait, drawn at random; whether there was any.
    pub fn notify_one(&self) -> bool {
        let mut waiting = self.waiting.lock();
        while !waiting.is_empty() {
            let kernel = Place::here().kernel;
            let place = kernel.draw(waiting.len());
            let number = waiting.swap_remove(place);
            // One whose time is over, and that has not had its turn since, waits no more.
            if kernel.wake(number) {
                return true;
            }
        }
        false
    }

    /// Wakes all who wait; how many there were.
    pub fn notify_all(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        if waiting.is_empty() {
            return 0;
        }
        let kernel = Place::here().kernel;
        waiting.into_iter().filter(|number| kernel.wake(*number)).count()
    }

    /// Waits until it is notified.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_at_most(guard, None);
    }

    /// Waits until it is notified, or until that moment.
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        moment: Instant,
    ) -> WaitTimeoutResult {
        self.wait_at_most(guard, Some(moment))
    }

    /// Waits until it is notified, or that long.
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        time: Duration,
    ) -> WaitTimeoutResult {
        self.wait_until(guard, crate::now() + time)
    }

    /// Waits as long as the condition holds.
    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    /// Waits as long as the condition holds, but not longer than that.
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        time: Duration,
    ) -> WaitTimeoutResult {
        let end = crate::now() + time;
        while condition(guard) {
            if self.wait_until(guard, end).timed_out() {
                return WaitTimeoutResult(condition(guard));
            }
        }
        WaitTimeoutResult(false)
    }

    fn wait_at_most<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Option<Instant>,
    ) -> WaitTimeoutResult {
        let place = Place::here();
        let number = place.number.expect("the runtime's thread never blocks");
        self.waiting.lock().push(number);
        // Nobody else has a turn between the two.
        let timed_out = MutexGuard::unlocked(guard, || place.wait(until));
        if timed_out {
            self.waiting.lock().retain(|other| *other != number);
        }
        WaitTimeoutResult(timed_out)
    }
}
