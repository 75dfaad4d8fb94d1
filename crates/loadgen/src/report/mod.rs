//! What a benchmark found, for programs (as JSON, whose fields keep their names and meaning)
//! and for people ([`Report`]'s `Display`).

#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::cache_test::CacheTestReport;
pub use crate::observe::{EndpointReport, GatewayReport, ServerReport, WorkerReport};

use crate::observe::ratio;
use crate::run::Measured;
use crate::schedule::{Limit, Schedule};
use crate::tally::{Latencies, Tally};
use crate::workload::{Form, Workload, WorkloadInput};

/// What a benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The server that was asked.
    pub target: String,
    /// The path that was asked there.
    pub path: String,
    /// What was sent.
    pub workload: WorkloadReport,
    /// How it was sent.
    pub settings: SettingsReport,
    /// The load's figures; absent in a cache test.
    pub load: Option<RoundReport>,
    /// The cache test's figures.
    pub cache_test: Option<CacheTestReport>,
    /// The servers' own counts; absent where they were not asked for.
    pub server: Option<ServerReport>,
    /// Whether it was ended before its time: then the figures stand for a part of it.
    pub interrupted: bool,
    /// Whether every request had a good answer, and the cache test, if any, found what it should.
    pub succeeded: bool,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReport {
    /// The model.
    pub model: String,
    /// How requests were written: `plain` or `binary`.
    pub form: Form,
    /// What every request brought for each input of the model.
    pub inputs: Vec<InputReport>,
    /// How many different inputs took turns.
    pub distinct_inputs: u64,
    /// Mean length of a request's body.
    pub mean_body_bytes: u64,
    /// With it the same inputs can be made again.
    pub seed: u64,
}

/// What every request brought for one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputReport {
    /// The input.
    pub name: String,
    /// Its datatype.
    pub datatype: String,
    /// The shape of what was sent.
    pub shape: Vec<u64>,
}

/// How it was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingsReport {
    /// `closed` (back to back) or `open` (at a constant rate).
    pub mode: Mode,
    /// Connections, each with at most one request under way.
    pub concurrency: usize,
    /// Of an open loop: requests due per second.
    pub rate_per_second: Option<f64>,
    /// The bound on requests.
    pub requests: Option<u64>,
    /// The bound on time.
    pub duration_seconds: Option<f64>,
    /// How long a request may take.
    pub timeout_seconds: f64,
    /// How long an answer may take to be of use.
    pub service_level_ms: Option<f64>,
    /// Requests sent before the measurement.
    pub warmup_requests: u64,
}

/// Whether the server's speed decides when requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It does: back to back.
    Closed,
    /// It does not: at a constant rate.
    Open,
}

/// The figures of one run of load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// Requests that fell due and were taken up.
    pub requests: u64,
    /// Requests with a good answer.
    pub succeeded: u64,
    /// Requests that the server was too busy for (429).
    pub refused: u64,
    /// Requests that went wrong in another way.
    pub failed: u64,
    /// Requests given up because the run was interrupted.
    pub abandoned: u64,
    /// From the start to the last answer.
    pub elapsed_seconds: f64,
    /// Good answers per second.
    pub throughput_per_second: f64,
    /// Good answers within the service level, where one was given, to three digits.
    pub on_time: Option<u64>,
    /// The same per second.
    pub goodput_per_second: Option<f64>,
    /// Of good answers: to the end of the answer, in a closed loop from sending the request, in
    /// an open loop from the moment at which it was due. Absent where there is none.
    pub latency_ms: Option<LatencyReport>,
    /// The same of refusals.
    pub refusal_latency_ms: Option<LatencyReport>,
    /// What the server said to the first that it refused.
    pub refusal_sample: Option<String>,
    /// Of an open loop: how long after it was due each request was sent.
    pub lateness_ms: Option<LatencyReport>,
    /// Of an open loop: requests that were due while every connection was busy.
    pub backlogged: u64,
    /// What went wrong, by kind.
    pub errors: Vec<ErrorReport>,
    /// Good answers from a cache.
    pub cached: u64,
    /// Their share, 0 to 1.
    pub cache_hit_rate: f64,
    /// Good answers by the worker that gave them.
    pub workers: Vec<AnsweredReport>,
    /// Connections opened beyond the first ones.
    pub reconnects: u64,
    /// What the generator itself took from the machine.
    pub generator: GeneratorReport,
}

/// A distribution in milliseconds, to three digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct LatencyReport {
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// `connect`, `timeout`, `reset` (the connection broke off), `malformed` (no answer as
    /// expected), `status` (an HTTP error), `unsent` (no connection was free in time).
    pub kind: String,
    /// The HTTP status, where that is the failure.
    pub status: Option<u16>,
    /// How many.
    pub count: u64,
    /// The message of the first: the server's own where it sent some.
    pub sample: String,
}

/// Good answers of one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnsweredReport {
    /// The worker, as it calls itself.
    pub node_id: String,
    /// Its good answers.
    pub answers: u64,
    /// Their share of all, 0 to 1.
    pub share: f64,
    /// Of these, from its cache.
    pub cached: u64,
    /// The share of these, 0 to 1.
    pub cache_hit_rate: f64,
    /// Mean of what the worker says that each took.
    pub mean_inference_time_us: f64,
}

