//! What an instance has in hand, where the watchdog can take it away.
//!
//! The instance's thread is inside the engine while it runs a batch, and may never come back. So
//! the batch does not lie on that thread's stack but here: whoever finds that the run hangs takes
//! it and answers it. The thread finds an empty bench if it comes back, and its outputs are
//! thrown away: they would come twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::batcher::Batch;
use crate::party::Party;

/// The batches that one instance has taken and not yet answered.
#[derive(Default)]
pub(super) struct Workbench(Mutex<State>);

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Parts of a batch that failed as a whole; they are run one after the other.
    later: Vec<Batch>,
    /// Another instance has taken this one's place.
    is_replaced: bool,
}

/// A batch that is being run.
struct Current {
    batch: Batch,
    party: Arc<Party>,
    begun: Instant,
    /// Since when it is known that the run is to end.
    interrupted: Option<Instant>,
    over_limit: bool,
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// After which it is interrupted; `None` for as long as anybody waits for it.
    pub(super) limit: Option<Duration>,
    /// After which it hangs, from when it was interrupted.
    pub(super) grace: Duration,
}

/// A batch whose run is over.
pub(super) struct Ended {
    pub(super) batch: Batch,
    /// Whether it was interrupted because it took longer than it may.
    pub(super) over_limit: bool,
}

/// What a run looks like from outside.
pub(super) enum Sight {
    Idle,
    /// It goes on, and there is something new to say about it at this moment.
    Running {
        due: Option<Instant>,
        went_over_limit: bool,
    },
    /// It does not end. With what it runs, and what was to follow.
    Stuck {
        batch: Batch,
        over_limit: bool,
        later: Vec<Batch>,
    },
}

impl Workbench {
    /// Puts a batch there, whose run begins now.
    pub(super) fn begin(&self, batch: Batch, party: Arc<Party>, begun: Instant) {
        let current = Current { batch, party, begun, interrupted: None, over_limit: false };
        self.0.lock().current = Some(current);
    }

    /// Takes the batch back from there after its run; `None` where it was taken away meanwhile.
    pub(super) fn end(&self) -> Option<Ended> {
        let Current { batch, over_limit, .. } = self.0.lock().current.take()?;
        Some(Ended { batch, over_limit })
    }

    /// Keeps a batch to be run when the present one is done.
    pub(super) fn put_aside(&self, batch: Batch) {
        self.0.lock().later.push(batch);
    }

    /// The batch that was put aside last.
    pub(super) fn next(&self) -> Option<Batch> {
        self.0.lock().later.pop()
    }

    /// Drops all that is there; whoever waits for it is told that it was given up.
    pub(super) fn clear(&self) {
        let (current, later) = {
            let mut state = self.0.lock();
            (state.current.take(), std::mem::take(&mut state.later))
        };
        drop((current, later));
    }

    /// Whether another instance has taken this one's place.
    pub(super) fn is_replaced(&self) -> bool {
        self.0.lock().is_replaced
    }

    /// From now on, another instance has this one's place.
    pub(super) fn replace(&self) {
        self.0.lock().is_replaced = true;
    }

    /// Looks at the run, interrupts it when its time is over, and takes it away when it hangs.
    pub(super) fn look(&self, patience: Patience, now: Instant) -> Sight {
        let mut state = self.0.lock();
        let Some(current) = &mut state.current else {
            return Sight::Idle;
        };
        let limit = patience.limit.map(|limit| current.begun + limit);
        let mut went_over_limit = false;
        if current.interrupted.is_none() {
            if current.party.run().is_interrupted() {
                current.interrupted = Some(now);
            } else if limit.is_some_and(|limit| limit <= now) {
                current.party.run().interrupt();
                (current.interrupted, current.over_limit) = (Some(now), true);
                went_over_limit = true;
            }
        }
        let hangs_from = current.interrupted.map(|moment| moment + patience.grace);
        if hangs_from.is_none_or(|moment| now < moment) {
            return Sight::Running { due: hangs_from.or(limit), went_over_limit };
        }
        let Current { batch, over_limit, .. } = state.current.take().expect("it was there");
        Sight::Stuck { batch, over_limit, later: std::mem::take(&mut state.later) }
    }
}
