//! The node's state in the form that Prometheus reads.
//!
//! Everything is counted where it happens; here a snapshot is written down, so that a scrape
//! costs the node nothing between two of them. Labels are models, versions and workers: as many
//! values as there are of these, and none that a request brings.

use std::fmt;

use http::Response;
use inferring_protocol::rest::Chunks;
use inferring_types::{
    BatchStatus, BreakerState, CostCurve, CostPoint, EndpointStatus, GatewayStatus, IndexEntry,
    ModelState, ModelStatistics, ModelVersion, NodeStatus, ServiceError, TryStatus, WorkerStatus,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{error_response, respond};
use crate::Node;

/// All metrics of the node, as OpenMetrics text.
pub(super) async fn metrics(node: &dyn Node) -> Response<Chunks> {
    let snapshot = match node.status().await {
        Ok(NodeStatus::Worker(status)) => match worker_snapshot(node, status).await {
            Ok(snapshot) => snapshot,
            Err(error) => return error_response(&error, None),
        },
        Ok(NodeStatus::Gateway(status)) => Snapshot::Gateway(status),
        Err(error) => return error_response(&error, None),
    };
    const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    respond(http::StatusCode::OK, CONTENT_TYPE, Chunks::one(snapshot.into_text()))
}

/// A worker's own index and statistics cost no question to anybody.
async fn worker_snapshot(
    node: &dyn Node,
    status: Box<WorkerStatus>,
) -> Result<Snapshot, ServiceError> {
    let index = node.index().await?;
    let statistics = node.statistics(None).await?;
    Ok(Snapshot::Worker(status, index, statistics))
}

#[derive(Debug)]
enum Snapshot {
    Worker(Box<WorkerStatus>, Vec<IndexEntry>, Vec<ModelStatistics>),
    Gateway(Box<GatewayStatus>),
}

impl Snapshot {
    fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a text takes everything that is written to it");
        text
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut out = Families(encoder);
        match self {
            Self::Worker(status, index, statistics) => {
                worker(&mut out, status, index)?;
                costs(&mut out, statistics)
            }
            Self::Gateway(status) => gateway(&mut out, status),
        }
    }
}

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

/// Names and values of a metric's labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Families<'_> {
    /// A number that only grows.
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, values)
    }

    /// A number that goes up and down.
    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, values)
    }

    fn family<'a, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels<'a>, M)>,
    ) -> fmt::Result {
        let mut values = values.peekable();
        let Some((_, first)) = values.peek() else { return Ok(()) };
        let kind = first.metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                return value.encode(family);
            }
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What workers and gateways have in common.
    fn requests(&mut self, accepted: u64, errors: u64, in_flight: u64) -> fmt::Result {
        self.counter("inferring_requests", "Requests accepted", alone(accepted))?;
        self.counter("inferring_request_errors", "Requests answered with an error", alone(errors))?;
        self.gauge(
            "inferring_requests_in_flight",
            "Requests being answered",
            alone(in_flight as f64),
        )
    }
}

/// A metric without labels.
fn alone<'a, T>(value: T) -> [(Labels<'a>, T); 1] {
    [(Vec::new(), value)]
}

fn worker(out: &mut Families<'_>, status: &WorkerStatus, index: &[IndexEntry]) -> fmt::Result {
    out.requests(status.requests, status.errors, status.in_flight)?;
    let cache = &status.cache;
    out.counter(
        "inferring_cache_requests",
        "Look-ups in the result cache, by what came of them",
        [("hit", cache.hits), ("joined", cache.joined), ("miss", cache.misses)]
            .map(|(result, count)| (vec![("result", result)], count)),
    )?;
    out.counter(
        "inferring_cache_evictions",
        "Answers put out to make room",
        alone(cache.evictions),
    )?;
    out.gauge("inferring_cache_entries", "Answers held", alone(cache.entries as f64))?;
    out.gauge("inferring_cache_bytes", "Bytes of answers held", alone(cache.bytes as f64))?;
    batches(out, status)?;
    loads(out, status, index)?;
    let memory = status.resident_memory_bytes.map(|bytes| (Vec::new(), bytes as f64));
    out.gauge("process_resident_memory_bytes", "Resident memory of the process", memory)
}

