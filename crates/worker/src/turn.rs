//! The turns of the threads that requests come on.
//!
//! A serving thread reads what has come on all its connections, hands over each request, and then
//! waits for more: that is a turn. To wake an instance with the first request of a turn has it run
//! that one alone, on the processor that the others are being read on. So an instance is woken at
//! the end of the turn, for all of them; that is microseconds later, and a request that comes alone
//! ends its turn at once.

use std::cell::RefCell;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::batcher::Batcher;

thread_local! {
    /// Whose instances are to be woken at the end of this thread's turn; `None` where it does not
    /// tell of its turns, so that nothing may be put off.
    static TURN: RefCell<Option<SmallVec<[Arc<Batcher>; 4]>>> = const { RefCell::new(None) };
}

/// Has an instance woken when this thread's turn ends; false where nobody would.
pub(crate) fn put_off(batcher: &Arc<Batcher>) -> bool {
    TURN.with_borrow_mut(|turn| {
        let Some(batchers) = turn else { return false };
        if !batchers.iter().any(|known| Arc::ptr_eq(known, batcher)) {
            batchers.push(batcher.clone());
        }
        true
    })
}

/// This thread's turn has ended, and whatever comes next on it is of another one that will end.
pub(crate) fn end() {
    let batchers = TURN.with_borrow_mut(|turn| turn.replace(SmallVec::new()));
    batchers.into_iter().flatten().for_each(|batcher| batcher.wake());
}
