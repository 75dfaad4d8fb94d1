//! Gateways and workers, and how they are doing.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_gateway::{Connector, Gateway, Probes, WorkerService};
use inferring_types::{
    BreakerState, GatewayStatus, InferRequest, InferResponse, InferenceService as _, NodeStatus,
    ServiceError, StatusSource as _, WorkerId, WorkerSpec, WorkerStatus,
};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::content::Content;
use crate::host::Host;
use crate::journal::Journal;
use crate::network::{Link, Network};
use crate::scenario::Scenario;
use crate::trace::Trace;

/// A worker as a list names it.
pub(crate) fn spec(id: &WorkerId) -> WorkerSpec {
    let (address, weight) = (format!("{id}:1"), WorkerSpec::DEFAULT_WEIGHT);
    WorkerSpec { id: id.clone(), address, weight, draining: false }
}

/// A gateway's ways to all machines.
fn connector(
    gateway: usize,
    hosts: &[Arc<Host>],
    network: &Arc<Network>,
    journal: &Arc<Journal>,
) -> Connector {
    let (hosts, network, journal) = (hosts.to_vec(), network.clone(), journal.clone());
    Box::new(move |address| {
        let host = hosts.iter().find(|host| spec(&host.id).address == address);
        let host = host.cloned().ok_or_else(|| ServiceError::invalid("no such machine"))?;
        let (network, journal) = (network.clone(), journal.clone());
        Ok(Arc::new(Link { network, journal, gateway, host }) as Arc<dyn WorkerService>)
    })
}

/// Everything that is simulated.
pub(crate) struct Fleet {
    pub(crate) trace: Arc<Trace>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) network: Arc<Network>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
    /// The workers that gateways are told of.
    pub(crate) list: Mutex<Vec<WorkerSpec>>,
}

impl Fleet {
    /// Starts workers, and gateways once those serve. What is returned beside it keeps gateways
    /// probing.
    pub(crate) async fn start(
        scenario: &Scenario,
        trace: Arc<Trace>,
        random: &mut Rng,
    ) -> (Arc<Self>, Vec<Probes>) {
        let journal = Journal::new(trace.clone());
        let network = Network::new(random.fork());
        let host = |number| {
            let id = WorkerId::from(format!("worker_{number}").as_str());
            Host::new(id, scenario.worker.clone(), trace.clone())
        };
        let hosts: Vec<_> = (1..=scenario.workers).map(host).collect();
        hosts.iter().for_each(Host::boot);
        while hosts.iter().any(|host| host.process().is_none()) {
            sleep(Duration::from_millis(10)).await;
        }
        let mut gateways = Vec::new();
        let mut probes = Vec::new();
        for gateway in 0..scenario.gateways {
            let mut list: Vec<_> = hosts.iter().map(|host| spec(&host.id)).collect();
            random.shuffle(&mut list);
            let config = scenario.gateway.clone();
            let made =
                Gateway::from_list(list, config, connector(gateway, &hosts, &network, &journal));
            let made = made.expect("workers of different names make a ring");
            probes.push(made.start_probes().await);
            gateways.push(made);
        }
        let list = Mutex::new(hosts.iter().map(|host| spec(&host.id)).collect());
        (Arc::new(Self { trace, journal, network, hosts, gateways, list }), probes)
    }

    /// Tells a gateway which workers there are, as the list says at this moment.
    pub(crate) async fn publish(&self, gateway: usize) {
        let list = self.list.lock().clone();
        let names: Vec<_> = list.iter().map(WorkerSpec::to_string).collect();
        self.trace.note(format_args!("gateway {gateway} is told of {names:?}"));
        // Whom it may ask again it may ask at any time from here on, and whom not, not from the
        // return on.
        let may_be_asked = |host: &Host| list.iter().any(|w| w.id == host.id && !w.draining);
        let (in_it, out): (Vec<_>, Vec<_>) = self.hosts.iter().partition(|host| may_be_asked(host));
        in_it.iter().for_each(|host| self.journal.allow(gateway, &host.id));
        match self.gateways[gateway].apply(list.clone()).await {
            Ok(()) if *self.list.lock() == list => {
                out.iter().for_each(|host| self.journal.bar(gateway, &host.id));
            }
            // Another list may be in force by now.
            Ok(()) => {}
            Err(error) => self.trace.violation(format_args!("gateway {gateway}: {error}")),
        }
    }

    /// Asks a gateway.
    pub(crate) async fn ask(
        &self,
        gateway: usize,
        request: InferRequest,
    ) -> Result<InferResponse, ServiceError> {
        let _active = self.journal.begin_request(gateway, &request.id);
        self.gateways[gateway].infer(request).await
    }

    pub(crate) async fn gateway_status(&self, gateway: usize) -> GatewayStatus {
        match self.gateways[gateway].status().await {
            Ok(NodeStatus::Gateway(status)) => *status,
            other => unreachable!("a gateway tells how it is: {other:?}"),
        }
    }

    /// Why that gateway does not have all its workers at hand; `None` where it does.
    pub(crate) async fn lack(&self, gateway: usize) -> Option<String> {
        let status = self.gateway_status(gateway).await;
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

    /// How a worker is.
    pub(crate) async fn worker_status(host: &Host) -> Option<WorkerStatus> {
        match host.process()?.worker.status().await {
            Ok(NodeStatus::Worker(status)) => Some(*status),
            other => unreachable!("a worker tells how it is: {other:?}"),
        }
    }
}
