//! A server that may open nothing more. Apart from the other tests, whose process it would be too.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

// What this test does not use of them, the others do.
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "it/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "it/node.rs"]
mod node;

use std::fs::File;
use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_server::ServerConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use fixture::{Running, within_a_minute};

/// Asks over an open connection and reads the answer's status line.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    answered(stream).await
}

async fn answered(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"{\"live\":true}") {
        assert_ne!(within_a_minute(stream.read_buf(&mut read)).await.unwrap(), 0, "closed");
    }
    String::from_utf8(read).unwrap().lines().next().unwrap().to_owned()
}

/// Processor time of this process.
fn busy() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

#[tokio::test]
async fn fault_44_without_descriptors_clients_wait_and_are_served_when_there_are_some_again() {
    let threads = NonZeroUsize::new(1);
    let running = Running::start(ServerConfig { threads, ..ServerConfig::default() });
    let mut before = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(ask(&mut before).await, "HTTP/1.1 200 OK");
    let limit = Rlimit { current: Some(128), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One descriptor for the client, none for the server.
    files.pop();
    let mut waiting = TcpStream::connect(running.address).await.unwrap();
    assert!(File::open("/dev/null").is_err());
    waiting.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let spent = busy();
    let patience = Duration::from_millis(500);
    let early = tokio::time::timeout(patience, waiting.readable()).await;
    assert!(early.is_err(), "accepted without a descriptor");
    // Trying again at once, and again, would take all of that time.
    let spent = busy() - spent;
    assert!(spent < patience / 4, "{spent:?} of {patience:?}");
    // Who is connected is served as ever.
    assert_eq!(ask(&mut before).await, "HTTP/1.1 200 OK");
    drop(files);
    assert_eq!(answered(&mut waiting).await, "HTTP/1.1 200 OK");
}
