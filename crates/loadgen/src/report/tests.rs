//! What programs and people read, held to snapshots: a changed name breaks somebody's script.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::*;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::test_server::answer;

/// `answers` good answers of 1, 2, 3, … ms, taking turns between two workers.
fn measured(answers: u64, cached: bool, output: &str) -> Measured {
    let mut tally = Tally::new(true);
    for number in 1..=answers {
        let node = if number % 4 == 0 { "worker_2" } else { "worker_1" };
        let response = Response::new(Bytes::from(answer(node, cached, output)));
        let read = Answer::read(&response).unwrap();
        tally.begun += 1;
        tally.record_success(Duration::from_millis(number), &read);
        let output = read.output(&response);
        tally.outputs.as_mut().unwrap().insert(number, output);
    }
    let (elapsed, cpu) = (Duration::from_millis(2500), Duration::from_micros(answers * 21));
    Measured { tally, elapsed, cpu, abandoned: 0 }
}

fn report() -> Report {
    Report {
        target: "http://localhost:8000".to_owned(),
        path: "/infer".to_owned(),
        workload: WorkloadReport {
            model: "iris".to_owned(),
            form: Form::Plain,
            inputs: vec![InputReport {
                name: "input".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, 4],
            }],
            distinct_inputs: 1000,
            mean_body_bytes: 62,
            seed: 42,
        },
        settings: SettingsReport::new(
            Schedule::Open { rate: 400.0 },
            Limit { requests: Some(1003), duration: Some(Duration::from_secs(30)) },
            50,
            Duration::from_secs(10),
            Some(Duration::from_millis(50)),
            20,
        ),
        load: None,
        cache_test: None,
        server: None,
        interrupted: false,
        succeeded: true,
        notes: Vec::new(),
    }
}

fn load_report() -> Report {
    let mut measured = measured(1000, false, "[0.5]");
    let tally = &mut measured.tally;
    tally.begun += 5;
    for milliseconds in [1, 2] {
        let full = br#"{"error":"the queue is full"}"#;
        let refusal = Failure::status(StatusCode::TOO_MANY_REQUESTS, full);
        tally.record_refusal(Duration::from_millis(milliseconds), refusal);
    }
    tally.reconnects = 1;
    tally.lateness.record(Duration::from_micros(60));
    tally.record_failure(Failure::timeout(Duration::from_secs(10)));
    for _ in 0..2 {
        let body = br#"{"error":"no healthy worker"}"#;
        tally.record_failure(Failure::status(StatusCode::SERVICE_UNAVAILABLE, body));
    }
    let endpoint = |node: &str, requests, share, breaker: &str| EndpointReport {
        node: node.to_owned(),
        address: "in process".to_owned(),
        requests,
        share,
        failures: 1,
        breaker: breaker.to_owned(),
    };
    Report {
        load: Some(RoundReport::new(&measured, Some(Duration::from_millis(50)))),
        server: Some(ServerReport {
            gateway: Some(GatewayReport {
                requests: 1003,
                errors: 2,
                failovers: 4,
                workers: vec![
                    endpoint("worker_1", 755, 0.75, "CLOSED"),
                    endpoint("worker_2", 252, 0.25, "HALF_OPEN"),
                ],
            }),
            workers: vec![WorkerReport {
                url: "http://localhost:8001".to_owned(),
                node_id: "worker_1".to_owned(),
                restarted: true,
                requests: 755,
                errors: 0,
                cache_hits: 5,
                cache_joined: 0,
                cache_misses: 750,
                cache_hit_rate: 0.0066,
                batches: 300,
                mean_batch_size: 2.5,
            }],
            problems: vec!["http://localhost:8002/health: connection refused".to_owned()],
        }),
        interrupted: true,
        succeeded: false,
        notes: vec!["failed requests are not among the latencies".to_owned()],
        ..report()
    }
}

fn cache_report(first: &Measured, second: &Measured) -> CacheTestReport {
    CacheTestReport::new(100, first, second)
}

#[test]
fn json_of_a_load() {
    insta::assert_json_snapshot!(load_report());
}

#[test]
fn text_of_a_load() {
    insta::assert_snapshot!(load_report());
}

#[test]
fn text_and_json_of_a_cache_test() {
    let (first, mut second) = (measured(100, false, "[1]"), measured(100, true, "[1]"));
    second.tally.latency = Latencies::default();
    second.tally.latency.record(Duration::from_millis(2));
    let cache_test = cache_report(&first, &second);
    assert_eq!((cache_test.speed_up_mean, cache_test.speed_up_p50), (Some(25.25), Some(25.0)));
    insta::assert_json_snapshot!(cache_test);
    insta::assert_snapshot!(Report { cache_test: Some(cache_test), ..report() });
}

#[test]
fn json_reads_back() {
    let text = serde_json::to_string(&load_report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), load_report());
}

#[test]
fn a_cache_test_says_what_was_not_as_it_should_be() {
    for (first, second, finding) in [
        (
            measured(100, false, "[1]"),
            measured(99, true, "[1]"),
            "not every request was answered: 100 of 100 in the first round, 99 in the second",
        ),
        (
            measured(100, true, "[1]"),
            measured(100, true, "[1]"),
            "100 answers of the first round came from the cache already: the inputs were known \
             to the server, use another seed",
        ),
        (
            measured(100, false, "[1]"),
            measured(100, false, "[1]"),
            "only 0 of 100 answers of the second round (0.0 %) came from the cache: it is off, \
             smaller than 100 entries, or a worker was not asked again for what it knew",
        ),
        (
            measured(100, false, "[1]"),
            measured(100, true, "[1.0]"),
            "100 inputs had another output in the second round",
        ),
    ] {
        let cache_test = cache_report(&first, &second);
        assert_eq!(cache_test.findings, [finding]);
        assert!(!cache_test.passed);
        let text = cache_test.to_string();
        assert!(text.contains("FAILED") && text.contains(finding), "{text}");
    }
}

#[test]
fn nothing_answered_is_no_latency() {
    let mut measured = measured(0, false, "");
    measured.tally.record_failure(Failure::unsent(Duration::from_secs(1)));
    let load = RoundReport::new(&measured, None);
    assert_eq!((load.latency_ms, load.throughput_per_second), (None, 0.0));
    let text = Report { load: Some(load), ..report() }.to_string();
    assert!(!text.contains("p99"), "{text}");
}
