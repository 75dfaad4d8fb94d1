//! More than usual is asked: of one key, or of everything.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::load::{Load, quantile};
use inferring_integration_tests::models::{self, SETOSA, SLOW_DOUBLE, TRIPLE};
use serde_json::json;

use crate::{cluster, serving};

#[test]
fn fault_20_one_key_of_nine_tenths_of_the_traffic_is_shared_by_several_workers() {
    const HOT: u64 = 77;
    let cluster = cluster().models([models::named("int64_scale")]).start();
    let load = Load::asking(cluster.gateway().address(), 12, |client, n| {
        let n = if n.is_multiple_of(10) { n } else { HOT };
        TRIPLE.check(n, &client.post_json(&TRIPLE.path(), &TRIPLE.body(n)))
    });
    // By then it is known that it is hot.
    load.wait_for_more(1000);
    let known = Instant::now();
    load.wait_for_more(1500);
    let report = load.finish();
    report.assert_none_failed();
    let all = report.samples().iter().filter(|sample| sample.asked > known).count();
    for worker in ["worker_1", "worker_2", "worker_3"] {
        let by_it = report.by(worker).filter(|sample| sample.asked > known).count();
        println!("{worker}: {by_it} of {all}");
        assert!(by_it * 5 < all * 3, "{worker} answered {by_it} of {all}");
    }
}

/// A question that was asked under pressure.
struct Outcome {
    status: u16,
    elapsed: Duration,
    may_retry_after: bool,
}

/// Asks so many questions a second for so long, whatever becomes of those before, each with that
/// much time.
fn ask_at_a_rate(client: &Client, rate: f64, time: Duration, deadline: Duration) -> Vec<Outcome> {
    // More than can be under way at a time, as each has its deadline.
    let clients = (rate * 2.0 * deadline.as_secs_f64()).ceil();
    let interval = Duration::from_secs_f64(clients / rate);
    let timeout = deadline.as_millis().to_string();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let ask = |number: u32| {
            let mut outcomes = Vec::new();
            let mut next = start + interval.mul_f64(f64::from(number) / clients);
            let mut n = 1000 * u64::from(number);
            while next < start + time {
                while let Some(left) = next.checked_duration_since(Instant::now()) {
                    std::thread::park_timeout(left);
                }
                n += 1;
                let headers = [("x-request-timeout-ms", &*timeout)];
                let body = SLOW_DOUBLE.body(n).to_string();
                let answer = client.post(&SLOW_DOUBLE.path(), &headers, body);
                outcomes.push(Outcome {
                    status: answer.status,
                    elapsed: answer.elapsed,
                    may_retry_after: answer.header("retry-after").is_some(),
                });
                next += interval;
            }
            outcomes
        };
        let threads: Vec<_> =
            (0..clients as u32).map(|number| scope.spawn(move || ask(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn fault_22_of_five_times_too_much_what_can_be_done_is_done_and_the_rest_refused_at_once() {
    let cluster = cluster()
        .workers(1)
        .models([models::named("slow")])
        .worker_setting("worker.batching.mode=\"alone\"")
        .start();
    let client = cluster.client();
    let load = Load::start(cluster.gateway().address(), 4, SLOW_DOUBLE);
    load.wait_for_more(4);
    let began = Instant::now();
    load.wait_for_more(20);
    let time = began.elapsed();
    let report = load.finish();
    report.assert_none_failed();
    let done = report.samples().iter().filter(|sample| sample.answered() > began).count();
    let peak = done as f64 / time.as_secs_f64();
    let processes = || [cluster.gateway().resident_bytes(), cluster.worker(1).resident_bytes()];
    let before = processes();

    let (time, deadline) = (Duration::from_secs(3), Duration::from_secs_f64(10.0 / peak));
    let began = Instant::now();
    let outcomes = ask_at_a_rate(&client, 5.0 * peak, time, deadline);
    let took = began.elapsed();
    let with = |status: u16| outcomes.iter().filter(move |outcome| outcome.status == status);
    let goodput = with(200).count() as f64 / took.as_secs_f64();
    println!("{peak:.1} a second alone, {goodput:.1} of {} asked", outcomes.len());
    assert!(goodput >= peak / 2.0, "{goodput:.1} a second instead of {peak:.1}");
    let refused: Vec<_> = with(429).chain(with(503)).collect();
    assert!(refused.len() * 5 > outcomes.len(), "{} refused of {}", refused.len(), outcomes.len());
    assert!(refused.iter().all(|outcome| outcome.may_retry_after));
    let late = with(504).count();
    assert_eq!(with(200).count() + refused.len() + late, outcomes.len());
    assert!(late * 2 < outcomes.len(), "{late} of {} were late", outcomes.len());
    let median = quantile(refused.iter().map(|outcome| outcome.elapsed).collect(), 0.5);
    println!("refused {} after {median:?}, {late} late of {deadline:?}", refused.len());
    assert!(median < deadline / 4, "refused after {median:?} of {deadline:?}");
    for (after, before) in processes().into_iter().zip(before) {
        let grown = after.saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
    }
    cluster.assert_breakers_closed();
}

/// Asks the same without end, and never waits for an answer before it asks again; until its connection
/// is closed.
fn ask_without_a_pause(address: SocketAddr, body: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let question = format!(
        "POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let questions = question.repeat(200);
    let (mut asking, mut reading) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    std::thread::spawn(move || while asking.write_all(questions.as_bytes()).is_ok() {});
    std::thread::spawn(move || {
        let mut answers = [0; 0x10000];
        while reading.read(&mut answers).is_ok_and(|length| length > 0) {}
    });
    stream
}

#[test]
fn fault_54_clients_that_ask_for_what_is_known_without_a_pause_hold_up_nobody() {
    let worker = serving("worker").arg(models::iris()).set(["server.threads=1"]).start();
    let client = worker.client();
    let known = json!({ "input_data": SETOSA });
    client.post_json("/infer", &known).ok();
    let hits = || client.stats()["cache_hits"].as_u64().unwrap();
    let flood: Vec<_> =
        (0..8).map(|_| ask_without_a_pause(worker.address(), &known.to_string())).collect();
    for n in 0..5 {
        let before = hits();
        let answer = client.post_json("/infer", &json!({ "input_data": [5.1, 3.5, 1.4, n] }));
        answer.ok();
        assert!(answer.elapsed < Duration::from_secs(10), "{:?}", answer.elapsed);
        assert!(hits() > before, "they ask no more");
    }
    flood.iter().for_each(|stream| stream.shutdown(Shutdown::Both).unwrap_or_default());
}
