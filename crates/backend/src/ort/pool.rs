//! The threads that help with runs: the pool that all sessions share.
//!
//! A run is made by the thread that asks for it, and split over the pool where its operators are
//! large enough. On a machine with nothing else to do that is what makes a lone request quick.
//! Where every core has a caller of its own it is a hindrance: each operator wakes a thread that
//! takes the core from another caller for some microseconds of work. So the pool's threads stand
//! behind all others in the system's queue. They take cores that nobody else wants, and where
//! there is none, a caller does the work itself: two callers on two cores are as fast as without
//! a pool, and one caller as with it. See `docs/adr/0010-one-model-many-threads.md`.

use std::io;
use std::thread::{Builder, JoinHandle};

use ort::environment::ThreadManager;

/// How far behind, as `nice` counts. At 5 half of the hindrance is left, at 10 none; what is more
/// would make callers wait for a helper that has begun and then gets no core at all.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Starts the pool's threads.
pub(super) struct Helpers;

impl ThreadManager for Helpers {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let body = || {
            if let Err(error) = stand_back() {
                tracing::debug!(%error, "a thread of the engine's pool keeps its priority");
            }
            work();
        };
        Builder::new().name("run helper".to_owned()).spawn(body).map_err(ort::Error::wrap)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        // A panic has been reported on its own thread.
        let _ = thread.join();
        Ok(())
    }
}

/// Lowers the priority of the calling thread, and of it alone.
fn stand_back() -> io::Result<()> {
    // Elsewhere this would lower the priority of the whole process.
    #[cfg(target_os = "linux")]
    {
        let own = rustix::process::getpriority_process(None)?;
        rustix::process::setpriority_process(None, own.max(NICENESS))?;
    }
    Ok(())
}
