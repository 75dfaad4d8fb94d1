//! Gateways and workers, and how they are doing.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_types::{
    BreakerState, NodeStatus, StatusSource as _, WorkerId, WorkerSpec, WorkerStatus,
};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::content::Content;
use crate::front::{Front, Surroundings, Told};
use crate::host::Host;
use crate::journal::{Bar, Journal};
use crate::network::Network;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// A worker as a list names it.
pub(crate) fn spec(id: &WorkerId) -> WorkerSpec {
    let (address, weight) = (format!("{id}:1"), WorkerSpec::DEFAULT_WEIGHT);
    WorkerSpec { id: id.clone(), address, weight, draining: false }
}

/// Everything that is simulated.
pub(crate) struct Fleet {
    pub(crate) trace: Arc<Trace>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) network: Arc<Network>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) fronts: Vec<Front>,
    /// The workers that gateways are told of.
    pub(crate) list: Mutex<Vec<WorkerSpec>>,
}

impl Fleet {
    /// Starts workers, and gateways once those serve.
    pub(crate) async fn start(
        scenario: &Scenario,
        trace: Arc<Trace>,
        random: &mut Rng,
    ) -> Arc<Self> {
        let journal = Journal::new(trace.clone());
        let network = Network::new(random.fork());
        let host = |number| Host::new(number, scenario, trace.clone());
        let hosts: Vec<_> = (1..=scenario.workers).map(host).collect();
        hosts.iter().for_each(Host::boot);
        while hosts.iter().any(|host| host.process().is_none()) {
            sleep(Duration::from_millis(10)).await;
        }
        let around = Arc::new(Surroundings {
            config: scenario.gateway.clone(),
            hosts: hosts.clone(),
            network: network.clone(),
            journal: journal.clone(),
            trace: trace.clone(),
        });
        let front = |number| Front::new(number, around.clone());
        let fronts = (0..scenario.gateways).map(front).collect();
        let list = Mutex::new(hosts.iter().map(|host| spec(&host.id)).collect());
        let fleet = Arc::new(Self { trace, journal, network, hosts, fronts, list });
        for gateway in 0..scenario.gateways {
            fleet.boot_gateway(gateway, random).await;
        }
        fleet
    }

    /// Starts a gateway's process, unless there is one, over the workers that the list names at
    /// this moment; they are told to it in any order.
    pub(crate) async fn boot_gateway(&self, gateway: usize, random: &mut Rng) {
        let mut list = self.list.lock().clone();
        random.shuffle(&mut list);
        let before = list.clone();
        self.fronts[gateway].boot(list).await;
        let is_as_before = {
            let list = self.list.lock();
            list.len() == before.len() && list.iter().all(|worker| before.contains(worker))
        };
        if !is_as_before {
            self.publish(gateway).await;
        }
    }

    /// Tells a gateway which workers there are, as the list says at this moment. One that is not
    /// there reads the list when it starts.
    pub(crate) async fn publish(&self, gateway: usize) {
        let Some(process) = self.fronts[gateway].process() else { return };
        let incarnation = process.incarnation;
        let list = self.list.lock().clone();
        let names: Vec<_> = list.iter().map(WorkerSpec::to_string).collect();
        self.trace.note(format_args!("{incarnation} is told of {names:?}"));
        // Whom it may ask again it may ask at any time from here on, and whom not, not from the
        // return on.
        let bars = self.hosts.iter().map(|host| (&host.id, Bar::of(&host.id, &list)));
        for (worker, bar) in bars.clone() {
            if bar.is_none() {
                self.journal.allow(incarnation, worker);
            }
        }
        match process.apply(list.clone()).await {
            Some(Ok(Told::Last)) => {
                for (worker, bar) in bars {
                    if let Some(bar) = bar {
                        self.journal.bar(incarnation, worker, bar);
                    }
                }
            }
            // Another list is to be in force, or nobody is there to go by it.
            Some(Ok(Told::Since)) | None => {}
            Some(Err(error)) => self.trace.violation(format_args!("{incarnation}: {error}")),
        }
    }

    /// Why that gateway does not have all its workers at hand; `None` where it does.
    pub(crate) async fn lack(&self, gateway: usize) -> Option<String> {
        let Some(process) = self.fronts[gateway].process() else {
            return Some(format!("gateway {gateway} is not there"));
        };
        let status = process.status().await;
        status.workers.iter().find_map(|worker| {
            let is_well = worker.reachable
                && worker.breaker.state == BreakerState::Closed
                && worker.ejected.is_none()
                && worker.allotment.part >= 1.0
                && !worker.draining;
            (!is_well).then(|| {
                let (id, breaker, reachable) = (&worker.id, worker.breaker, worker.reachable);
                let (ejected, part) = (worker.ejected, worker.allotment.part);
                format!(
                    "{id}: reachable {reachable}, {breaker:?}, ejected {ejected:?}, part {part}"
                )
            })
        })
    }

    /// How often it was computed by processes that are there.
    pub(crate) fn computed(&self, content: Content) -> Vec<u32> {
        let processes = self.hosts.iter().filter_map(|host| host.process());
        processes.map(|process| process.machine.computed(content)).collect()
    }

    /// The machine of a worker.
    pub(crate) fn host(&self, id: &WorkerId) -> &Arc<Host> {
        self.hosts.iter().find(|host| host.id == *id).expect("a worker has a machine")
    }

    /// How a worker is.
    pub(crate) async fn worker_status(host: &Host) -> Option<WorkerStatus> {
        match host.process()?.worker.status().await {
            Ok(NodeStatus::Worker(status)) => Some(*status),
            other => unreachable!("a worker tells how it is: {other:?}"),
        }
    }
}
