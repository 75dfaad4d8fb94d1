//! Asks every worker again and again how it is, so that one that returns serves again within
//! an interval, and one that hangs is noticed though no request tells.

use std::sync::Arc;
use std::time::Duration;

use inferring_types::{Blame, NodeStatus, ServiceError, WorkerStatus};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::config::ProbeConfig;
use crate::endpoint::Endpoint;

/// Running probes; they end when this is dropped.
pub struct Probes {
    _tasks: JoinSet<()>,
}

impl Probes {
    /// Probes `endpoints` on the current runtime, first after one interval; `learnt` is called
    /// after each probe.
    pub(crate) fn start(
        endpoints: &[Arc<Endpoint>],
        config: &ProbeConfig,
        learnt: &Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        for endpoint in endpoints {
            tasks.spawn(probe_for_ever(endpoint.clone(), config.clone(), learnt.clone()));
        }
        Self { _tasks: tasks }
    }
}

/// Probes each endpoint once; returns when all have answered or failed.
pub(crate) async fn probe_all(endpoints: &[Arc<Endpoint>], config: &ProbeConfig) {
    let mut tasks = JoinSet::new();
    for endpoint in endpoints {
        let (endpoint, timeout) = (endpoint.clone(), config.timeout);
        tasks.spawn(async move { probe(&endpoint, timeout).await });
    }
    tasks.join_all().await;
}

async fn probe_for_ever(
    endpoint: Arc<Endpoint>,
    config: ProbeConfig,
    learnt: Arc<dyn Fn() + Send + Sync>,
) {
    let first = tokio::time::Instant::now() + config.interval;
    let mut ticks = tokio::time::interval_at(first, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        probe(&endpoint, config.timeout).await;
        learnt();
    }
}

async fn probe(endpoint: &Endpoint, timeout: Duration) {
    let started = clock::now();
    match tokio::time::timeout(timeout, worker_status(endpoint)).await {
        Ok(Ok(status)) => endpoint.probe_succeeded(status, started),
        Ok(Err(error)) => {
            // A worker that cannot be reached is not there; one that answers badly may recover.
            let definite = error.blame() == Blame::WorkerUnreachable;
            endpoint.probe_failed(&error, definite);
        }
        Err(_) => {
            let error = format!("it did not answer its health check within {timeout:?}");
            endpoint.probe_failed(&ServiceError::unreachable(error), false);
        }
    }
}

async fn worker_status(endpoint: &Endpoint) -> Result<WorkerStatus, ServiceError> {
    match endpoint.member.service.status().await? {
        NodeStatus::Worker(status) => Ok(*status),
        NodeStatus::Gateway(_) => {
            Err(ServiceError::failed("this address is a gateway: expected a worker"))
        }
    }
}
