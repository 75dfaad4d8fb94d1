//! A server in memory whose every answer is scripted, on virtual time.
//!
//! Connections are pipes in memory, so a test's clock moves only when nobody has anything to
//! do: delays and rates come out exact, and no test waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::target::Connect;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers after a while.
    After(Duration, StatusCode, String),
    /// Answers at once, and closes the connection after it.
    LastOnConnection(String),
    /// Breaks the connection off after a while.
    BreakOff(Duration),
}

impl Reply {
    /// A good answer of worker `w`, at once.
    pub(crate) fn good(cached: bool) -> Self {
        Self::good_after(Duration::ZERO, cached)
    }

    pub(crate) fn good_after(delay: Duration, cached: bool) -> Self {
        Self::After(delay, StatusCode::OK, answer("w", cached, "[1.0]"))
    }
}

/// A good answer's body.
pub(crate) fn answer(node: &str, cached: bool, output: &str) -> String {
    format!(
        r#"{{"request_id":"r","output_data":{output},"node_id":"{node}","cached":{cached},"inference_time_us":10}}"#
    )
}

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When each request arrived, and its body.
    pub(crate) requests: Mutex<Vec<(Instant, Bytes)>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) in_flight_max: AtomicUsize,
}

type Script = dyn Fn(usize, &Bytes) -> Reply + Send + Sync;

/// The server, as its clients reach it.
#[derive(Clone)]
pub(crate) struct TestServer {
    script: Arc<Script>,
    pub(crate) seen: Arc<Seen>,
    refuse: bool,
}

impl TestServer {
    /// A server that asks `script` about each request, by its number from 0 and its body.
    pub(crate) fn new(script: impl Fn(usize, &Bytes) -> Reply + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default(), refuse: false }
    }

    /// A server that accepts no connection.
    pub(crate) fn refusing() -> Self {
        Self { refuse: true, ..Self::new(|_, _| Reply::good(false)) }
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let number = {
            let mut requests = self.seen.requests.lock();
            requests.push((Instant::now(), body.clone()));
            requests.len() - 1
        };
        let now = self.seen.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.seen.in_flight_max.fetch_max(now, Ordering::Relaxed);
        let _leaves = Leaves(&self.seen.in_flight);
        match (self.script)(number, &body) {
            Reply::After(delay, status, body) => {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let mut response = Response::new(Full::from(body));
                *response.status_mut() = status;
                Ok(response)
            }
            Reply::LastOnConnection(body) => {
                let response = Response::builder().header("connection", "close");
                Ok(response.body(Full::from(body)).unwrap())
            }
            Reply::BreakOff(delay) => {
                tokio::time::sleep(delay).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connect for TestServer {
    type Io = TokioIo<DuplexStream>;

    fn authority(&self) -> &str {
        "test-server"
    }

    async fn connect(&self) -> io::Result<Self::Io> {
        if self.refuse {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.seen.connections.fetch_add(1, Ordering::Relaxed);
        let (client, server) = tokio::io::duplex(64 * 1024);
        let this = self.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| this.answer(request));
            // A reply that breaks the connection off ends it with an error: as scripted.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
        });
        Ok(TokioIo::new(client))
    }
}
