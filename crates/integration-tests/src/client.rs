//! Asks a process over HTTP, with a client that nobody here wrote.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request};

use crate::waiting::LONG;

/// A client of one process. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: SocketAddr,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// From before the request was sent to after the answer was read.
    pub elapsed: Duration,
}

impl Client {
    /// A client of the process at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(LONG))
            .max_idle_connections(1024)
            .max_idle_connections_per_host(1024)
            .build();
        Self { agent: ureq::Agent::new_with_config(config), address }
    }

    /// The address that it asks.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where no whole answer comes back.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let uri = format!("http://{}{path}", self.address);
        let request = headers
            .iter()
            .fold(Request::builder().method(&method).uri(uri), |r, (k, v)| r.header(*k, *v));
        let started = Instant::now();
        let mut response = if body.is_empty() && method != Method::POST {
            self.agent.run(request.body(()).unwrap())?
        } else {
            self.agent.run(request.body(body).unwrap())?
        };
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec()?;
        let elapsed = started.elapsed();
        let status = response.status().as_u16();
        Ok(Answer { status, headers: response.headers().clone(), body, elapsed })
    }

    /// `GET path`.
    ///
    /// # Panics
    /// Where no whole answer comes back.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `POST path` with a body.
    ///
    /// # Panics
    /// Where no whole answer comes back.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", path, headers, body.as_ref())
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// `POST path` with a document in JSON.
    ///
    /// # Panics
    /// Where no whole answer comes back.
    #[track_caller]
    pub fn post_json(&self, path: &str, document: &Value) -> Answer {
        self.post(path, &[("content-type", "application/json")], document.to_string())
    }

    /// What `/health` says.
    ///
    /// # Panics
    /// Where no document comes back.
    #[track_caller]
    pub fn health(&self) -> Value {
        self.get("/health").json()
    }

    /// What `/stats` says.
    ///
    /// # Panics
    /// Where no document comes back.
    #[track_caller]
    pub fn stats(&self) -> Value {
        self.get("/stats").json()
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The body of a request that succeeded, as JSON.
    ///
    /// # Panics
    /// Where it did not succeed.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