fn batches(out: &mut Families<'_>, status: &WorkerStatus) -> fmt::Result {
    let of_models = |value: fn(&BatchStatus) -> u64| {
        status.models.iter().map(move |model| {
            let (name, version) = (&model.metadata.name, &model.metadata.version);
            let labels = vec![("model", name.as_str()), ("version", version.as_str())];
            (labels, value(&model.batches))
        })
    };
    type Count = fn(&BatchStatus) -> u64;
    let reasons: [(&str, Count); 4] = [
        ("full", |b| b.full),
        ("idle", |b| b.idle),
        ("deadline", |b| b.deadline),
        ("delay", |b| b.delay),
    ];
    let by_reason = reasons.into_iter().flat_map(|(reason, count)| {
        of_models(count).map(move |(mut labels, count)| {
            labels.push(("reason", reason));
            (labels, count)
        })
    });
    out.counter("inferring_executions", "Runs of a model, by why the batch left", by_reason)?;
    out.counter("inferring_execution_rows", "Rows over all runs", of_models(|b| b.rows))?;
    out.counter(
        "inferring_requests_dropped",
        "Requests dropped unexecuted: expired, or nobody waited any more",
        of_models(|b| b.dropped),
    )?;
    out.counter(
        "inferring_requests_refused",
        "Requests refused on arrival: the queue was full, or they would have been late",
        of_models(|b| b.refused),
    )?;
    out.counter(
        "inferring_executions_interrupted",
        "Runs ended early: nobody waited any more, or they took too long",
        of_models(|b| b.interrupted),
    )?;
    let queued = of_models(|b| b.queued).map(|(labels, count)| (labels, count as f64));
    out.gauge("inferring_queue_requests", "Requests waiting for an instance", queued)
}

/// What runs are reckoned to take. A model that takes rows of many sizes has many curves of many
/// points: told are the points of the curve that most runs made, for numbers of rows that are
/// powers of two.
fn costs(out: &mut Families<'_>, statistics: &[ModelStatistics]) -> fmt::Result {
    let runs = |curve: &&CostCurve| curve.points.iter().map(|point| point.runs).sum::<u64>();
    let known: Vec<(&ModelStatistics, CostPoint, String)> = statistics
        .iter()
        .filter_map(|model| Some((model, model.curves.iter().max_by_key(runs)?)))
        .flat_map(|(model, curve)| curve.points.iter().map(move |point| (model, *point)))
        .filter(|(_, point)| point.rows.is_power_of_two())
        .map(|(model, point)| (model, point, point.rows.to_string()))
        .collect();
    let costs = known.iter().map(|(model, point, rows)| {
        let (name, version) = (model.name.as_str(), model.version.as_str());
        let labels = vec![("model", name), ("version", version), ("rows", rows.as_str())];
        (labels, point.time.as_secs_f64())
    });
    out.gauge(
        "inferring_execution_expected_seconds",
        "What a run of so many rows is reckoned to take",
        costs,
    )
}

fn loads(out: &mut Families<'_>, status: &WorkerStatus, index: &[IndexEntry]) -> fmt::Result {
    let by_result = status.loads.iter().flat_map(|load| {
        [("success", load.succeeded), ("failure", load.failed)].map(|(result, count)| {
            (vec![("model", load.model.as_str()), ("result", result)], count)
        })
    });
    out.counter("inferring_model_loads", "Loads of a model, by how they ended", by_result)?;
    let states = index.iter().flat_map(|entry| {
        ModelState::ALL.map(|state| {
            let version = entry.version.as_ref().map_or("", ModelVersion::as_str);
            let labels =
                vec![("model", entry.name.as_str()), ("version", version), ("state", state.name())];
            (labels, f64::from(u8::from(entry.state == state)))
        })
    });
    out.gauge("inferring_model_state", "1 for the state that a version is in", states)
}

