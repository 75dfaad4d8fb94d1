//! Stopping: what was asked is answered, and nobody is waited for in vain.

use std::time::{Duration, Instant};

use inferring_protocol::grpc::inference::ServerLiveRequest;
use inferring_server::{Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::fixture::{Connection, Running, echo, echoed, within_a_minute};
use crate::node::HELD;

fn config() -> ServerConfig {
    ServerConfig { drain_timeout: Duration::from_secs(50), ..ServerConfig::default() }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_connection_ends() {
    let mut running = Running::start(config());
    let mut client = running.client().await;
    let call = tokio::spawn(async move { client.model_infer(echo(&[HELD])).await });
    within_a_minute(running.node.until_in_flight(1)).await;
    running.stop();
    running.node.release();
    let response = within_a_minute(call).await.unwrap().unwrap();
    assert_eq!(echoed(response.get_ref()), [HELD]);
    assert_eq!(running.stopped().await, 0);
}

#[tokio::test]
async fn a_stream_is_ended_once_it_has_its_answers() {
    let mut running = Running::start(config());
    let mut client = running.client().await;
    let (requests, received) = mpsc::channel(8);
    let mut answers =
        client.model_stream_infer(ReceiverStream::new(received)).await.unwrap().into_inner();
    requests.send(echo(&[HELD])).await.unwrap();
    within_a_minute(running.node.until_in_flight(1)).await;
    running.stop();
    running.node.release();
    let answer = within_a_minute(answers.message()).await.unwrap().unwrap();
    assert_eq!(echoed(&answer.infer_response.unwrap()), [HELD]);
    let end = within_a_minute(answers.message()).await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "the server is stopping"));
    assert_eq!(running.stopped().await, 0);
}

#[tokio::test]
async fn idle_connections_hold_nothing_up() {
    let mut running = Running::start(config());
    let mut used = running.client().await;
    used.model_infer(echo(&[1.0])).await.unwrap();
    let _unused = Connection::open(running.address).await;
    let _silent = TcpStream::connect(running.address).await.unwrap();
    let began = Instant::now();
    running.stop();
    assert_eq!(running.stopped().await, 0);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

/// Nobody has told it to ask elsewhere, and its first request is on the way.
#[tokio::test]
async fn whoever_has_just_connected_may_ask_though_the_server_closes() {
    let mut running = Running::start(config());
    let mut just_connected = TcpStream::connect(running.address).await.unwrap();
    // Accepted later.
    ask(&mut TcpStream::connect(running.address).await.unwrap()).await;
    running.stop();
    within_a_minute(async { while TcpStream::connect(running.address).await.is_ok() {} }).await;
    assert!(ask(&mut just_connected).await.contains(CLOSE));
    assert_eq!(running.stopped().await, 0);
}

/// Of a service manager, which starts another server then.
#[tokio::test]
async fn who_waits_at_the_end_is_the_next_ones_where_another_process_listens_on() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inherit = || Server::inherit(socket.try_clone().unwrap().into()).unwrap();
    let mut first = Running::on(inherit(), config());
    let address = first.address;
    assert_eq!(address, socket.local_addr().unwrap());
    ask(&mut TcpStream::connect(address).await.unwrap()).await;
    first.stop();
    // Nobody accepts it before the order has come: that takes this thread.
    let waiting = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(first.stopped().await, 0);
    waiting.set_nonblocking(true).unwrap();
    let mut waiting = TcpStream::from_std(waiting).unwrap();
    let _second = Running::on(inherit(), config());
    assert!(!ask(&mut waiting).await.contains(CLOSE));
}

/// Long enough that no test sees its end.
const DELAY: Duration = Duration::from_secs(500);

fn delayed() -> ServerConfig {
    ServerConfig { drain_delay: DELAY, ..config() }
}

/// Asks for the server's metadata, and reads the answer: its head.
pub(crate) async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within_a_minute(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    within_a_minute(stream.read_exact(&mut body)).await.unwrap();
    head
}

pub(crate) const CLOSE: &str = "\r\nconnection: close\r\n";

#[tokio::test]
async fn from_the_order_to_stop_on_each_answer_over_http1_says_that_the_connection_ends() {
    let mut running = Running::start(delayed());
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    assert!(!ask(&mut idle).await.contains(CLOSE));
    running.stop();
    within_a_minute(async {
        // A client that connects now is still served, and told.
        while !ask(&mut TcpStream::connect(running.address).await.unwrap()).await.contains(CLOSE) {}
    })
    .await;
    // One that was there before, and silent, keeps its connection until it has its answer.
    assert!(ask(&mut idle).await.contains(CLOSE));
    assert_eq!(within_a_minute(idle.read(&mut [0])).await.unwrap(), 0, "it is closed");
}

#[tokio::test]
async fn from_the_order_to_stop_on_clients_over_http2_are_sent_away_and_get_their_answers() {
    let mut running = Running::start(delayed());
    let mut client = running.client().await;
    let mut before = client.clone();
    let call = tokio::spawn(async move { client.model_infer(echo(&[HELD])).await });
    within_a_minute(running.node.until_in_flight(1)).await;
    running.stop();
    // After GOAWAY the client's library refuses what is new on this connection.
    within_a_minute(async {
        while before.server_live(ServerLiveRequest {}).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Who connects now may have nowhere else to go.
    let mut late = running.client().await;
    late.model_infer(echo(&[1.0])).await.unwrap();
    running.node.release();
    let response = within_a_minute(call).await.unwrap().unwrap();
    assert_eq!(echoed(response.get_ref()), [HELD]);
    late.model_infer(echo(&[2.0])).await.unwrap();
}
