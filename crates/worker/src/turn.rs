//! The turns of the threads that requests come on.
//!
//! A serving thread reads what has come on all its connections, hands over each request, and then
//! waits for more: that is a turn. To wake an instance with the first request of a turn has it run
//! that one alone, on the processor that the others are being read on. So an instance is woken at
//! the end of the turn, for all of them; that is microseconds later, and a request that comes alone
//! ends its turn at once.
//!
//! While a thread reads and answers requests, others come. Where a run takes no longer than that,
//! each turn would have a run of its own, of the few that came during the one before, and waking
//! for it would cost more than the run. So the thread first looks whether more has come, as long as
//! it finds something and for a short time at most.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::Turn;
use smallvec::SmallVec;

use crate::batcher::Batcher;

/// A run of less than this is short beside what it takes to receive the requests for it and to wake
/// an instance.
const SHORT_RUN: Duration = Duration::from_micros(100);

/// For how long the first of those that are put off may wait, while more is found.
pub(crate) const LOOKING_MAX: Duration = Duration::from_micros(250);

thread_local! {
    /// What is put off until the end of this thread's turn; `None` where it does not tell of its
    /// turns, so that nothing may be put off.
    static TURN: RefCell<Option<PutOff>> = const { RefCell::new(None) };
}

/// Whose instances are to be woken, and since when.
#[derive(Default)]
struct PutOff {
    batchers: SmallVec<[Arc<Batcher>; 4]>,
    since: Option<Instant>,
    /// Whether something was added since the thread last looked for more.
    is_news: bool,
    /// Whether one of them has longer runs, for which nobody should wait.
    has_long_runs: bool,
}

impl PutOff {
    fn is_worth_another_look(&self, now: Instant) -> bool {
        let is_late = |since| now.saturating_duration_since(since) >= LOOKING_MAX;
        self.is_news && !self.has_long_runs && !self.since.is_some_and(is_late)
    }
}

/// Has an instance woken when this thread's turn ends, for what came `now` and takes `run` to run;
/// false where nobody would.
pub(crate) fn put_off(batcher: &Arc<Batcher>, run: Duration, now: Instant) -> bool {
    TURN.with_borrow_mut(|turn| {
        let Some(put_off) = turn else { return false };
        if !put_off.batchers.iter().any(|known| Arc::ptr_eq(known, batcher)) {
            put_off.batchers.push(batcher.clone());
        }
        put_off.since.get_or_insert(now);
        put_off.is_news = true;
        put_off.has_long_runs |= run >= SHORT_RUN;
        true
    })
}

/// This thread's turn has ended `now`, and whatever comes next on it is of another one that will
/// end.
pub(crate) fn end(now: Instant) -> Turn {
    let ended = TURN.with_borrow_mut(|turn| match turn {
        Some(put_off) if put_off.is_worth_another_look(now) => {
            put_off.is_news = false;
            None
        }
        _ => Some(turn.replace(PutOff::default())),
    });
    let Some(ended) = ended else { return Turn::LooksAgain };
    ended.into_iter().flat_map(|ended| ended.batchers).for_each(|batcher| batcher.wake());
    Turn::Over
}
