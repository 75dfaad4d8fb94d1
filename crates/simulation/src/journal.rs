//! The books on who was asked what, kept where requests leave a gateway, and held against the
//! gateway's promises.
//!
//! A try **rides** if an equal one of the same gateway is in flight at the same worker and none of
//! them is answered yet: it waits for that one's run, so it is allowed by no bound on load and,
//! after a failure, by no budget. Hedges neither ride nor are ridden along with, and whoever is
//! tried again may ride on what was answered before. A **witness** runs on when it has been given
//! up, in a task of its own: what is sent while nothing but a witness is in flight may be its hedge,
//! or may come after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inferring_types::{
    Blame, ErrorKind, InferRequest, InferResponse, RequestId, RoutingKey, ServiceError, WorkerId,
    WorkerSpec,
};
use parking_lot::Mutex;
use tokio::task;

use crate::front::Incarnation;
use crate::trace::Trace;

/// Tries of all requests.
pub(crate) struct Journal {
    trace: Arc<Trace>,
    /// Whether nothing is wrong, so that what each worker may have in flight is known.
    is_calm: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: BTreeMap<String, Asked>,
    gateways: BTreeMap<Incarnation, Account>,
    tries: u64,
}

/// What was done about a request.
#[derive(Default)]
struct Asked {
    /// Whom it was sent to, in their order.
    workers: Vec<WorkerId>,
    in_flight: u64,
    /// Tries in flight that may have been given up.
    witnesses: u64,
    /// The task of whoever asked.
    task: Option<task::Id>,
    /// Its last try ended in a way after which another one costs nothing.
    next_is_free: bool,
    /// It is certain that its last try has had no effect.
    last_did_nothing: bool,
}

/// What a gateway has in hand. The books of one process are not those of the next.
#[derive(Default)]
struct Account {
    /// From when on, and until when it lived, in seconds.
    began: f64,
    ended: Option<f64>,
    requests: u64,
    requests_ever: u64,
    /// Tries that do not ride.
    tries: BTreeMap<WorkerId, u64>,
    /// Tries that are no hedges, by what they ask and of whom.
    under_way: BTreeMap<(RoutingKey, WorkerId), u64>,
    /// What was ever answered.
    answered: BTreeSet<RoutingKey>,
    /// Tries in flight that the retry budget has to allow: number, and when each began, in seconds.
    extra: BTreeMap<u64, f64>,
    /// How many there ever were.
    extra_ever: u64,
    /// Workers that it is to send nothing new.
    barred: BTreeMap<WorkerId, Bar>,
}

/// Why a gateway is to send nothing new to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bar {
    /// It drains. What goes on with a sequence that it keeps is not new.
    Drains,
    /// It is no worker of the gateway.
    Left,
}

impl Bar {
    /// What a list says of a worker; `None` where it is to be asked.
    pub(crate) fn of(worker: &WorkerId, list: &[WorkerSpec]) -> Option<Self> {
        match list.iter().find(|listed| listed.id == *worker) {
            None => Some(Self::Left),
            Some(listed) => listed.draining.then_some(Self::Drains),
        }
    }
}

/// A request in flight, until it is dropped.
pub(crate) struct Active<'a> {
    journal: &'a Journal,
    gateway: Incarnation,
}

/// A try in flight, until it is dropped.
pub(crate) struct Try<'a> {
    journal: &'a Journal,
    gateway: Incarnation,
    worker: WorkerId,
    request: String,
    key: RoutingKey,
    is_hedge: bool,
    rides: bool,
    number: u64,
    is_witness: bool,
    /// Whether another try after this one costs nothing.
    next_is_free: bool,
    did_nothing: bool,
}

