//! Gateways and workers, and how they are doing.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_gateway::{Gateway, Member, Probes};
use inferring_types::{
    BreakerState, GatewayStatus, InferRequest, InferResponse, InferenceService as _, NodeStatus,
    ServiceError, StatusSource as _, WorkerId, WorkerStatus,
};
use tokio::time::sleep;

use crate::content::Content;
use crate::host::Host;
use crate::journal::Journal;
use crate::network::{Link, Network};
use crate::scenario::Scenario;
use crate::trace::Trace;

/// Everything that is simulated.
pub(crate) struct Fleet {
    pub(crate) trace: Arc<Trace>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) network: Arc<Network>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
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
            let mut members: Vec<_> = hosts
                .iter()
                .map(|host| Member {
                    id: host.id.clone(),
                    address: host.id.to_string(),
                    weight: 1.0,
                    service: Arc::new(Link {
                        network: network.clone(),
                        journal: journal.clone(),
                        gateway,
                        host: host.clone(),
                    }),
                })
                .collect();
            random.shuffle(&mut members);
            let made = Gateway::new(members, scenario.gateway.clone());
            let made = made.expect("workers of different names make a ring");
            probes.push(made.start_probes().await);
            gateways.push(made);
        }
        (Arc::new(Self { trace, journal, network, hosts, gateways }), probes)
    }

    /// Asks a gateway.
    pub(crate) async fn ask(
        &self,
        gateway: usize,
        request: InferRequest,
    ) -> Result<InferResponse, ServiceError> {
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
            let is_well = worker.reachable && worker.breaker.state == BreakerState::Closed;
            (!is_well).then(|| format!("{worker:?}"))
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