/// What the generator itself took from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// Processor time, over all threads.
    pub cpu_seconds: f64,
    /// The same per request.
    pub cpu_us_per_request: f64,
}

impl From<&WorkloadInput> for InputReport {
    fn from(input: &WorkloadInput) -> Self {
        Self {
            name: input.name.to_string(),
            datatype: input.datatype.to_string(),
            shape: input.shape.dimensions().to_vec(),
        }
    }
}

impl WorkloadReport {
    pub(crate) fn new(workload: &Workload, seed: u64) -> Self {
        Self {
            model: workload.model().to_string(),
            form: workload.form(),
            inputs: workload.inputs().iter().map(InputReport::from).collect(),
            distinct_inputs: workload.measured().len() as u64,
            mean_body_bytes: workload.mean_body_bytes(),
            seed,
        }
    }
}

impl SettingsReport {
    pub(crate) fn new(
        schedule: Schedule,
        limit: Limit,
        concurrency: usize,
        timeout: Duration,
        service_level: Option<Duration>,
        warmup_requests: u64,
    ) -> Self {
        let (mode, rate_per_second) = match schedule {
            Schedule::Closed => (Mode::Closed, None),
            Schedule::Open { rate } => (Mode::Open, Some(rate)),
        };
        Self {
            mode,
            concurrency,
            rate_per_second,
            requests: limit.requests,
            duration_seconds: limit.duration.map(|duration| duration.as_secs_f64()),
            timeout_seconds: timeout.as_secs_f64(),
            service_level_ms: service_level.map(|level| rounded(level.as_secs_f64() * 1e3, 3)),
            warmup_requests,
        }
    }
}

impl RoundReport {
    pub(crate) fn new(measured: &Measured, service_level: Option<Duration>) -> Self {
        let Measured { tally, elapsed, cpu, abandoned } = measured;
        let seconds = elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 { rounded(count as f64 / seconds, 1) } else { 0.0 }
        };
        let on_time = service_level.map(|level| tally.latency.count_within(level));
        let cpu_us = cpu.as_secs_f64() * 1e6 / tally.begun.max(1) as f64;
        Self {
            requests: tally.begun,
            succeeded: tally.succeeded,
            refused: tally.refusals.count(),
            failed: tally.failed(),
            abandoned: *abandoned,
            elapsed_seconds: rounded(seconds, 6),
            throughput_per_second: per_second(tally.succeeded),
            on_time,
            goodput_per_second: on_time.map(per_second),
            latency_ms: LatencyReport::new(&tally.latency),
            refusal_latency_ms: LatencyReport::new(&tally.refusals),
            refusal_sample: tally.refusal_sample.clone(),
            lateness_ms: LatencyReport::new(&tally.lateness),
            backlogged: tally.backlogged,
            errors: errors(tally),
            cached: tally.cached,
            cache_hit_rate: ratio(tally.cached, tally.succeeded),
            workers: workers(tally),
            reconnects: tally.reconnects,
            generator: GeneratorReport {
                cpu_seconds: rounded(cpu.as_secs_f64(), 3),
                cpu_us_per_request: rounded(cpu_us, 1),
            },
        }
    }
}

impl LatencyReport {
    /// `None` where nothing was measured.
    pub(crate) fn new(latencies: &Latencies) -> Option<Self> {
        let ms = |duration: Duration| rounded(duration.as_secs_f64() * 1e3, 3);
        (!latencies.is_empty()).then(|| Self {
            mean: ms(latencies.mean()),
            min: ms(latencies.min()),
            p50: ms(latencies.quantile(0.5)),
            p90: ms(latencies.quantile(0.9)),
            p95: ms(latencies.quantile(0.95)),
            p99: ms(latencies.quantile(0.99)),
            p999: ms(latencies.quantile(0.999)),
            max: ms(latencies.max()),
        })
    }
}

fn errors(tally: &Tally) -> Vec<ErrorReport> {
    let report = |(kind, failures): (&crate::failure::FailureKind, &_)| {
        let crate::tally::FailureTally { count, sample } = failures;
        ErrorReport {
            kind: kind.name().to_owned(),
            status: kind.status(),
            count: *count,
            sample: sample.clone(),
        }
    };
    let mut errors: Vec<_> = tally.failures.iter().map(report).collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

fn workers(tally: &Tally) -> Vec<AnsweredReport> {
    let report = |(node_id, worker): (&String, &crate::tally::WorkerTally)| {
        let mean = worker.inference_time.as_secs_f64() * 1e6 / worker.answers.max(1) as f64;
        AnsweredReport {
            node_id: node_id.clone(),
            answers: worker.answers,
            share: ratio(worker.answers, tally.succeeded),
            cached: worker.cached,
            cache_hit_rate: ratio(worker.cached, worker.answers),
            mean_inference_time_us: rounded(mean, 1),
        }
    };
    tally.workers.iter().map(report).collect()
}

pub(crate) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}
