//! What clients do wrong is never held against a worker.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::faults::send_raw;
use inferring_integration_tests::models::{self, SETOSA, SLOW_DOUBLE};
use inferring_integration_tests::v2::Message;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::cluster;

/// A request that is HTTP, but wrong: path, header fields and body, and the status it deserves.
type Wrong = (&'static str, &'static [(&'static str, &'static str)], &'static str, u16);

const WRONG: &[Wrong] = &[
    ("/infer", &[], "", 400),
    ("/infer", &[], "{", 400),
    ("/infer", &[], "[]", 400),
    ("/infer", &[], "{}", 400),
    ("/infer", &[], "\u{1}\u{2}", 400),
    ("/infer", &[], r#"{"input_data": "5.1"}"#, 400),
    ("/infer", &[], r#"{"input_data": [1, 2, 3]}"#, 400),
    ("/infer", &[], r#"{"input_data": [1, 2, 3, 4, 5]}"#, 400),
    ("/infer", &[], r#"{"input_data": [1, 2, NaN, 4]}"#, 400),
    ("/infer", &[], r#"{"input_data": [1, 2, null, 4]}"#, 400),
    ("/infer", &[], r#"{"input_data": [1, 2, 3, 1e999]}"#, 400),
    ("/infer", &[("x-request-timeout-ms", "soon")], r#"{"input_data": [1, 2, 3, 4]}"#, 400),
    ("/infer", &[("x-request-timeout-ms", "0")], r#"{"input_data": [1, 2, 3, 4]}"#, 504),
    ("/models/absent/infer", &[], r#"{"input_data": [1, 2, 3, 4]}"#, 404),
    // It reaches a worker, where only the model itself can tell that it is wrong.
    ("/models/poison_row/infer", &[], r#"{"input_data": [99]}"#, 400),
    ("/v2/models/iris/infer", &[], r#"{"inputs": []}"#, 400),
    (
        "/v2/models/iris/infer",
        &[],
        r#"{"inputs": [{"name": "input", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}]}"#,
        400,
    ),
    (
        "/v2/models/iris/infer",
        &[(Message::HEAD_LENGTH, "9999")],
        r#"{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4]}]}"#,
        400,
    ),
];

/// Requests that are no HTTP, or too clever.
const NOT_HTTP: &[&str] = &[
    "GET\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01",
    "POST /infer HTTP/9.9\r\nHost: x\r\n\r\n",
    "POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}",
    "POST /infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "POST /infer HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    "POST /infer HTTP/1.1\r\n: no name\r\n\r\n",
];

#[test]
fn fault_10_malformed_requests_open_no_breaker_and_the_next_good_one_is_answered() {
    let cluster = cluster().models([models::iris(), models::named("poison_row")]).start();
    let client = cluster.client();
    for (count, kind) in [(5, "five"), (95, "a hundred")] {
        for wrong in WRONG {
            (0..count).for_each(|_| refused(&client, wrong));
            cluster.assert_breakers_closed();
        }
        for text in NOT_HTTP {
            (0..count).for_each(|_| refused_as_no_http(&client, text));
            cluster.assert_breakers_closed();
        }
        let answer = client.post_json("/infer", &json!({ "input_data": SETOSA })).ok();
        let expected = json!(kind == "a hundred");
        assert_eq!(answer["cached"], expected, "the good request after {kind} of each kind");
    }
    let stats = client.stats();
    for breaker in stats["circuit_breakers"].as_array().unwrap() {
        assert_eq!(breaker["failures"], 0, "{breaker}");
    }
    for worker in stats["workers"].as_array().unwrap() {
        assert_eq!(worker["failures"], 0, "{worker}");
    }
    assert_eq!(stats["reachable_workers"], 3);
}

#[test]
fn fault_11_clients_that_hang_up_count_against_no_worker_and_leave_nothing_behind() {
    let cluster = cluster().models([models::named("slow")]).start();
    let client = cluster.client();
    for round in 0..3 {
        let in_flight = |count: u64| {
            let stats = client.stats();
            let workers = stats["workers"].as_array().unwrap().iter();
            workers.map(|worker| worker["in_flight"].as_u64().unwrap()).sum::<u64>() >= count
        };
        let hasty: Vec<_> = (0..20).map(|n| ask_slowly(&client, 100 * round + n)).collect();
        wait_until("workers are at it", LONG, || in_flight(1));
        drop(hasty);
        wait_until("nothing is in flight", LONG, || !in_flight(1));
    }
    wait_until("workers are done", LONG, || {
        cluster.sum("in_flight") == 0 && cluster.sum("batch_processor/queued") == 0
    });
    cluster.assert_breakers_closed();
    let stats = client.stats();
    assert!(stats["workers"].as_array().unwrap().iter().all(|worker| worker["failures"] == 0));
    let answer = client.post_json(&SLOW_DOUBLE.path(), &SLOW_DOUBLE.body(7777));
    SLOW_DOUBLE.check(7777, &answer).unwrap();
}

/// A connection on which a question was sent, and nothing read yet.
fn ask_slowly(client: &Client, n: u64) -> TcpStream {
    let body = SLOW_DOUBLE.body(n).to_string();
    let head = format!("POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(client.address()).unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

#[track_caller]
fn refused(client: &Client, (path, headers, body, status): &Wrong) {
    let answer = client.post(path, headers, body);
    assert_eq!(answer.status, *status, "{path} {headers:?} {body}: {}", answer.text());
}

#[track_caller]
fn refused_as_no_http(client: &Client, text: &str) {
    let answer = send_raw(client.address(), text.as_bytes(), Duration::from_secs(5));
    assert!(answer.closed, "{text:?}: the connection stays open after {:?}", answer.text);
    let status = answer.status();
    assert!(status.is_none_or(|status| (400..500).contains(&status)), "{text:?}: {status:?}");
}
