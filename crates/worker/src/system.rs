//! What decides when something happens, the clock, threads and the waiting of threads, and what
//! nobody can know before.
//!
//! A simulation compiles this crate once more, over a clock and threads of its own
//! (`crates/worker-simulated`), so that a seed decides instead. Whoever reads the clock here, draws
//! a secret, starts a thread or lets one wait goes by this module or by [`crate::sync`].

use std::time::{Duration, Instant};

/// How long ago that was.
pub(crate) fn elapsed(since: Instant) -> Duration {
    now().saturating_duration_since(since)
}

#[cfg(not(simulated))]
mod real {
    use std::time::Instant;

    pub(crate) use parking_lot::Condvar;
    pub(crate) use std::thread::{Builder, JoinHandle};

    /// Now.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// What nobody can guess.
    pub(crate) fn secret() -> [u64; 4] {
        let draw = |_| getrandom::u64().expect("a system that has started has random numbers");
        std::array::from_fn(draw)
    }

    /// How many threads can make progress at a time.
    pub(crate) fn parallelism() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

#[cfg(simulated)]
mod simulated {
    pub(crate) use inferring_lockstep::{Builder, Condvar, JoinHandle, now};

    /// The same in every simulation.
    pub(crate) fn secret() -> [u64; 4] {
        [1, 2, 3, 4]
    }

    /// One at a time, whatever the machine.
    pub(crate) fn parallelism() -> usize {
        1
    }
}

#[cfg(not(simulated))]
pub(crate) use real::{Builder, Condvar, JoinHandle, now, parallelism, secret};
#[cfg(simulated)]
pub(crate) use simulated::{Builder, Condvar, JoinHandle, now, parallelism, secret};
