//! The same in the form of `std::sync`. Nothing here is ever poisoned.

use std::ops::{Deref, DerefMut};
use std::sync::LockResult;
use std::time::Duration;

use crate::condvar::{Condvar as Inner, WaitTimeoutResult};

/// Stands for [`std::sync::Mutex`].
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(parking_lot::Mutex<T>);

/// Stands for [`std::sync::MutexGuard`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized>(parking_lot::MutexGuard<'a, T>);

/// Stands for [`std::sync::Condvar`].
#[derive(Debug, Default)]
pub struct Condvar(Inner);

impl<T> Mutex<T> {
    /// A mutex over this.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks it.
    ///
    /// # Errors
    /// Never.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(MutexGuard(self.0.lock()))
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Condvar {
    /// One that nobody waits at.
    pub const fn new() -> Self {
        Self(Inner::new())
    }

    /// Wakes one of those who wait.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits until it is notified.
    ///
    /// # Errors
    /// Never.
    pub fn wait<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(&mut guard.0);
        Ok(guard)
    }

    /// Waits until it is notified, or that long.
    ///
    /// # Errors
    /// Never.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let result = self.0.wait_for(&mut guard.0, time);
        Ok((guard, result))
    }
}
