//! Threads in lockstep: of all threads of a simulation one runs at a time, and whoever comes next
//! is drawn from a seed. So the same seed gives the same run, although these are real threads that
//! run real, blocking code.
//!
//! A thread keeps its turn until it waits: at a [`Condvar`], in [`sleep_until`], or for good. Then
//! another one that can go on has its turn, or the simulation's [`drive`](Lockstep::drive), which is
//! a task of a tokio runtime of one thread with paused time. That runtime's clock is the only
//! clock: it moves on when no task and no thread can do anything any more at the present moment.
//!
//! What it offers has the form of what it stands for: [`Builder`] and [`JoinHandle`] of
//! `std::thread`, [`Condvar`] of `parking_lot`, [`standard`] of `std::sync`, and [`now`] of
//! `Instant`. Code that is written against those is compiled over these instead, and is the same
//! code. What happens between two waits is not interleaved with anything: that is what loom is for.
//! See `docs/adr/0019-a-fleet-in-a-seed.md`.

mod condvar;
mod kernel;
pub mod standard;
mod thread;

use std::time::Instant;

pub use condvar::{Condvar, WaitTimeoutResult};
pub use kernel::Lockstep;
pub use thread::{Builder, JoinHandle, sleep_until};

/// Now, by the simulation's clock.
///
/// # Panics
/// On a thread that belongs to no simulation.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