impl Journal {
    /// What a gateway's retry budget is by default: the share of requests in flight, the tries at a
    /// time that are always allowed, and those each second.
    const BUDGET: (f64, f64, f64) = (0.2, 3.0, 10.0);
    /// For how many seconds a try counts among those at a time.
    const BURST: f64 = 0.25;
    /// How far above its fair share of tries in flight a worker may be, by default.
    const BOUND: f64 = 1.25;

    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, is_calm: AtomicBool::new(false), state: Mutex::default() })
    }

    /// From here on, all workers are well and equal.
    pub(crate) fn is_calm_now(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// A process of a gateway begins.
    pub(crate) fn begin(&self, gateway: Incarnation) {
        let account = Account { began: self.trace.seconds(), ..Account::default() };
        self.state.lock().gateways.insert(gateway, account);
    }

    /// It is over, and sends nothing any more.
    pub(crate) fn end(&self, gateway: Incarnation) {
        self.state.lock().gateways.entry(gateway).or_default().ended = Some(self.trace.seconds());
    }

    /// A gateway may send requests to a worker.
    pub(crate) fn allow(&self, gateway: Incarnation, worker: &WorkerId) {
        self.state.lock().gateways.entry(gateway).or_default().barred.remove(worker);
    }

    /// A gateway is not to send anything new to a worker.
    pub(crate) fn bar(&self, gateway: Incarnation, worker: &WorkerId, bar: Bar) {
        let state = &mut *self.state.lock();
        state.gateways.entry(gateway).or_default().barred.insert(worker.clone(), bar);
    }

    /// A client asks a gateway, in its own task.
    pub(crate) fn begin_request(&self, gateway: Incarnation, request: &RequestId) -> Active<'_> {
        let mut state = self.state.lock();
        state.requests.entry(request.to_string()).or_default().task = task::try_id();
        let account = state.gateways.entry(gateway).or_default();
        account.requests += 1;
        account.requests_ever += 1;
        Active { journal: self, gateway }
    }

    /// A gateway sends a request to a worker.
    pub(crate) fn begin_try(
        &self,
        gateway: Incarnation,
        request: &InferRequest,
        worker: &WorkerId,
    ) -> Try<'_> {
        let id = request.id.to_string();
        let key = match &request.sequence {
            Some(step) => RoutingKey::of_sequence(&request.model, &step.id),
            None => RoutingKey::of(&request.model, &request.inputs),
        };
        let state = &mut *self.state.lock();
        state.tries += 1;
        let asked = state.requests.entry(id.clone()).or_default();
        let is_first = asked.workers.is_empty();
        let is_new = !asked.workers.contains(worker);
        let is_witness = task::try_id() != asked.task;
        let is_hedge = asked.in_flight > asked.witnesses;
        let account = state.gateways.entry(gateway).or_default();
        let under_way = account.under_way.entry((key, worker.clone())).or_default();
        let is_known = is_first && account.answered.contains(&key);
        let is_sequence = request.sequence.is_some();
        let rides = *under_way > 0 && !is_hedge && !is_known && !is_sequence;
        let is_beside = asked.in_flight > 0;
        let is_extra = !rides && !is_sequence && (is_beside || !is_first && !asked.next_is_free);
        *under_way += u64::from(!is_hedge);
        asked.workers.push(worker.clone());
        asked.in_flight += 1;
        asked.witnesses += u64::from(is_witness);
        *account.tries.entry(worker.clone()).or_default() += u64::from(!rides);
        let number = state.tries;
        if is_extra {
            account.extra.insert(number, self.trace.seconds());
        }
        account.extra_ever += u64::from(is_extra);
        let what = match (is_extra, rides) {
            (true, _) => "goes once more",
            (false, true) => "rides",
            (false, false) => "goes",
        };
        self.trace.note(format_args!("{id} {what} from {gateway} to {worker}"));
        self.trace.check(is_new, || format!("{id} was sent to {worker} twice"));
        self.trace
            .check(account.ended.is_none(), || format!("{id} goes from {gateway}, which died"));
        let goes_on = request.sequence.as_ref().is_some_and(|step| !step.start);
        let is_barred = match account.barred.get(worker) {
            None => false,
            Some(Bar::Drains) => !goes_on,
            Some(Bar::Left) => true,
        };
        self.trace.check(!is_barred, || {
            format!("{id} goes from {gateway} to {worker}, which it is to leave alone")
        });
        let may_be_sent = !is_sequence || is_first || asked.last_did_nothing && !is_beside;
        self.trace.check(may_be_sent, || format!("{id} may be heard twice"));
        if is_extra {
            self.check_budget(gateway, account);
        }
        if is_first && !rides && self.is_calm.load(Ordering::Relaxed) {
            self.check_bound(gateway, account, worker);
        }
        let (worker, request) = (worker.clone(), id);
        let (next_is_free, did_nothing) = (false, false);
        Try {
            journal: self,
            gateway,
            worker,
            request,
            key,
            is_hedge,
            rides,
            number,
            is_witness,
            next_is_free,
            did_nothing,
        }
    }

    fn check_budget(&self, gateway: Incarnation, account: &Account) {
        let (share, in_flight_min, _) = Self::BUDGET;
        let allowed = (share * account.requests as f64).max(in_flight_min);
        // A hair less, as moments are rounded.
        let recent = self.trace.seconds() - Self::BURST + 1e-6;
        let extra = account.extra.values().filter(|&&began| began > recent).count();
        self.trace.check(extra as f64 <= allowed, || {
            format!("{gateway} has {extra} extra tries for {} requests", account.requests)
        });
    }

    /// All workers are well here, and of one weight.
    fn check_bound(&self, gateway: Incarnation, account: &Account, worker: &WorkerId) {
        let total: u64 = account.tries.values().sum();
        let fair = Self::BOUND * total as f64 / account.tries.len() as f64;
        let there = account.tries[worker];
        self.trace.check(there as f64 <= fair.ceil().max(1.0), || {
            format!("{gateway} has {there} of {total} tries at {worker}")
        });
    }

    /// Workers that the request of this id was sent to, in their order.
    pub(crate) fn asked(&self, request: &str) -> Vec<WorkerId> {
        let state = self.state.lock();
        state.requests.get(request).map(|asked| asked.workers.clone()).unwrap_or_default()
    }

    /// How many tries there were.
    pub(crate) fn tries(&self) -> u64 {
        self.state.lock().tries
    }

    /// Holds the books of all the time against what is allowed over time, and sees that nothing is
    /// in flight.
    pub(crate) fn close(&self) {
        let (share, _, reserve) = Self::BUDGET;
        for (gateway, account) in &self.state.lock().gateways {
            let seconds = account.ended.unwrap_or_else(|| self.trace.seconds()) - account.began;
            let allowed = share * account.requests_ever as f64 + reserve * (1.0 + seconds);
            self.trace.check(account.extra_ever as f64 <= allowed, || {
                let (extra, requests) = (account.extra_ever, account.requests_ever);
                format!("{gateway} made {extra} extra tries for {requests} requests")
            });
            self.check_idle(*gateway, account);
        }
    }

    /// Sees that nothing is left of a process that has ended.
    pub(crate) fn check_ended(&self, gateway: Incarnation) {
        self.check_idle(gateway, &self.state.lock().gateways[&gateway]);
    }

    fn check_idle(&self, gateway: Incarnation, account: &Account) {
        let (tries, requests) = (account.tries.values().sum::<u64>(), account.requests);
        self.trace.check(tries == 0 && account.extra.is_empty() && requests == 0, || {
            format!("{gateway} has {tries} tries and {requests} requests in flight for nobody")
        });
    }
}

