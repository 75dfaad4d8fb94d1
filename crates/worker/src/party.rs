//! Those for whom a batch runs, while it runs.
//!
//! A batch has a member for each of its jobs. A member leaves when the last client that waits for
//! its job has gone; the run ends early when all have left, and only then: an engine cannot end a
//! part of a run. A client may come to a job that had been left as long as the run has not been
//! ended, and not after that: both are decided in one step, so nobody joins what is being given
//! up.

use std::sync::Arc;

use inferring_backend::Run;

use crate::sync::{AtomicUsize, Ordering};

/// The members of one running batch.
pub(crate) struct Party {
    /// Members that are there. Once there is none, there is none for ever.
    members: AtomicUsize,
    run: Run,
}

impl Party {
    /// A party of so many members, at least one, for a run that has not begun.
    pub(crate) fn new(members: usize) -> Arc<Self> {
        debug_assert_ne!(members, 0, "nobody runs for nobody");
        Arc::new(Self { members: AtomicUsize::new(members), run: Run::new() })
    }

    /// A member leaves; with the last one the run ends. Each member leaves at most once more
    /// often than it rejoins.
    pub(crate) fn leave(&self) {
        if self.members.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.run.interrupt();
        }
    }

    /// A member that had left is there again; `false` where that is too late, because the run is
    /// being ended.
    pub(crate) fn rejoin(&self) -> bool {
        let one_more = |members| (members > 0).then_some(members + 1);
        self.members.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    /// The run that is made for them.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }
}
