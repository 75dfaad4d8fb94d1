//! Connections that have become old: their clients are told to connect anew, and lose nothing.

use std::time::{Duration, Instant};

use inferring_protocol::grpc::inference::ServerLiveRequest;
use inferring_server::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::drain::{CLOSE, ask};
use crate::fixture::{Running, echo, echoed, within_a_minute};
use crate::node::HELD;

const AGE: Duration = Duration::from_millis(200);
/// A tenth less than that.
const AGE_LEAST: Duration = Duration::from_millis(180);

fn short_lived() -> Running {
    Running::start(ServerConfig { connection_age_max: AGE, ..ServerConfig::default() })
}

#[tokio::test]
async fn an_old_connection_over_http1_ends_with_an_answer_that_says_so() {
    let running = short_lived();
    let began = Instant::now();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    within_a_minute(async { while !ask(&mut stream).await.contains(CLOSE) {} }).await;
    assert!(began.elapsed() >= AGE_LEAST, "{:?}", began.elapsed());
    assert_eq!(within_a_minute(stream.read(&mut [0])).await.unwrap(), 0, "it is closed");
    // Whoever comes is young.
    let mut young = TcpStream::connect(running.address).await.unwrap();
    assert!(!ask(&mut young).await.contains(CLOSE));
}

#[tokio::test]
async fn an_old_connection_over_http2_takes_nothing_new_and_answers_what_was_asked() {
    let running = short_lived();
    let began = Instant::now();
    let mut client = running.client().await;
    let mut beside = client.clone();
    let call = tokio::spawn(async move { client.model_infer(echo(&[HELD])).await });
    within_a_minute(running.node.until_in_flight(1)).await;
    // After GOAWAY the client's library refuses what is new on this connection.
    within_a_minute(async {
        while beside.server_live(ServerLiveRequest {}).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(began.elapsed() >= AGE_LEAST, "{:?}", began.elapsed());
    running.node.release();
    let response = within_a_minute(call).await.unwrap().unwrap();
    assert_eq!(echoed(response.get_ref()), [HELD]);
}

#[tokio::test]
async fn without_a_limit_a_connection_stays() {
    let running = Running::start(ServerConfig {
        connection_age_max: Duration::ZERO,
        ..ServerConfig::default()
    });
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..100 {
        assert!(!ask(&mut stream).await.contains(CLOSE));
    }
}