impl Try<'_> {
    /// How it ended, where it was not given up.
    pub(crate) fn ends(&mut self, result: &Result<InferResponse, ServiceError>) {
        if result.is_ok() {
            let state = &mut *self.journal.state.lock();
            state.gateways.entry(self.gateway).or_default().answered.insert(self.key);
        }
        // Who refuses a step has not begun it; who has no more time for it may have.
        self.did_nothing = result.as_ref().is_err_and(|error| {
            let is_refused = matches!(error.blame(), Blame::Client | Blame::Server)
                && error.kind() != ErrorKind::DeadlineExceeded;
            error.is_unsent() || is_refused
        });
        self.next_is_free = result.as_ref().is_err_and(|error| {
            error.is_unsent()
                || error.kind() == ErrorKind::Overloaded
                || error.kind() == ErrorKind::NotFound
                || (error.kind() == ErrorKind::Unavailable && error.blame() == Blame::Server)
        });
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let Self { journal, gateway, worker, request, next_is_free, .. } = self;
        let state = &mut *journal.state.lock();
        if let Some(account) = state.gateways.get_mut(gateway) {
            account.extra.remove(&self.number);
            if let Some(tries) = account.tries.get_mut(worker) {
                *tries -= u64::from(!self.rides);
            }
            if let Some(under_way) = account.under_way.get_mut(&(self.key, worker.clone())) {
                *under_way -= u64::from(!self.is_hedge);
            }
        }
        if let Some(asked) = state.requests.get_mut(request) {
            asked.in_flight -= 1;
            asked.witnesses -= u64::from(self.is_witness);
            asked.next_is_free = *next_is_free;
            asked.last_did_nothing = self.did_nothing;
        }
        journal.trace.note(format_args!("{request} is over at {worker}"));
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.journal.state.lock().gateways.get_mut(&self.gateway) {
            account.requests -= 1;
        }
    }
}
