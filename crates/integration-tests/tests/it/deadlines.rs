//! Nobody waits longer than it said it would, and nothing runs that nobody waits for.

use std::time::{Duration, Instant};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::models::{self, SLOW_DOUBLE};
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::cluster;

/// More than a request may overstay, on a machine that is busy with other things.
const SLACK: Duration = Duration::from_secs(1);

#[test]
fn a_request_ends_by_its_deadline_though_the_model_takes_longer() {
    let cluster = cluster().models([models::named("slow")]).start();
    let limit = Duration::from_millis(20);
    for (client, numbers) in [(cluster.worker(1).client(), 1..11), (cluster.client(), 11..21)] {
        for n in numbers {
            let body = SLOW_DOUBLE.body(n).to_string();
            let answer = client.post("/infer", &[("x-request-timeout-ms", "20")], body);
            assert_eq!(answer.status, 504, "{}", answer.text());
            assert!(answer.elapsed < limit + SLACK, "{:?}", answer.elapsed);
        }
    }
    cluster.assert_breakers_closed();
}

#[test]
fn fault_23_a_deadline_that_has_passed_on_arrival_is_a_504_and_nothing_runs() {
    let cluster = cluster().workers(1).models([models::named("slow")]).start();
    let runs = || cluster.sum("batch_processor/total_batches");
    let before = runs();
    for (client, numbers) in [(cluster.worker(1).client(), 1..4), (cluster.client(), 4..7)] {
        let fields = [
            ("x-request-timeout-ms", "0"),
            ("x-envoy-expected-rq-timeout-ms", "0"),
            ("grpc-timeout", "0m"),
        ];
        for (n, field) in numbers.zip(fields) {
            let answer = client.post("/infer", &[field], SLOW_DOUBLE.body(n).to_string());
            assert_eq!(answer.status, 504, "{field:?}: {}", answer.text());
        }
    }
    assert_eq!(runs(), before);
    cluster.assert_breakers_closed();
}

#[test]
fn the_protocols_own_timeout_is_a_deadline_too() {
    let cluster = cluster().workers(1).models([models::named("slow")]).start();
    let input = json!({"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]});
    let ask = |client: &Client, microseconds: u64| {
        let parameters = json!({ "timeout": microseconds });
        let body = json!({ "inputs": [input], "parameters": parameters });
        client.post_json("/v2/models/slow/infer", &body)
    };
    for client in [cluster.worker(1).client(), cluster.client()] {
        assert_eq!(ask(&client, 20_000).status, 504);
    }
    ask(&cluster.client(), 60_000_000).ok();
}

#[test]
fn fault_23_requests_whose_deadline_passes_in_the_queue_never_run() {
    let cluster = cluster()
        .workers(1)
        .models([models::named("slow")])
        .worker_setting("worker.batching.mode=\"alone\"")
        .start();
    let address = cluster.gateway().address();
    let client = cluster.client();
    let first = client.post_json("/infer", &SLOW_DOUBLE.body(1000)).ok();
    let run = Duration::from_micros(first["execution_time_us"].as_u64().unwrap());
    // Time for four runs, and work for forty.
    let limit = 4 * run;
    let asked = Instant::now();
    let clients: Vec<_> = (1..=40)
        .map(|n| {
            let limit = limit.as_millis().to_string();
            std::thread::spawn(move || {
                let body = SLOW_DOUBLE.body(n).to_string();
                let headers = [("x-request-timeout-ms", limit.as_str())];
                let answer = Client::new(address).post("/infer", &headers, body);
                if answer.status == 200 {
                    SLOW_DOUBLE.check(n, &answer).unwrap();
                }
                answer.status
            })
        })
        .collect();
    let statuses: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(asked.elapsed() < limit + 2 * SLACK, "{:?} for {limit:?}", asked.elapsed());
    // Most are told at once that there is too much before them.
    assert!(statuses.iter().all(|status| [200, 429, 504].contains(status)), "{statuses:?}");
    // What nobody waits for any more is dropped. A run may still be in vain, where its own
    // deadline passed while it ran.
    wait_until("the queue is empty", LONG, || cluster.sum("batch_processor/queued") == 0);
    let runs = cluster.sum("batch_processor/total_batches") - 1;
    let answered = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!((answered..=20).contains(&runs), "{runs} runs for {answered} answers");
    cluster.assert_breakers_closed();
}
