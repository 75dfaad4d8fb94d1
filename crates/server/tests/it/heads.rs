//! Large requests that are refused by their head, and what becomes of the rest of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use http::Request;
use inferring_server::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Running, within_a_minute};
use crate::node::Announcement;

const LARGE: usize = 600_000;
const LIVE: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";

fn full() -> Running {
    let running = Running::start(ServerConfig::default());
    running.node.is_full.store(true, Ordering::SeqCst);
    running
}

/// A request's head, whose body is to follow.
fn head(fields: &str) -> Vec<u8> {
    format!("POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n").into_bytes()
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    within_a_minute(stream.write_all(bytes)).await.unwrap();
}

/// The next answer, its head and its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(text).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    };
    within_a_minute(read).await
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    within_a_minute(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_large_request_is_refused_before_its_body_comes_and_the_connection_serves_on() {
    let running = full();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..3 {
        send(&mut stream, &head(&format!("x-request-id: a\r\ncontent-length: {LARGE}"))).await;
        let refusal = answer(&mut stream).await;
        assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
        for part in ["retry-after: 2\r\n", "x-request-id: a\r\n", "server-timing: ", "full"] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        assert!(!refusal.contains("connection: "), "{refusal}");
        // Now the body comes, which nobody wants, and another request behind it.
        send(&mut stream, &vec![b' '; LARGE]).await;
        send(&mut stream, LIVE).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    }
    let node = &running.node;
    assert_eq!(node.announced.lock().unwrap().len(), 3);
    assert_eq!(node.in_flight_max.load(Ordering::SeqCst), 0, "nothing was handed over");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_looks_for_an_answer_gets_it() {
    let running = full();
    let bytes: [&[u8]; 2] = [&head("content-length: 9000000"), &vec![b' '; 9_000_000]];
    let chunk = [&b"186a0\r\n"[..], &[b' '; 100_000], b"\r\n"].concat();
    let chunks: [&[u8]; 3] = [&head("transfer-encoding: chunked"), &chunk.repeat(90), b"0\r\n\r\n"];
    for bytes in [bytes.concat(), chunks.concat()] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        send(&mut stream, &bytes).await;
        let refusal = answer(&mut stream).await;
        assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
        // So much is read for nobody's sake, and the next request is not looked for in it.
        ends(&mut stream).await;
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_announced_and_thrown_away_like_any_other() {
    let running = full();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &head("transfer-encoding: chunked")).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 429 "));
    let chunk = [&b"186a0\r\n"[..], &[b' '; 100_000], b"\r\n"].concat();
    send(&mut stream, &chunk.repeat(6)).await;
    send(&mut stream, b"0\r\n\r\n").await;
    send(&mut stream, LIVE).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let announced = running.node.announced.lock().unwrap();
    assert_eq!((announced[0].body_bytes, announced[0].tensor_bytes), (None, None));
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_not_asked_in_vain() {
    let running = full();
    let expecting = head(&format!("expect: 100-continue\r\ncontent-length: {LARGE}"));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &expecting).await;
    let refusal = answer(&mut stream).await;
    assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    assert!(refusal.contains("connection: close\r\n"), "{refusal}");
    ends(&mut stream).await;
    // And where there is room, it is.
    running.node.is_full.store(false, Ordering::SeqCst);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &expecting).await;
    assert_eq!(answer(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut stream, &vec![b' '; LARGE]).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_client_that_does_not_send_the_rest_is_not_waited_for_without_end() {
    let config =
        ServerConfig { body_timeout: Duration::from_millis(300), ..ServerConfig::default() };
    let running = Running::start(config);
    running.node.is_full.store(true, Ordering::SeqCst);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &head(&format!("content-length: {LARGE}"))).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 429 "));
    ends(&mut stream).await;
}

#[tokio::test]
async fn a_body_is_waited_for_until_the_requests_deadline() {
    let running = Running::start(ServerConfig::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &head("x-request-timeout-ms: 200\r\ncontent-length: 1000")).await;
    send(&mut stream, b"{").await;
    let refusal = answer(&mut stream).await;
    assert!(refusal.starts_with("HTTP/1.1 504 "), "{refusal}");
    assert!(refusal.contains("the deadline passed before the body had arrived"), "{refusal}");
    // What the client goes on sending does not become a request of its own.
    send(&mut stream, &[b' '; 999]).await;
    send(&mut stream, LIVE).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_server_that_stops_reads_the_rest_of_a_refused_request_first() {
    let mut running = full();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    send(&mut stream, &head(&format!("content-length: {LARGE}"))).await;
    running.node.announced().await;
    running.stop();
    send(&mut stream, &vec![b' '; LARGE]).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 429 "));
    ends(&mut stream).await;
    drop(stream);
    assert_eq!(running.stopped().await, 0);
}

/// A request for `echo` of so many values, raw.
fn raw(values: usize) -> (Vec<u8>, usize) {
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,{values}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        4 * values
    );
    let body = [json.as_bytes(), &vec![0; 4 * values]].concat();
    (body, json.len())
}

#[tokio::test]
async fn a_place_is_kept_for_a_large_request_until_it_is_handed_over() {
    let running = Running::start(ServerConfig::default());
    let node = &running.node;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (body, json) = raw(100_000);
    let length = body.len();
    let fields = format!(
        "inference-header-content-length: {json}\r\nx-request-timeout-ms: 5000\r\n\
         content-length: {length}"
    );
    send(&mut stream, &head(&fields)).await;
    node.announced().await;
    assert_eq!(node.expected.load(Ordering::SeqCst), 1);
    send(&mut stream, &body).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(node.expected_then.load(Ordering::SeqCst), 0);
    let announced = std::mem::take(&mut *node.announced.lock().unwrap());
    let [Announcement { model, body_bytes, tensor_bytes, remaining }] = &announced[..] else {
        panic!("{announced:?}");
    };
    assert_eq!(model.as_deref(), Some("echo"));
    assert_eq!((*body_bytes, *tensor_bytes), (Some(length as u64), Some(400_000)));
    assert!((Duration::from_secs(1)..=Duration::from_secs(5)).contains(remaining));
    // One that is given up half-way gives it back.
    send(&mut stream, &head(&fields)).await;
    send(&mut stream, &body[..1000]).await;
    node.announced().await;
    drop(stream);
    let given_back = async {
        while node.expected.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    within_a_minute(given_back).await;
}

#[tokio::test]
async fn small_requests_and_such_as_are_too_large_are_not_asked_for() {
    let config = ServerConfig { body_size_max: ByteSize::kib(200), ..ServerConfig::default() };
    let running = Running::start(config);
    running.node.is_full.store(true, Ordering::SeqCst);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (body, json) = raw(1000);
    let fields = format!("inference-header-content-length: {json}");
    send(&mut stream, &head(&format!("{fields}\r\ncontent-length: {}", body.len()))).await;
    send(&mut stream, &body).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    send(&mut stream, &head(&format!("content-length: {LARGE}"))).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(*running.node.announced.lock().unwrap(), []);
}

#[tokio::test]
async fn over_http2_many_may_be_refused_so_on_one_connection() {
    let running = full();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = within_a_minute(client.ready()).await.unwrap();
    let ask = |client: &mut h2::client::SendRequest<Bytes>| {
        let uri = format!("{}v2/models/echo/infer", running.origin());
        let length = LARGE.to_string();
        let request = Request::post(uri).header("content-length", length).body(()).unwrap();
        client.send_request(request, false).unwrap()
    };
    for _ in 0..300 {
        client = within_a_minute(client.ready()).await.unwrap();
        let (response, mut body) = ask(&mut client);
        let response = within_a_minute(response).await.unwrap();
        assert_eq!(response.status(), 429);
        // All of it is answered, and the client goes on sending all the same.
        let mut answer = response.into_body();
        while let Some(data) = within_a_minute(answer.data()).await {
            let length = data.unwrap().len();
            answer.flow_control().release_capacity(length).unwrap();
        }
        body.send_data(vec![b' '; LARGE].into(), true).unwrap();
    }
    let mut client = within_a_minute(client.ready()).await.unwrap();
    let request = Request::get(format!("{}v2", running.origin())).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(within_a_minute(response).await.unwrap().status(), 200);
    assert!(!connection.is_finished());
}