fn gateway(out: &mut Families<'_>, status: &GatewayStatus) -> fmt::Result {
    out.requests(status.requests, status.errors, status.in_flight)?;
    out.counter("inferring_failovers", "Tries after one that failed", alone(status.failovers))?;
    out.counter(
        "inferring_retries",
        "Tries after one that failed that drew on the budget of retries",
        alone(status.tries.retries),
    )?;
    let TryStatus { hedges, hedges_won, .. } = status.tries;
    out.counter(
        "inferring_hedges",
        "Tries beside one that took long, by whether they answered first",
        [("won", hedges_won), ("lost", hedges.saturating_sub(hedges_won))]
            .map(|(result, count)| (vec![("result", result)], count)),
    )?;
    out.counter(
        "inferring_retry_budget_exhausted",
        "Requests not tried again, or not hedged when it was time, for want of budget",
        alone(status.tries.budget_exhausted),
    )?;
    out.counter(
        "inferring_admission_refused",
        "Requests refused because as many were in flight as workers can do in time",
        alone(status.admission.refused),
    )?;
    out.gauge(
        "inferring_admission_limit",
        "Requests that may be in flight at present",
        alone(status.admission.limit as f64),
    )?;
    out.gauge(
        "inferring_membership_version",
        "Lists of workers that were in force since the start",
        alone(status.membership.version as f64),
    )?;
    out.counter(
        "inferring_membership_failures",
        "Lists of workers that could not be read or taken over",
        alone(status.membership.failures),
    )?;
    out.gauge(
        "inferring_membership_stale",
        "1 where the newest list of workers is not in force, as it cannot be",
        alone(f64::from(u8::from(status.membership.error.is_some()))),
    )?;
    let workers = || status.workers.iter();
    let counts = |value: fn(&EndpointStatus) -> u64| {
        workers().map(move |worker| (vec![("worker", worker.id.as_str())], value(worker)))
    };
    let gauges = |value: fn(&EndpointStatus) -> f64| {
        workers().map(move |worker| (vec![("worker", worker.id.as_str())], value(worker)))
    };
    out.counter("inferring_worker_requests", "Tries sent to a worker", counts(|w| w.requests))?;
    out.counter(
        "inferring_worker_failures",
        "Tries that failed by the worker's fault",
        counts(|w| w.failures),
    )?;
    out.gauge(
        "inferring_worker_requests_in_flight",
        "Tries that a worker has not answered yet",
        gauges(|w| w.in_flight as f64),
    )?;
    out.gauge(
        "inferring_worker_load_bound",
        "Tries that may be in flight at a worker with the next one; 0 while it is not asked",
        gauges(|w| w.allotment.bound as f64),
    )?;
    out.gauge(
        "inferring_worker_load",
        "Tries in flight that count against the bound: all that do not wait for an equal one's run",
        gauges(|w| w.allotment.taken as f64),
    )?;
    out.gauge(
        "inferring_worker_load_part",
        "The part of its work that a worker gets: below 1 while it has only just begun",
        gauges(|w| w.allotment.part),
    )?;
    out.gauge(
        "inferring_hot_keys",
        "Keys that are asked for so often that several workers answer them",
        alone(status.hot_keys as f64),
    )?;
    out.gauge(
        "inferring_worker_reachable",
        "Whether the worker's last health check succeeded",
        gauges(|w| f64::from(u8::from(w.reachable))),
    )?;
    out.gauge(
        "inferring_worker_draining",
        "1 where the worker gets no new requests, by an operator's or a list's word",
        gauges(|w| f64::from(u8::from(w.draining))),
    )?;
    out.gauge(
        "inferring_circuit_breaker_state",
        "0 where traffic flows, 1 where trials are let through, 2 where none is",
        gauges(|w| match w.breaker.state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        }),
    )?;
    out.gauge(
        "inferring_worker_ejected",
        "1 where the worker is left alone, as it does far worse than the others",
        gauges(|w| f64::from(u8::from(w.ejected.is_some()))),
    )?;
    out.counter(
        "inferring_worker_ejections",
        "How often the worker was left alone, as it did far worse than the others",
        counts(|w| w.ejections),
    )?;
    out.gauge(
        "inferring_gateway_panic",
        "1 where so few workers are well that all that are there are asked",
        alone(f64::from(u8::from(status.panic))),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use inferring_types::{
        AdmissionStatus, Allotment, BackendStatus, Batching, BreakerStatus, CacheStatus,
        ContentDigest, DeviceStatus, EjectedStatus, EjectionReason, LoadStatus, MembershipStatus,
        ModelMetadata, ModelStatus,
    };

    use super::*;

    fn lines(snapshot: Snapshot) -> Vec<String> {
        let text = snapshot.into_text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn iris() -> ModelStatus {
        ModelStatus {
            metadata: Arc::new(ModelMetadata {
                name: "iris".parse().unwrap(),
                version: ModelVersion::first(),
                aliases: Vec::new(),
                digest: ContentDigest::of(b"iris"),
                size_bytes: 1,
                inputs: Vec::new(),
                outputs: Vec::new(),
                batching: Batching::Alone { reason: "a test".into() },
                batch_size_max: 0,
            }),
            device: DeviceStatus { provider: "fake".into(), fallback_reason: None },
            batches: BatchStatus {
                deadline: 3,
                refused: 5,
                interrupted: 6,
                ..BatchStatus::default()
            },
        }
    }

    #[test]
    fn a_worker_tells_of_its_loads_runs_and_what_they_cost() {
        let status = WorkerStatus {
            id: "worker_1".into(),
            incarnation: 1,
            ready: true,
            loading: false,
            uptime: Default::default(),
            requests: 7,
            in_flight: 1,
            errors: 2,
            cache: CacheStatus { hits: 4, ..CacheStatus::default() },
            batches: BatchStatus::default(),
            models: vec![iris()],
            loads: vec![LoadStatus { model: "iris".parse().unwrap(), succeeded: 0, failed: 3 }],
            backend: BackendStatus {
                name: "fake".into(),
                version: "1".into(),
                library: None,
                found_by: None,
            },
            resident_memory_bytes: Some(1 << 20),
        };
        let index = vec![IndexEntry {
            name: "iris".parse().unwrap(),
            version: Some(ModelVersion::first()),
            state: ModelState::Unavailable,
            reason: "the file is truncated".into(),
        }];
        let mut statistics = ModelStatistics::new("iris".parse().unwrap(), ModelVersion::first());
        let curve = |row_bytes, runs| {
            let point = |rows| CostPoint { rows, time: Duration::from_micros(250 * rows), runs };
            CostCurve { row_bytes, points: [1, 3, 4].map(point).into() }
        };
        statistics.curves = vec![curve(16, 7), curve(4096, 2)];
        let lines = lines(Snapshot::Worker(Box::new(status), index, vec![statistics]));
        let costs = lines.iter().filter(|line| line.starts_with("inferring_execution_expected"));
        assert_eq!(costs.count(), 2, "{lines:#?}");
        for expected in [
            "inferring_requests_total 7",
            "inferring_execution_expected_seconds{model=\"iris\",version=\"1\",rows=\"4\"} 0.001",
            "inferring_executions_total{model=\"iris\",version=\"1\",reason=\"deadline\"} 3",
            "inferring_requests_refused_total{model=\"iris\",version=\"1\"} 5",
            "inferring_executions_interrupted_total{model=\"iris\",version=\"1\"} 6",
            "inferring_cache_requests_total{result=\"hit\"} 4",
            "inferring_model_loads_total{model=\"iris\",result=\"failure\"} 3",
            "inferring_model_state{model=\"iris\",version=\"1\",state=\"UNAVAILABLE\"} 1.0",
            "inferring_model_state{model=\"iris\",version=\"1\",state=\"READY\"} 0.0",
            "process_resident_memory_bytes 1048576.0",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
    }

    #[test]
    fn a_gateway_tells_of_its_workers() {
        let worker = EndpointStatus {
            id: "worker_1".into(),
            address: "in process".into(),
            node_id: None,
            process: None,
            weight: 1.0,
            draining: false,
            reachable: true,
            last_probe_error: None,
            breaker: BreakerStatus {
                state: BreakerState::Open,
                failures: 5,
                ..BreakerStatus::CLOSED
            },
            ejected: Some(EjectedStatus {
                reason: EjectionReason::Slow { factor: 50.0 },
                returns_in: Duration::from_secs(30),
            }),
            ejections: 3,
            requests: 9,
            failures: 5,
            in_flight: 8,
            allotment: Allotment { bound: 3, taken: 2, part: 0.5 },
            share: 1.0,
        };
        let status = GatewayStatus {
            ready: true,
            uptime: Default::default(),
            requests: 4,
            in_flight: 0,
            errors: 0,
            failovers: 5,
            tries: TryStatus { retries: 4, hedges: 3, hedges_won: 2, budget_exhausted: 6 },
            admission: AdmissionStatus { limit: 512, refused: 7 },
            membership: MembershipStatus::default(),
            panic: true,
            hot_keys: 4,
            workers: vec![worker],
            models: Vec::new(),
        };
        let lines = lines(Snapshot::Gateway(Box::new(status)));
        for expected in [
            "inferring_failovers_total 5",
            "inferring_retries_total 4",
            "inferring_hedges_total{result=\"won\"} 2",
            "inferring_hedges_total{result=\"lost\"} 1",
            "inferring_retry_budget_exhausted_total 6",
            "inferring_admission_refused_total 7",
            "inferring_admission_limit 512.0",
            "inferring_worker_failures_total{worker=\"worker_1\"} 5",
            "inferring_worker_requests_in_flight{worker=\"worker_1\"} 8.0",
            "inferring_worker_load_bound{worker=\"worker_1\"} 3.0",
            "inferring_worker_load{worker=\"worker_1\"} 2.0",
            "inferring_worker_load_part{worker=\"worker_1\"} 0.5",
            "inferring_hot_keys 4.0",
            "inferring_worker_reachable{worker=\"worker_1\"} 1.0",
            "inferring_circuit_breaker_state{worker=\"worker_1\"} 2.0",
            "inferring_worker_ejected{worker=\"worker_1\"} 1.0",
            "inferring_worker_ejections_total{worker=\"worker_1\"} 3",
            "inferring_gateway_panic 1.0",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
    }
}
