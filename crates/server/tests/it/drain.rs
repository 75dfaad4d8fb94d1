//! Stopping: what was asked is answered, and nobody is waited for in vain.

use std::time::{Duration, Instant};

use inferring_server::ServerConfig;
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
    let _silent = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let began = Instant::now();
    running.stop();
    assert_eq!(running.stopped().await, 0);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}
