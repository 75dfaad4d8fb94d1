//! Workers that die or hang cost no request while one is left, and serve again when they return.

use std::time::{Duration, Instant};

use inferring_integration_tests::load::{Load, ask_together, quantile};
use inferring_integration_tests::models::{self, SETOSA, SLOW_DOUBLE, TRIPLE};
use inferring_integration_tests::process::Process;
use inferring_integration_tests::waiting::{LONG, wait_for, wait_until};
use serde_json::json;

use crate::cluster;

/// How soon a worker that is there again must have answered something.
const BACK_IN_ROTATION: Duration = Duration::from_secs(3);

#[test]
fn fault_04_a_killed_worker_costs_no_request_and_is_back_within_three_seconds_of_its_restart() {
    let mut cluster = cluster().models([models::named("int64_scale")]).start();
    let load = Load::start(cluster.gateway().address(), 8, TRIPLE);
    load.wait_for_more(200);
    cluster.worker_mut(2).kill();
    let killed = Instant::now();
    load.wait_for_more(400);

    cluster.spawn_worker(2);
    let ready = cluster.worker_mut(2).wait_until_ready();
    let back = load.wait_for_answer_by("worker_2", ready) - ready;
    load.wait_for_more(200);

    let report = load.finish();
    report.assert_none_failed();
    assert!(back < BACK_IN_ROTATION, "{back:?}");
    assert!(report.by("worker_2").any(|sample| sample.answered() < killed));
    assert!(report.by("worker_2").any(|sample| sample.asked > ready));
    assert_eq!(report.nodes().len(), 3);
    cluster.assert_breakers_closed();
}

#[test]
fn fault_01_requests_in_the_hands_of_a_worker_that_is_killed_are_answered_by_another() {
    others_answer_what_was_in_the_hands_of_a_worker_that(Process::kill);
}

/// The engine is native code: a defect in it ends the process that a model runs in, and no other.
#[test]
fn a_crash_in_the_middle_of_a_run_costs_one_worker_and_no_request() {
    others_answer_what_was_in_the_hands_of_a_worker_that(Process::crash);
}

fn others_answer_what_was_in_the_hands_of_a_worker_that(ends: fn(&mut Process)) {
    let mut cluster = cluster().models([models::named("slow")]).start();
    let address = cluster.gateway().address();
    let clients = std::thread::spawn(move || ask_together(address, SLOW_DOUBLE, 1..=60));
    let gateway = cluster.client();
    let busy = wait_for("a worker has several requests in its hands", LONG, || {
        let stats = gateway.stats();
        let workers = stats["workers"].as_array()?.iter();
        let in_flight = workers.map(|worker| worker["in_flight"].as_u64());
        in_flight.zip(1..).find(|(count, _)| *count > Some(3)).map(|(_, number)| number)
    });
    ends(cluster.worker_mut(busy));
    let report = clients.join().unwrap();
    report.assert_none_failed();
    assert_eq!(report.samples().len(), 60);
    assert!(gateway.stats()["failovers"].as_u64() > Some(0), "{}", gateway.stats());
}

#[test]
fn fault_02_a_frozen_worker_fails_no_request_and_serves_again_once_it_runs_on() {
    const DEADLINE: Duration = Duration::from_secs(10);
    let cluster = cluster().models([models::named("int64_scale")]).start();
    let headers = &[("x-request-timeout-ms", "10000")];
    let load = Load::with_headers(cluster.gateway().address(), 8, TRIPLE, headers);
    load.wait_for_more(200);
    cluster.worker(2).freeze();
    cluster.wait_until_reachable(2);
    load.wait_for_more(400);

    cluster.worker(2).thaw();
    let thawed = Instant::now();
    let back = load.wait_for_answer_by("worker_2", thawed) - thawed;
    load.wait_for_more(200);

    let report = load.finish();
    report.assert_none_failed();
    assert!(report.slowest() < DEADLINE, "{:?}", report.slowest());
    assert!(back < BACK_IN_ROTATION, "{back:?}");
}

#[test]
fn fault_02_requests_to_a_frozen_worker_end_at_their_deadline_where_there_is_no_other() {
    let cluster = cluster().workers(1).start();
    let client = cluster.client();
    cluster.worker(1).freeze();
    for timeout in ["100", "400"] {
        let headers = [("x-request-timeout-ms", timeout)];
        let body = json!({ "input_data": SETOSA }).to_string();
        let answer = client.post("/infer", &headers, body);
        assert_eq!(answer.status, 504, "{}", answer.text());
        let limit = Duration::from_millis(timeout.parse().unwrap());
        assert!(answer.elapsed >= limit && answer.elapsed < limit + Duration::from_secs(1));
    }
}

#[test]
fn fault_03_without_any_worker_requests_are_refused_at_once_and_workers_that_come_are_found() {
    let mut cluster = cluster().start();
    let client = cluster.client();
    for (worker, left) in [(1, 2), (2, 1), (3, 0)] {
        cluster.worker_mut(worker).kill();
        let answer = client.post_json("/infer", &json!({ "input_data": SETOSA }));
        assert_eq!(answer.status, if left > 0 { 200 } else { 503 }, "{}", answer.text());
    }
    cluster.wait_until_reachable(0);
    let answers = (0..21).map(|_| client.post_json("/infer", &json!({ "input_data": SETOSA })));
    let mut times = Vec::new();
    for answer in answers {
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("1"));
        let text = answer.text();
        for worker in ["worker_1", "worker_2", "worker_3", "Connection refused"] {
            assert!(text.contains(worker), "{text}");
        }
        times.push(answer.elapsed);
    }
    // The median, since the machine may be busy with other things now and then.
    let median = quantile(times, 0.5);
    assert!(median < Duration::from_millis(50), "{median:?}");
    assert_eq!(client.get("/health").status, 503);
    assert_eq!(client.get("/v2/health/ready").status, 503);
    assert_eq!(client.get("/v2/health/live").status, 200);

    cluster.spawn_worker(2);
    let ready = cluster.worker_mut(2).wait_until_ready();
    wait_until("the worker is found", LONG, || {
        client.post_json("/infer", &json!({ "input_data": SETOSA })).status == 200
    });
    assert!(ready.elapsed() < Duration::from_secs(2), "{:?}", ready.elapsed());
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_gateway_that_starts_before_its_workers_finds_them() {
    let mut cluster = cluster().start_gateway_later();
    cluster.start_gateway();
    let client = cluster.client();
    let answer = client.post_json("/infer", &json!({ "input_data": SETOSA }));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    for worker in 1..=3 {
        cluster.spawn_worker(worker);
    }
    let ready = (1..=3).map(|worker| cluster.worker_mut(worker).wait_until_ready()).max().unwrap();
    cluster.wait_until_reachable(3);
    assert!(ready.elapsed() < Duration::from_secs(2), "{:?}", ready.elapsed());
    client.post_json("/infer", &json!({ "input_data": SETOSA })).ok();
}
