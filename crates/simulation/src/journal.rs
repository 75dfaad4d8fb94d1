//! The books on who was asked what, kept where requests leave a gateway, and held against the
//! gateway's promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferring_types::{InferRequest, WorkerId};
use parking_lot::Mutex;

use crate::trace::Trace;

/// Tries of all requests.
pub(crate) struct Journal {
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Workers that a request was sent to so far, in their order.
    asked: BTreeMap<String, Vec<WorkerId>>,
    /// Tries in flight of each gateway, by worker.
    in_flight: BTreeMap<(usize, WorkerId), u64>,
    tries: u64,
}

/// A try in flight, until it is dropped.
pub(crate) struct Try<'a> {
    journal: &'a Journal,
    gateway: usize,
    worker: WorkerId,
    request: String,
}

impl Journal {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, state: Mutex::default() })
    }

    /// A gateway sends a request to a worker.
    pub(crate) fn begin_try(
        &self,
        gateway: usize,
        request: &InferRequest,
        worker: &WorkerId,
    ) -> Try<'_> {
        let mut state = self.state.lock();
        state.tries += 1;
        let id = request.id.to_string();
        let asked = state.asked.entry(id.clone()).or_default();
        let is_new = !asked.contains(worker);
        asked.push(worker.clone());
        *state.in_flight.entry((gateway, worker.clone())).or_default() += 1;
        drop(state);
        self.trace.note(format_args!("{id} goes from gateway {gateway} to {worker}"));
        self.trace.check(is_new, || format!("{id} was sent to {worker} twice"));
        Try { journal: self, gateway, worker: worker.clone(), request: id }
    }

    /// Workers that the request of this id was sent to, in their order.
    pub(crate) fn asked(&self, request: &str) -> Vec<WorkerId> {
        self.state.lock().asked.get(request).cloned().unwrap_or_default()
    }

    /// How many tries there were.
    pub(crate) fn tries(&self) -> u64 {
        self.state.lock().tries
    }

    /// Tries in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.state.lock().in_flight.values().sum()
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let Self { journal, gateway, worker, request } = self;
        let mut state = journal.state.lock();
        if let Some(count) = state.in_flight.get_mut(&(*gateway, worker.clone())) {
            *count -= 1;
        }
        drop(state);
        journal.trace.note(format_args!("{request} is over at {worker}"));
    }
}
