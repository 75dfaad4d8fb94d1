//! Clients that are slow, silent, or cut their bytes oddly.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use inferring_server::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Running, echo, echoed, within_a_minute};
use crate::node::{DEFECT, HELD};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end too.
    let _ = within_a_minute(stream.read_to_end(&mut read)).await;
    read
}

#[tokio::test]
async fn the_protocol_is_told_however_the_first_bytes_are_cut() {
    let running = Running::start(ServerConfig::default());
    let http1 = b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                  content-length: 2\r\n\r\n{}";
    let http2 = [PREFACE, EMPTY_SETTINGS].concat();
    for (bytes, expected) in [(&http1[..], &b"HTTP/1.1 400"[..]), (&http2, &[0, 0])] {
        for cut in [1, 3, 16, 24] {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for part in bytes.chunks(cut) {
                stream.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut read = vec![0; expected.len()];
            within_a_minute(stream.read_exact(&mut read)).await.unwrap();
            assert_eq!(read, expected, "{cut}");
        }
    }
}

#[tokio::test]
async fn grpc_over_http1_is_told_what_is_wrong() {
    let running = Running::start(ServerConfig::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = b"POST /inference.GRPCInferenceService/ServerLive HTTP/1.1\r\nhost: x\r\n\
                    connection: close\r\ncontent-type: application/grpc\r\n\
                    content-length: 5\r\n\r\n\0\0\0\0\0";
    stream.write_all(request).await.unwrap();
    let answer = String::from_utf8(read_to_end(stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 505"), "{answer}");
    assert!(answer.contains("gRPC takes HTTP/2"), "{answer}");
}

#[tokio::test]
async fn a_silent_client_is_not_kept() {
    let config =
        ServerConfig { header_timeout: Duration::from_millis(100), ..ServerConfig::default() };
    let running = Running::start(config);
    let half_a_head = b"POST /v2/models/echo/infer HTTP/1.1\r\nho";
    let preface = [PREFACE, EMPTY_SETTINGS].concat();
    // Of a request's head the first frame announces more than comes.
    let half_headers = [&preface[..], &[0, 0, 9, 1, 4, 0, 0, 0, 1, 0x82]].concat();
    for sent in [&b""[..], b"P", &PREFACE[..10], half_a_head, &preface, &half_headers] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        read_to_end(stream).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let config =
        ServerConfig { write_timeout: Duration::from_millis(100), ..ServerConfig::default() };
    let running = Running::start(config);
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1000000]}],"parameters":{"binary_data_output":true}}"#;
    let body = [head.as_bytes(), &vec![0; 4_000_000]].concat();
    let request = Request::post(format!("{}v2/models/echo/infer", running.origin()))
        .header("inference-header-content-length", head.len())
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(Bytes::from(body), true).unwrap();
    let mut answer = within_a_minute(response).await.unwrap().into_body();
    // What is read is not released, so the client never allows more than it did at first.
    let mut length = 0;
    let error = loop {
        match within_a_minute(answer.data()).await {
            Some(Ok(data)) => length += data.len(),
            Some(Err(error)) => break error,
            None => panic!("the whole answer came, of {length} bytes"),
        }
    };
    assert!(error.is_reset(), "{error}");
    assert!(length < 4_000_000);
    // Others on the connection are not concerned.
    let mut client = client.ready().await.unwrap();
    let request = Request::get(format!("{}v2", running.origin())).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    tokio::select! {
        response = within_a_minute(response) => assert_eq!(response.unwrap().status(), 200),
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_client_may_cancel_all_its_requests_at_once() {
    let running = Running::start(ServerConfig::default());
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let uri = format!("{}inference.GRPCInferenceService/ModelInfer", running.origin());
    for _ in 0..20 {
        // Opened and reset before this thread sends anything: most are never looked at.
        let mut opened = Vec::new();
        for _ in 0..100 {
            client = poll_fn(|cx| client.poll_ready(cx)).await.map(|()| client).unwrap();
            let request =
                Request::post(&uri).header("content-type", "application/grpc").body(()).unwrap();
            opened.push(client.send_request(request, false).unwrap());
        }
        for (_, sending) in &mut opened {
            sending.send_reset(h2::Reason::CANCEL);
        }
        tokio::task::yield_now().await;
    }
    let request = Request::get(format!("{}v2", running.origin())).body(()).unwrap();
    let (response, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(within_a_minute(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_defect_costs_its_own_request_alone() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let mut other = client.clone();
    let held = tokio::spawn(async move { other.model_infer(echo(&[HELD])).await });
    within_a_minute(running.node.until_in_flight(1)).await;
    assert!(within_a_minute(client.model_infer(echo(&[DEFECT]))).await.is_err());
    running.node.release();
    let response = within_a_minute(held).await.unwrap().unwrap();
    assert_eq!(echoed(response.get_ref()), [HELD]);
}

/// Whether the server answers on a new connection from this address of ours.
async fn is_served(running: &Running, from: [u8; 4], kept: &mut Vec<TcpStream>) -> bool {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::from(from), 0).into()).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    // Where it is closed at once, this may fail already.
    let _ = stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut first = [0];
    let read = within_a_minute(stream.read(&mut first)).await;
    kept.push(stream);
    read.is_ok_and(|length| length == 1)
}

#[tokio::test]
async fn a_client_with_all_its_connections_gets_no_more_and_others_do() {
    let max = std::num::NonZeroUsize::new(3);
    let config = ServerConfig { connections_per_client_max: max, ..ServerConfig::default() };
    let running = Running::start(config);
    let (one, other) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let mut kept = Vec::new();
    for _ in 0..3 {
        assert!(is_served(&running, one, &mut kept).await);
    }
    for _ in 0..3 {
        assert!(!is_served(&running, one, &mut kept).await);
    }
    assert!(is_served(&running, other, &mut kept).await);
    // One that ends makes room for another one.
    drop(kept.remove(0));
    let again = async {
        while !is_served(&running, one, &mut kept).await {
            tokio::task::yield_now().await;
        }
    };
    within_a_minute(again).await;
}

#[tokio::test]
async fn fault_38_an_answer_that_is_taken_bit_by_bit_is_given_up() {
    let config = ServerConfig {
        write_timeout: Duration::from_millis(500),
        rate_min: bytesize::ByteSize::mib(64),
        ..ServerConfig::default()
    };
    let running = Running::start(config);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,8000000]}],"parameters":{"binary_data_output":true}}"#;
    let length = head.len();
    let fields = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: {length}\r\n\
         content-length: {}\r\n\r\n{head}",
        length + 32_000_000,
    );
    stream.write_all(fields.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 32_000_000]).await.unwrap();
    // Each part is a sign of life, and all of them together are below the rate.
    let mut part = [0; 8 * 1024];
    let mut length = 0;
    let ended = async {
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(read) => length += read,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within_a_minute(ended).await;
    assert!(length < 32_000_000, "the whole answer came");
}

/// The answer fits into what the system holds for a connection, so that nothing waits for the
/// client here. It takes nothing of it, and is not left to the system for as long as it likes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn fault_38_an_answer_that_only_the_system_holds_is_given_up() {
    let config = ServerConfig {
        write_timeout: Duration::from_millis(500),
        // Nothing else ends it in the time that this test has.
        header_timeout: Duration::from_secs(600),
        connections_per_client_max: std::num::NonZeroUsize::new(1),
        ..ServerConfig::default()
    };
    let running = Running::start(config);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,50000]}],"parameters":{"binary_data_output":true}}"#;
    let length = head.len();
    let fields = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: {length}\r\n\
         content-length: {}\r\n\r\n{head}",
        length + 200_000,
    );
    stream.write_all(fields.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 200_000]).await.unwrap();
    // Its place is free again.
    let mut kept = Vec::new();
    within_a_minute(async { while !is_served(&running, [127, 0, 0, 1], &mut kept).await {} }).await;
    let answer = read_to_end(stream).await;
    assert!(answer.len() < 200_000, "the whole answer came");
}
