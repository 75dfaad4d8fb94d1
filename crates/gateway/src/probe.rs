//! Asks every worker again and again how it is, so that one that returns serves again within
//! an interval, and one that hangs is noticed though no request tells.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::sync::{Arc, Weak};
use std::time::Duration;

use inferring_policy::Loss;
use inferring_types::{Blame, NodeStatus, ServiceError, WorkerStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::config::ProbeConfig;
use crate::ejection;
use crate::endpoint::Endpoint;
use crate::gateway::Gateway;

/// Running probes, and what is concluded from them and from requests; they end when this is
/// dropped.
pub struct Probes {
    _task: JoinSet<()>,
}

/// What is done after each probe.
type Learnt = Arc<dyn Fn() + Send + Sync>;

impl Probes {
    /// Probes the workers of `gateway` on the current runtime, each first after one interval;
    /// `learnt` is called after each probe.
    pub(crate) fn start(gateway: &Arc<Gateway>, learnt: Learnt) -> Self {
        let changes = gateway.control().changes();
        let mut task = JoinSet::new();
        task.spawn(probe_members(Arc::downgrade(gateway), changes, learnt));
        task.spawn(ejection::judge_for_ever(Arc::downgrade(gateway)));
        Self { _task: task }
    }
}

/// Keeps a task for each worker, as they come and go. Those of workers that have left end by
/// themselves, when nothing is waited for any more: whoever still waits is to hear of a worker
/// that falls silent.
async fn probe_members(gateway: Weak<Gateway>, mut changes: watch::Receiver<u64>, learnt: Learnt) {
    let mut probing: JoinSet<()> = JoinSet::new();
    let mut known: Vec<Arc<Endpoint>> = Vec::new();
    loop {
        changes.mark_unchanged();
        let Some(gateway_now) = gateway.upgrade() else { return };
        let membership = gateway_now.membership();
        let is_known = |endpoint: &Arc<Endpoint>| known.iter().any(|e| Arc::ptr_eq(e, endpoint));
        for endpoint in membership.endpoints().iter().filter(|endpoint| !is_known(endpoint)) {
            let config = gateway_now.config().probe.clone();
            probing.spawn(probe_for_ever(endpoint.clone(), config, learnt.clone()));
        }
        known = membership.endpoints().to_vec();
        drop((gateway_now, membership));
        loop {
            // In an order: what is drawn at random here no seed would repeat.
            tokio::select! {
                biased;
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(_) = probing.join_next() => {}
            }
        }
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

async fn probe_for_ever(endpoint: Arc<Endpoint>, config: ProbeConfig, learnt: Learnt) {
    /// Parts of an interval that lie between two probes at least, however often one is wanted.
    const PARTS: u32 = 10;
    let mut ticks = tokio::time::interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while !endpoint.is_gone() {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = endpoint.probe_wanted() => {
                tokio::time::sleep_until(last + config.interval / PARTS).await;
            }
        }
        probe(&endpoint, config.timeout).await;
        last = Instant::now();
        learnt();
    }
}

async fn probe(endpoint: &Endpoint, timeout: Duration) {
    let started = clock::now();
    match tokio::time::timeout(timeout, worker_status(endpoint)).await {
        Ok(Ok(status)) => endpoint.probe_succeeded(status, started),
        Ok(Err(error)) => endpoint.probe_failed(&error, loss(&error)),
        Err(_) => {
            let error = format!("it did not answer its health check within {timeout:?}");
            endpoint.probe_failed(&ServiceError::unreachable(error), Loss::Silent);
        }
    }
}

/// What a failed probe says: who cannot be reached is gone, unless nothing came back at all. Who
/// answers badly is there and may recover.
fn loss(error: &ServiceError) -> Loss {
    if error.blame() != Blame::WorkerUnreachable {
        return Loss::Unwell;
    }
    let mut causes = successors(error.source(), |error| (*error).source());
    let is_silence = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
    };
    if causes.any(is_silence) { Loss::Silent } else { Loss::Gone }
}

async fn worker_status(endpoint: &Endpoint) -> Result<WorkerStatus, ServiceError> {
    match endpoint.member.service.status().await? {
        NodeStatus::Worker(status) => Ok(*status),
        NodeStatus::Gateway(_) => {
            Err(ServiceError::failed("this address is a gateway: expected a worker"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_nobody_took_up_is_silence_and_a_refused_one_is_not() {
        let unreachable = |kind: io::ErrorKind| {
            let cause = ServiceError::unreachable("no connection").caused_by(io::Error::from(kind));
            ServiceError::unreachable("worker does not answer").caused_by(cause)
        };
        for (error, expected) in [
            (unreachable(io::ErrorKind::TimedOut), Loss::Silent),
            (unreachable(io::ErrorKind::ConnectionRefused), Loss::Gone),
            (unreachable(io::ErrorKind::ConnectionReset), Loss::Gone),
            (ServiceError::unreachable("no cause"), Loss::Gone),
            (ServiceError::failed("500"), Loss::Unwell),
        ] {
            assert_eq!(loss(&error), expected, "{}", error.chain());
        }
    }
}
