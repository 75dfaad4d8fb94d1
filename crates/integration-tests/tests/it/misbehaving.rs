//! Workers that are there and do badly: slow ones, broken ones, and those that come and go.

use std::time::{Duration, Instant};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::front::{Conduct, Front};
use inferring_integration_tests::load::{Load, ask_together, quantile};
use inferring_integration_tests::models::{self, TRIPLE};
use inferring_integration_tests::process::Process;
use inferring_integration_tests::proxy::Fault;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::Value;

use crate::{cluster, serving};

/// What the gateway says of a worker; the first is 1.
fn of_worker(client: &Client, number: usize) -> Value {
    client.stats()["workers"][number - 1].clone()
}

#[test]
fn fault_08_who_waits_for_a_worker_a_hundred_times_slower_is_answered_by_another() {
    a_worker_slows_down(&[], |_| {});
}

#[test]
fn fault_08_a_worker_a_hundred_times_slower_is_left_alone_where_nobody_is_asked_beside_it() {
    a_worker_slows_down(&["gateway.hedge.enabled=false"], |client| {
        wait_until("it is left alone", LONG, || of_worker(client, 2)["ejected"].is_object());
    });
}

/// A worker that takes milliseconds takes half a second from some moment on. After what the gateway
/// does about it, it has next to no part any more in what is answered, and nobody waits for it.
fn a_worker_slows_down(settings: &[&str], shifts: fn(&Client)) {
    const SLOW: Duration = Duration::from_millis(500);
    let plan = cluster().models([models::named("int64_scale")]).behind_proxies();
    let cluster = settings.iter().fold(plan, |plan, setting| plan.gateway_setting(setting)).start();
    let headers = &[("x-request-timeout-ms", "10000")];
    let load = Load::with_headers(cluster.gateway().address(), 8, TRIPLE, headers);
    // So many that it is known what answers usually take.
    load.wait_for_more(400);
    cluster.proxy(2).set(Fault::Latency(SLOW));
    let slowed = Instant::now();
    shifts(&cluster.client());
    let shifted = Instant::now();
    load.wait_for_more(1000);
    let report = load.finish();
    report.assert_none_failed();

    let before = report.by("worker_2").filter(|sample| sample.answered() < slowed).count();
    let all_before = report.samples().iter().filter(|sample| sample.answered() < slowed).count();
    assert!(before * 6 > all_before, "it had its part: {before} of {all_before}");
    let after: Vec<_> = report.samples().iter().filter(|s| s.asked > shifted).collect();
    let by_it = report.by("worker_2").filter(|sample| sample.asked > shifted).count();
    // A third of them would take as long as it does.
    let p95 = quantile(after.iter().map(|sample| sample.elapsed).collect(), 0.95);
    let p99 = quantile(after.iter().map(|sample| sample.elapsed).collect(), 0.99);
    println!("{by_it} of {} in {:?}, p95 {p95:?}, p99 {p99:?}", after.len(), shifted.elapsed());
    assert!(by_it * 20 < after.len(), "it still has {by_it} of {}", after.len());
    assert!(p99 < SLOW, "{p99:?}");
}

/// A worker, and as many fronts before it as there are to be workers of a gateway.
struct Fronts {
    _worker: Process,
    fronts: Vec<Front>,
    gateway: Process,
}

impl Fronts {
    fn start<const N: usize>(count: usize, settings: [&str; N]) -> Self {
        let worker = serving("worker").arg(models::named("int64_scale")).start();
        let fronts: Vec<_> = (0..count).map(|_| Front::start(worker.address())).collect();
        let places =
            fronts.iter().zip(1..).map(|(front, n)| format!("front_{n}={}", front.address()));
        let gateway = serving("gateway").args(places).set(settings).start();
        Self { _worker: worker, fronts, gateway }
    }

    fn set(&self, conduct: Conduct) {
        self.fronts.iter().for_each(|front| front.set(conduct));
    }

    fn asked(&self) -> u64 {
        self.fronts.iter().map(Front::asked).sum()
    }

