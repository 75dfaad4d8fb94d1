//! The server's own counters, read before and after a run.
//!
//! They count everybody's requests: next to the generator's own figures they show retries, and
//! load that came from elsewhere.

use std::io;
use std::time::Duration;

use inferring_protocol::rest::documents::{GatewayStats, WorkerHealth};
use inferring_types::WorkerStatus;
use serde::{Deserialize, Serialize};

use crate::connection::Session;
use crate::fetch::{FetchError, document};
use crate::target::{Target, TcpConnector};

/// What the servers counted while a run went on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// The gateway's counts, where the target is one.
    pub gateway: Option<GatewayReport>,
    /// Each worker's counts: those asked for by address, and the target where it is a worker.
    pub workers: Vec<WorkerReport>,
    /// Servers whose counters could not be read, and why.
    pub problems: Vec<String>,
}

/// What a gateway counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Requests accepted.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Tries beyond each request's first.
    pub failovers: u64,
    /// Its workers.
    pub workers: Vec<EndpointReport>,
}

/// What a gateway counted for one of its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// The id by which the gateway places it on the ring.
    pub node: String,
    /// Where it is reached.
    pub address: String,
    /// Tries sent to it.
    pub requests: u64,
    /// Its share of all tries, 0 to 1.
    pub share: f64,
    /// Tries that failed by its fault.
    pub failures: u64,
    /// Its circuit breaker's state after the run.
    pub breaker: String,
}

/// What a worker counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Where it was asked.
    pub url: String,
    /// The id by which it calls itself.
    pub node_id: String,
    /// Whether it was started anew meanwhile: then it counts from its start.
    pub restarted: bool,
    /// Requests accepted.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests answered from the cache.
    pub cache_hits: u64,
    /// Requests that joined another one's computation.
    pub cache_joined: u64,
    /// Requests that had to be computed.
    pub cache_misses: u64,
    /// Hits among all look-ups, 0 to 1.
    pub cache_hit_rate: f64,
    /// Runs of a model.
    pub batches: u64,
    /// Mean rows in a run.
    pub mean_batch_size: f64,
}

/// The counters at one moment.
pub(crate) struct Observation {
    gateway: Option<GatewayStats>,
    workers: Vec<(Target, WorkerStatus)>,
    problems: Vec<String>,
}

impl Observation {
    /// Reads the counters of the target, a gateway or a worker, and of further workers.
    pub(crate) async fn take(target: &Target, workers: &[Target], timeout: Duration) -> Self {
        let mut observed = Self { gateway: None, workers: Vec::new(), problems: Vec::new() };
        match read::<NodeStats>(target, "/stats", timeout).await {
            Ok(NodeStats::Gateway(stats)) => observed.gateway = Some(*stats),
            Ok(NodeStats::Worker(health)) => observed.add_worker(target, *health),
            Err(problem) => observed.problems.push(problem),
        }
        for worker in workers.iter().filter(|&worker| worker != target) {
            match read::<WorkerHealth>(worker, "/health", timeout).await {
                Ok(health) => observed.add_worker(worker, health),
                Err(problem) => observed.problems.push(problem),
            }
        }
        observed
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> ServerReport {
        let mut report = ServerReport {
            gateway: self.gateway.as_ref().map(|now| gateway_since(now, before.gateway.as_ref())),
            ..ServerReport::default()
        };
        for (target, now) in &self.workers {
            match before.workers.iter().find(|(earlier, _)| earlier == target) {
                Some((_, earlier)) => report.workers.push(worker_since(target, now, earlier)),
                None => report.problems.push(format!("{target} could not be read before the run")),
            }
        }
        report.problems.extend(before.problems.iter().chain(&self.problems).cloned());
        report.problems.dedup();
        report
    }

    fn add_worker(&mut self, target: &Target, health: WorkerHealth) {
        match WorkerStatus::try_from(health) {
            Ok(status) => self.workers.push((target.clone(), status)),
            Err(error) => self.problems.push(format!("{target}: {error}")),
        }
    }
}

/// `GET /stats`: a worker answers with its health.
#[derive(Deserialize)]
#[serde(untagged)]
enum NodeStats {
    Gateway(Box<GatewayStats>),
    Worker(Box<WorkerHealth>),
}

async fn read<T>(target: &Target, path: &str, timeout: Duration) -> Result<T, String>
where
    T: serde::de::DeserializeOwned,
{
    let problem = |reason: String| format!("{target}{path}: {reason}");
    let resolved = TcpConnector::resolve(target).await;
    let connector = resolved.map_err(|error: io::Error| problem(error.to_string()))?;
    let answer = document(&mut Session::new(connector), path, timeout).await;
    answer.map_err(|error| match error {
        FetchError::Unanswered(failure) => problem(failure.message),
        FetchError::Refused(reason) => problem(reason),
    })
}

fn gateway_since(now: &GatewayStats, before: Option<&GatewayStats>) -> GatewayReport {
    // One that was started anew counts from zero.
    let before = before.filter(|before| before.uptime_seconds <= now.uptime_seconds);
    let earlier = |count: fn(&GatewayStats) -> u64| before.map_or(0, count);
    let mut workers: Vec<_> = now
        .workers
        .iter()
        .map(|worker| {
            let same = |other: &&inferring_protocol::rest::documents::EndpointDocument| {
                other.node == worker.node
            };
            let earlier = before.and_then(|before| before.workers.iter().find(same));
            let breaker = now.circuit_breakers.iter().find(|breaker| breaker.node == worker.node);
            EndpointReport {
                node: worker.node.clone(),
                address: worker.address.clone(),
                requests: worker.requests.saturating_sub(earlier.map_or(0, |w| w.requests)),
                share: 0.0,
                failures: worker.failures.saturating_sub(earlier.map_or(0, |w| w.failures)),
                breaker: breaker.map(|breaker| breaker.state.clone()).unwrap_or_default(),
            }
        })
        .collect();
    let tries: u64 = workers.iter().map(|worker| worker.requests).sum();
    for worker in &mut workers {
        worker.share = ratio(worker.requests, tries);
    }
    GatewayReport {
        requests: now.total_requests.saturating_sub(earlier(|stats| stats.total_requests)),
        errors: now.errors.saturating_sub(earlier(|stats| stats.errors)),
        failovers: now.failovers.saturating_sub(earlier(|stats| stats.failovers)),
        workers,
    }
}

fn worker_since(target: &Target, now: &WorkerStatus, before: &WorkerStatus) -> WorkerReport {
    let restarted = now.incarnation != before.incarnation;
    let since = |count: fn(&WorkerStatus) -> u64| {
        count(now).saturating_sub(if restarted { 0 } else { count(before) })
    };
    let hits = since(|status| status.cache.hits);
    let joined = since(|status| status.cache.joined);
    let misses = since(|status| status.cache.misses);
    let batches = since(|status| status.batches.batches);
    WorkerReport {
        url: target.to_string(),
        node_id: now.id.to_string(),
        restarted,
        requests: since(|status| status.requests),
        errors: since(|status| status.errors),
        cache_hits: hits,
        cache_joined: joined,
        cache_misses: misses,
        cache_hit_rate: ratio(hits, hits + joined + misses),
        batches,
        mean_batch_size: ratio(since(|status| status.batches.rows), batches),
    }
}

/// `part / whole`, to four digits; zero where there is nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}
