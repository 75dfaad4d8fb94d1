//! Requests that can be read in two ways: refused, and nothing of what they hide is run.

use std::sync::atomic::Ordering;

use inferring_integration_tests::faults::{RawAnswer, send_raw};
use inferring_integration_tests::smuggling::attempts;
use inferring_integration_tests::waiting::LONG;
use inferring_server::ServerConfig;

use crate::fixture::Running;

const PATH: &str = "/v2/models/echo/infer";
const BODY: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#;

async fn send(running: &Running, bytes: Vec<u8>) -> RawAnswer {
    let address = running.address;
    tokio::task::spawn_blocking(move || send_raw(address, &bytes, LONG)).await.unwrap()
}

#[tokio::test]
async fn fault_40_a_request_that_hides_another_is_refused_and_neither_runs() {
    let running = Running::start(ServerConfig::default());
    let mut wrong = Vec::new();
    for attempt in attempts(PATH, BODY) {
        let answer = send(&running, attempt.bytes).await;
        let ran = running.node.in_flight_max.swap(0, Ordering::SeqCst);
        let answers = answer.text.matches("HTTP/1.1 ").count();
        if (answer.status(), answers, answer.closed, ran) != (Some(400), 1, true, 0) {
            wrong.push((attempt.name, answer, ran));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn requests_that_can_be_read_in_one_way_only_are_answered_one_after_the_other() {
    let running = Running::start(ServerConfig::default());
    let chunked = format!(
        "1\r\n{}\r\n{:x};a=b\r\n{}\r\n0\r\nX-T: u\r\n\r\n",
        &BODY[..1],
        BODY.len() - 1,
        &BODY[1..]
    );
    let length = BODY.len();
    let requests = [
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length:{length}\r\n\r\n{BODY}"),
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\n\r\n{chunked}"),
        // What clients offer to every server is not taken up: the standard lets one answer as ever.
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
        "\r\nGET /v2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
    ];
    let answer = send(&running, requests.concat().into_bytes()).await;
    assert!(answer.closed);
    let text = &answer.text;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), requests.len(), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), requests.len(), "{text}");
    assert_eq!(text.matches("\"outputs\"").count(), 5, "{text}");
}

#[tokio::test]
async fn a_head_has_its_bounds() {
    let running = Running::start(ServerConfig::default());
    let long = format!("GET /v2 HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(20_000));
    let fields: String = (0..101).map(|n| format!("X-{n}: a\r\n")).collect();
    let many = format!("GET /v2 HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    for (head, name) in [(long, "long"), (many, "many")] {
        let answer = send(&running, head.into_bytes()).await;
        assert!(answer.closed);
        assert_eq!(answer.status(), Some(431), "{name}: {}", answer.text);
    }
}