    /// The state of a front's breaker.
    fn breaker(&self, number: usize) -> String {
        let stats = self.gateway.client().stats();
        stats["circuit_breakers"][number - 1]["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn fault_09_where_every_worker_answers_500_tries_are_few_more_than_requests() {
    const REQUESTS: u64 = 400;
    let settings = [
        "gateway.retry.budget=0.2",
        // There is the share alone.
        "gateway.retry.reserve_per_second=0",
        "gateway.breaker.open_timeout=1s",
    ];
    let fleet = Fronts::start(3, settings);
    fleet.set(Conduct::Fail);
    let report = ask_together(fleet.gateway.address(), TRIPLE, 0..REQUESTS / 2);
    let client = fleet.gateway.client();
    let one_by_one =
        (REQUESTS / 2..REQUESTS).map(|n| client.post_json(&TRIPLE.path(), &TRIPLE.body(n)));
    assert!(one_by_one.into_iter().all(|answer| answer.status >= 500));
    for sample in report.samples() {
        let wrong = sample.result.as_ref().unwrap_err();
        assert!(wrong.starts_with("status 5"), "{wrong}");
    }
    let asked = fleet.asked();
    assert!(asked <= REQUESTS * 12 / 10, "{asked} tries for {REQUESTS} requests");
    // Nor does the gateway give up: most have been asked of somebody.
    assert!(asked >= REQUESTS / 2, "{asked} tries for {REQUESTS} requests");
    fleet.set(Conduct::Pass);
    wait_until("all is well again", LONG, || {
        TRIPLE.check(1, &client.post_json(&TRIPLE.path(), &TRIPLE.body(1))).is_ok()
    });
}

#[test]
fn fault_12_of_hundreds_that_meet_a_breaker_half_open_exactly_the_trials_reach_the_worker() {
    const TRIALS: u64 = 3;
    const REQUESTS: u64 = 300;
    let fleet = Fronts::start(
        2,
        [
            "gateway.breaker.failures_to_open=1",
            "gateway.breaker.trial_permits=3",
            // What is held stays where it is.
            "gateway.hedge.enabled=false",
            "gateway.attempt_timeout=60s",
        ],
    );
    let (client, front) = (fleet.gateway.client(), &fleet.fronts[0]);
    let ask = |n| client.post_json(&TRIPLE.path(), &TRIPLE.body(n));
    front.set(Conduct::HangUp);
    let opened = (0..).find(|&n| {
        TRIPLE.check(n, &ask(n)).unwrap();
        fleet.breaker(1) != "CLOSED"
    });
    assert!(opened < Some(50), "{opened:?}");
    front.set(Conduct::Hold);
    // A probe finds it there.
    wait_until("its breaker is half-open", LONG, || fleet.breaker(1) == "HALF_OPEN");
    let before = (front.asked(), client.stats()["total_requests"].as_u64().unwrap());
    let address = fleet.gateway.address();
    let clients = std::thread::spawn(move || ask_together(address, TRIPLE, 1000..1000 + REQUESTS));
    wait_until("all others are answered", LONG, || {
        let stats = client.stats();
        stats["total_requests"] == before.1 + REQUESTS && stats["in_flight"] == TRIALS
    });
    assert_eq!(front.asked() - before.0, TRIALS);
    assert_eq!(fleet.breaker(1), "HALF_OPEN");
    front.set(Conduct::Pass);
    clients.join().unwrap().assert_none_failed();
    wait_until("it has its part again", LONG, || {
        ask(front.asked() + 5000).ok();
        fleet.breaker(1) == "CLOSED"
    });
}

#[test]
fn fault_18_a_worker_that_comes_and_goes_is_asked_ever_more_rarely_and_costs_no_request() {
    /// Of a time-out that doubles, so much is let pass though the worker is there again; from the
    /// second time on.
    const KEPT: u32 = 32;
    const TIMEOUT: Duration = Duration::from_secs(24);
    const CLIENTS: u64 = 8;
    let mut cluster = cluster()
        .models([models::named("int64_scale")])
        .gateway_setting("gateway.breaker.open_timeout=\"24s\"")
        .gateway_setting("gateway.breaker.failures_to_open=1")
        .start();
    let load = Load::start(cluster.gateway().address(), CLIENTS, TRIPLE);
    load.wait_for_answer_by("worker_2", Instant::now());
    for waits in [Duration::ZERO, 2 * TIMEOUT / KEPT, 4 * TIMEOUT / KEPT] {
        // A probe may find that it is gone before any try does; then that was not the time.
        let killed = loop {
            cluster.worker_mut(2).kill();
            let killed = Instant::now();
            let is_open = || cluster.breakers()[1].1 != "CLOSED";
            let is_gone = || of_worker(&cluster.client(), 2)["reachable"] == false;
            wait_until("it is found to be gone", LONG, || is_open() || is_gone());
            let was_tried = is_open();
            cluster.spawn_worker(2);
            cluster.worker_mut(2).wait_until_ready();
            if was_tried {
                break killed;
            }
            load.wait_for_answer_by("worker_2", Instant::now());
        };
        let back = load.wait_for_answer_by("worker_2", killed) - killed;
        assert!(back >= waits, "{back:?} after it was killed, not {waits:?}");
        wait_until("its breaker is closed", LONG, || cluster.breakers()[1].1 == "CLOSED");
    }
    let failures = of_worker(&cluster.client(), 2)["failures"].as_u64().unwrap();
    load.finish().assert_none_failed();
    // What was in its hands each time, and no more.
    assert!(failures <= 3 * CLIENTS, "{failures} tries failed");
}
