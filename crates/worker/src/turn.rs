//! The turns of the threads that requests come on, and what is put off until they end.
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
//!
//! All this is seen to by a task of the thread, [`attend`]. When something is put off it comes after
//! the tasks that could go on by then, and before those that can only later: so turns end also on
//! a thread that always finds something to do.

use std::cell::RefCell;
use std::future::pending;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::batcher::Batcher;
use crate::system;

/// A run of less than this is short beside what it takes to receive the requests for it and to wake
/// an instance.
const SHORT_RUN: Duration = Duration::from_micros(100);

/// For how long the first of those that are put off may wait, while more is found.
pub(crate) const LOOKING_MAX: Duration = Duration::from_micros(250);

thread_local! {
    /// Who attends to this thread; nothing may be put off where nobody does.
    static ATTENDANT: RefCell<Option<Arc<Attendant>>> = const { RefCell::new(None) };
}

/// Sees to what is put off on a thread.
pub(crate) struct Attendant {
    /// `None` when it attends no longer.
    put_off: Mutex<Option<PutOff>>,
    something_is: Notify,
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

/// What is to follow when a thread has handed over all that had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    Over,
    /// It looks for more, and ends its turn again.
    LooksAgain,
}

/// Attends, for ever, to the thread that it is first polled on. One is enough for a thread; others
/// have nothing to do.
pub(crate) async fn attend() {
    let Some(attendant) = Attending::begin() else { return pending().await };
    loop {
        attendant.something_is.notified().await;
        while attendant.end_turn(system::now()) == Turn::LooksAgain {
            // Until the thread has looked.
            yield_now().await;
        }
    }
}

/// Has an instance woken when this thread's turn ends, for what came `now` and takes `run` to run;
/// false where nobody would.
pub(crate) fn put_off(batcher: &Arc<Batcher>, run: Duration, now: Instant) -> bool {
    ATTENDANT.with_borrow(|attendant| {
        attendant.as_ref().is_some_and(|attendant| attendant.put_off(batcher, run, now))
    })
}

impl PutOff {
    fn add(&mut self, batcher: &Arc<Batcher>, run: Duration, now: Instant) {
        if !self.batchers.iter().any(|known| Arc::ptr_eq(known, batcher)) {
            self.batchers.push(batcher.clone());
        }
        self.since.get_or_insert(now);
        self.is_news = true;
        self.has_long_runs |= run >= SHORT_RUN;
    }

    fn is_worth_another_look(&self, now: Instant) -> bool {
        let is_late = |since| now.saturating_duration_since(since) >= LOOKING_MAX;
        self.is_news && !self.has_long_runs && !self.since.is_some_and(is_late)
    }

    fn wake(self) {
        self.batchers.iter().for_each(|batcher| batcher.wake());
    }
}

impl Attendant {
    fn put_off(&self, batcher: &Arc<Batcher>, run: Duration, now: Instant) -> bool {
        let mut guard = self.put_off.lock();
        let Some(put_off) = &mut *guard else { return false };
        let is_first = put_off.batchers.is_empty();
        put_off.add(batcher, run, now);
        drop(guard);
        if is_first {
            self.something_is.notify_one();
        }
        true
    }

    /// All that had come is handed over.
    pub(crate) fn end_turn(&self, now: Instant) -> Turn {
        let mut guard = self.put_off.lock();
        let Some(put_off) = &mut *guard else { return Turn::Over };
        if put_off.is_worth_another_look(now) {
            put_off.is_news = false;
            return Turn::LooksAgain;
        }
        let put_off = std::mem::take(put_off);
        drop(guard);
        put_off.wake();
        Turn::Over
    }
}

/// An attendant in office, until this is dropped.
pub(crate) struct Attending(Arc<Attendant>);

impl Attending {
    /// Of this thread; `None` where it has one.
    pub(crate) fn begin() -> Option<Self> {
        ATTENDANT.with_borrow_mut(|here| {
            if here.as_ref().is_some_and(|attendant| attendant.put_off.lock().is_some()) {
                return None;
            }
            let put_off = Mutex::new(Some(PutOff::default()));
            let attendant = Arc::new(Attendant { put_off, something_is: Notify::new() });
            *here = Some(attendant.clone());
            Some(Self(attendant))
        })
    }
}

impl Deref for Attending {
    type Target = Attendant;

    fn deref(&self) -> &Attendant {
        &self.0
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let put_off = self.put_off.lock().take();
        put_off.into_iter().for_each(PutOff::wake);
    }
}
