//! A machine with a gateway on it: a process that starts, vanishes, and starts anew with nothing
//! in its memory.
//!
//! A process that vanishes closes its connections by that, and no more: its clients see theirs
//! break, and its workers notice a moment later. Whoever comes while there is none is refused.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use inferring_gateway::{
    Connector, Gateway, GatewayConfig, MembershipError, Probes, WorkerService,
};
use inferring_lockstep::now;
use inferring_types::{
    GatewayStatus, InferRequest, InferResponse, InferenceService as _, NodeStatus, ServiceError,
    StatusSource as _, WorkerSpec,
};
use parking_lot::Mutex;

use crate::fleet::spec;
use crate::host::Host;
use crate::journal::{Bar, Journal};
use crate::life::Life;
use crate::network::{Link, Network};
use crate::trace::Trace;

/// One process of a gateway. The next one has the same place and another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation {
    pub(crate) gateway: usize,
    number: usize,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gateway {}.{}", self.gateway, self.number)
    }
}

/// Why a client has no answer, not even an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// There is no gateway.
    Refused,
    /// It vanished with the request.
    Broken,
}

/// What all gateways have around them.
pub(crate) struct Surroundings {
    pub(crate) config: GatewayConfig,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) network: Arc<Network>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) trace: Arc<Trace>,
}

/// A machine, with one gateway process at a time.
pub(crate) struct Front {
    number: usize,
    around: Arc<Surroundings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: Option<Arc<Process>>,
    /// Whether the present one is on its way to serve, or serves.
    is_on: bool,
    /// All that there ever were.
    gateways: Vec<Weak<Gateway>>,
    /// The times without one, the last of which may not have ended.
    gaps: Vec<(Instant, Option<Instant>)>,
}

/// A gateway's process.
pub(crate) struct Process {
    pub(crate) incarnation: Incarnation,
    gateway: Arc<Gateway>,
    life: Arc<Life>,
    probes: Mutex<Option<Probes>>,
    /// Lists of workers that it was told, which it puts in force one after the other.
    lists: AtomicU64,
}

/// Whether a list that was put in force is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// No other was told.
    Last,
    /// Another one was told since.
    Since,
}

impl Front {
    /// Nothing runs there yet.
    pub(crate) fn new(number: usize, around: Arc<Surroundings>) -> Self {
        Self { number, around, state: Mutex::default() }
    }

    /// Starts a process over these workers, unless there is one, and returns when it serves: when
    /// each of them has told how it is, or has not.
    pub(crate) async fn boot(&self, list: Vec<WorkerSpec>) {
        let number = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_on, true) {
                return;
            }
            state.gateways.len() + 1
        };
        let Surroundings { config, hosts, journal, trace, .. } = &*self.around;
        let incarnation = Incarnation { gateway: self.number, number };
        journal.begin(incarnation);
        for host in hosts {
            if let Some(bar) = Bar::of(&host.id, &list) {
                journal.bar(incarnation, &host.id, bar);
            }
        }
        let life = Arc::new(Life::default());
        let connect = self.connector(incarnation, &life);
        let gateway = Gateway::from_list(list, config.clone(), connect);
        let gateway = gateway.expect("workers of different names make a ring");
        self.state.lock().gateways.push(Arc::downgrade(&gateway));
        let probes = Mutex::new(Some(gateway.start_probes().await));
        trace.note(format_args!("{incarnation} serves"));
        let mut state = self.state.lock();
        let lists = AtomicU64::new(0);
        state.process = Some(Arc::new(Process { incarnation, gateway, life, probes, lists }));
        if let Some((_, end)) = state.gaps.last_mut() {
            *end = Some(now());
        }
    }

    /// The process vanishes, with all that it has in hand.
    pub(crate) fn crash(&self) -> Option<Incarnation> {
        let process = {
            let mut state = self.state.lock();
            let process = state.process.take()?;
            state.is_on = false;
            state.gaps.push((now(), None));
            process
        };
        let incarnation = process.incarnation;
        self.around.trace.note(format_args!("{incarnation} crashes"));
        self.around.journal.end(incarnation);
        process.life.end();
        drop(process.probes.lock().take());
        Some(incarnation)
    }

    /// The process that serves.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.state.lock().process.clone()
    }

    /// Asks the gateway.
    pub(crate) async fn ask(
        &self,
        request: InferRequest,
    ) -> Result<Result<InferResponse, ServiceError>, Gone> {
        let process = self.process().ok_or(Gone::Refused)?;
        let _active = self.around.journal.begin_request(process.incarnation, &request.id);
        process.life.share(process.gateway.infer(request)).await.ok_or(Gone::Broken)
    }

    /// Whether it was down at that moment, or has been since.
    pub(crate) fn was_down_since(&self, moment: Instant) -> bool {
        let is_later = |(_, end): &(_, Option<_>)| end.is_none_or(|end| end >= moment);
        self.state.lock().gaps.iter().any(is_later)
    }

    /// All gateways that there ever were, as far as they are held.
    pub(crate) fn gateways(&self) -> Vec<Weak<Gateway>> {
        self.state.lock().gateways.clone()
    }

    /// The ways of a process to all machines, which lead nowhere when it is over.
    fn connector(&self, incarnation: Incarnation, life: &Arc<Life>) -> Connector {
        let (around, life) = (self.around.clone(), life.clone());
        Box::new(move |address| {
            let Surroundings { hosts, network, journal, .. } = &*around;
            let host = hosts.iter().find(|host| spec(&host.id).address == address);
            let host = host.cloned().ok_or_else(|| ServiceError::invalid("no such machine"))?;
            let (network, journal, life) = (network.clone(), journal.clone(), life.clone());
            let draining = OnceLock::new();
            let link = Link { network, journal, gateway: incarnation, life, host, draining };
            Ok(Arc::new(link) as Arc<dyn WorkerService>)
        })
    }
}

impl Process {
    pub(crate) async fn status(&self) -> GatewayStatus {
        match self.gateway.status().await {
            Ok(NodeStatus::Gateway(status)) => *status,
            other => unreachable!("a gateway tells how it is: {other:?}"),
        }
    }

    /// Tells it which workers there are, and returns when it goes by that; `None` where it vanishes
    /// meanwhile.
    pub(crate) async fn apply(
        &self,
        list: Vec<WorkerSpec>,
    ) -> Option<Result<Told, MembershipError>> {
        let number = self.lists.fetch_add(1, Ordering::Relaxed) + 1;
        let applied = self.life.share(self.gateway.apply(list)).await?;
        let is_last = self.lists.load(Ordering::Relaxed) == number;
        Some(applied.map(|()| if is_last { Told::Last } else { Told::Since }))
    }
}
