//! One run of a model, as it looks to those who may want it to end.
//!
//! A run blocks the thread that makes it, so whoever no longer wants its answer is on another
//! thread, and does not know whether the run has not begun yet, is under way or is over. All
//! three must be safe to end: what has not begun does not begin, what is under way is told, and
//! what is over stays as it is. The engine is told under the same lock under which the end of
//! the run is noted; so nothing that an engine keeps for its next run is touched by an interrupt
//! that was meant for the last one.

use std::fmt;
use std::sync::{Arc, PoisonError};

use smallvec::SmallVec;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// One run of a model, as others can end it.
///
/// It is made for each run and costs next to nothing. A run that is made again, because its batch
/// was split, say, may be given the same one: who wanted the first to end does not want the
/// second.
pub struct Run {
    /// Written under the lock of `under_way`. It is read without by engines that hold locks of
    /// their own, which an interrupt takes in the opposite order.
    interrupted: AtomicBool,
    under_way: Mutex<SmallVec<[Arc<dyn Interrupt>; 1]>>,
}

/// What an engine gives to a [`Run`] so that it can be told to end.
pub trait Interrupt: Send + Sync {
    /// Tells the engine to end the run that it is making, and returns at once.
    ///
    /// It is called at most once for each [`Run::begin`], and never after the run has ended. It
    /// may take a lock only if no thread calls [`Run::begin`] or ends a run under that lock.
    fn interrupt(&self);
}

/// A run that is under way; it ends when this is dropped.
pub struct UnderWay<'r> {
    run: &'r Run,
    /// `None` once it has ended.
    engine: Option<Arc<dyn Interrupt>>,
}

/// The run had been interrupted before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run was interrupted")]
pub struct Interrupted;

impl Run {
    /// A run that nobody has interrupted.
    pub fn new() -> Self {
        Self { interrupted: AtomicBool::new(false), under_way: Mutex::new(SmallVec::new()) }
    }

    /// Ends the run: it does not begin, or the engine stops where it can, usually between two
    /// operators. Without effect on a run that is over. Never blocks for long, and any thread may
    /// call it, any number of times.
    pub fn interrupt(&self) {
        let under_way = self.lock();
        // Whoever was first has told every engine that was under way, and none began since.
        if self.interrupted.load(Ordering::Relaxed) {
            return;
        }
        self.interrupted.store(true, Ordering::Release);
        for engine in &*under_way {
            engine.interrupt();
        }
    }

    /// Whether [`Run::interrupt`] was called.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Whether an engine is making it at this moment.
    pub fn is_under_way(&self) -> bool {
        !self.lock().is_empty()
    }

    /// For engines: from here until the end of what is returned, an interrupt tells `engine`.
    ///
    /// # Errors
    /// [`Interrupted`]: the run is not to be begun.
    pub fn begin(&self, engine: Arc<dyn Interrupt>) -> Result<UnderWay<'_>, Interrupted> {
        let mut under_way = self.lock();
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        under_way.push(Arc::clone(&engine));
        Ok(UnderWay { run: self, engine: Some(engine) })
    }

    fn lock(&self) -> MutexGuard<'_, SmallVec<[Arc<dyn Interrupt>; 1]>> {
        // A panic of an engine's own code leaves the list as it should be.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay<'_> {
    /// Ends it, and says whether the engine was told to end it. From here on it is not.
    pub fn end(mut self) -> bool {
        self.leave()
    }

    fn leave(&mut self) -> bool {
        let Some(engine) = self.engine.take() else { return false };
        let mut under_way = self.run.lock();
        let own = under_way.iter().position(|other| Arc::ptr_eq(other, &engine));
        under_way.swap_remove(own.expect("it is listed from its beginning until here"));
        self.run.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interrupted = self.is_interrupted();
        f.debug_struct("Run").field("interrupted", &interrupted).finish_non_exhaustive()
    }
}
