//! The requests under way on a connection: what those who ask share with the task that drives it.
//!
//! Whoever asks puts a request into the outbox and wakes the driver; the driver sends, and settles
//! requests as their answers come. All of it is behind one lock, and each side looks at what there
//! is and leaves its waker under the same one: nothing can come between.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use inferring_protocol::frames::{Outbox, Request, STREAMS_MAX};
use inferring_protocol::rest::Chunks;

use crate::sync::{Arc, Mutex, MutexGuard};

/// The requests under way, each of which ends with an `M`.
pub(crate) struct Calls<M>(Mutex<State<M>>);

pub(crate) struct State<M> {
    outbox: Outbox,
    waiting: HashMap<u32, Waiting<M>>,
    last: u32,
    /// The request that was sent when nothing was under way, until anything comes back.
    first_of_burst: Option<u32>,
    /// Whether no more requests are taken.
    is_closed: bool,
    driver: Option<Waker>,
}

/// Whoever waits for an answer.
enum Waiting<M> {
    Still(Option<Waker>),
    Over(M),
}

impl<M> Default for Calls<M> {
    fn default() -> Self {
        Self(Mutex::new(State {
            outbox: Outbox::default(),
            waiting: HashMap::new(),
            last: 0,
            first_of_burst: None,
            is_closed: false,
            driver: None,
        }))
    }
}

impl<M> Calls<M> {
    /// Has a request sent; `None` where none is taken.
    pub(crate) fn ask(this: &Arc<Self>, request: &Request<'_>, body: Chunks) -> Option<Asked<M>> {
        let mut state = this.lock();
        if state.is_closed || state.waiting.len() >= STREAMS_MAX {
            return None;
        }
        let Some(stream) = state.last.checked_add(1) else {
            // Its numbers are used up.
            state.is_closed = true;
            return None;
        };
        state.last = stream;
        if state.waiting.is_empty() {
            state.first_of_burst = Some(stream);
        }
        state.outbox.request(stream, request, body);
        state.waiting.insert(stream, Waiting::Still(None));
        state.wake_driver();
        Some(Asked { calls: this.clone(), stream })
    }

    /// All there is to know. No code that has it panics half-way.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    /// Whether no more requests are taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes no more requests; those under way go on.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.wake_driver();
    }

    /// What is to be sent.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Completes when nothing is left to do and nothing more can come; else the driver is woken
    /// for whatever comes.
    pub(crate) fn poll_done(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.is_closed && self.outbox.is_empty() && !self.is_awaited() {
            return Poll::Ready(());
        }
        self.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Something has come back.
    pub(crate) fn heard(&mut self) {
        self.first_of_burst = None;
    }

    /// The request that was sent when nothing was under way, if nothing has come back since.
    pub(crate) fn first_of_burst(&self) -> Option<u32> {
        self.first_of_burst
    }

    /// Hands out what became of a request, if anybody waits for it.
    pub(crate) fn settle(&mut self, stream: u32, message: M) {
        let Some(waiting) = self.waiting.get_mut(&stream) else { return };
        if let Waiting::Still(Some(waker)) = std::mem::replace(waiting, Waiting::Over(message)) {
            waker.wake();
        }
    }

    /// Takes no more requests, and ends all after `last` that have no answer, in the order in
    /// which they were asked.
    pub(crate) fn fail_after(&mut self, last: u32, message: impl Fn(u32) -> M) {
        self.is_closed = true;
        let is_still = |(&stream, waiting): (&u32, &Waiting<M>)| {
            (stream > last && matches!(waiting, Waiting::Still(_))).then_some(stream)
        };
        let mut streams: Vec<u32> = self.waiting.iter().filter_map(is_still).collect();
        streams.sort_unstable();
        for stream in streams {
            self.settle(stream, message(stream));
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Whether anything is still to come.
    fn is_awaited(&self) -> bool {
        self.waiting.values().any(|waiting| matches!(waiting, Waiting::Still(_)))
    }
}

/// A request that was sent: completes with what became of it. Dropped before that, it is cancelled.
pub(crate) struct Asked<M> {
    calls: Arc<Calls<M>>,
    stream: u32,
}

impl<M> Future for Asked<M> {
    type Output = M;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<M> {
        let mut state = self.calls.lock();
        match state.waiting.get_mut(&self.stream) {
            Some(Waiting::Still(waker)) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(Waiting::Over(_)) => match state.waiting.remove(&self.stream) {
                Some(Waiting::Over(message)) => Poll::Ready(message),
                _ => unreachable!("it has just been looked at"),
            },
            None => panic!("asked again after it was answered"),
        }
    }
}

impl<M> Drop for Asked<M> {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        if let Some(Waiting::Still(_)) = state.waiting.remove(&self.stream) {
            state.outbox.cancel(self.stream);
            state.wake_driver();
        }
    }
}
