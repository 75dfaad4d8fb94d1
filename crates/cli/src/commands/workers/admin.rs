//! Questions to a gateway's admin listener.

use std::time::Duration;

use anyhow::{Context, bail};
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use inferring_protocol::rest::Chunks;
use inferring_protocol::rest::admin::{
    AddWorkerRequest, WeightRequest, WorkerDocument, WorkersDocument,
};
use inferring_protocol::rest::documents::ErrorDocument;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::PAUSE;
use crate::http::{Address, send};

/// The admin listener of one gateway.
pub(super) struct Admin {
    address: Address,
    timeout: Duration,
}

impl Admin {
    pub(super) fn new(address: Address, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    pub(super) async fn workers(&self) -> anyhow::Result<WorkersDocument> {
        self.ask(Method::GET, "/admin/workers", None::<&()>).await
    }

    pub(super) async fn worker(&self, id: &str) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::GET, &path(id, ""), None::<&()>).await
    }

    pub(super) async fn add(&self, worker: &AddWorkerRequest) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::POST, "/admin/workers", Some(worker)).await
    }

    pub(super) async fn remove(&self, id: &str) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::DELETE, &path(id, ""), None::<&()>).await
    }

    pub(super) async fn weigh(&self, id: &str, weight: f64) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::POST, &path(id, "/weight"), Some(&WeightRequest { weight })).await
    }

    pub(super) async fn drain(&self, id: &str) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::POST, &path(id, "/drain"), None::<&()>).await
    }

    pub(super) async fn undrain(&self, id: &str) -> anyhow::Result<WorkerDocument> {
        self.ask(Method::POST, &path(id, "/undrain"), None::<&()>).await
    }

    /// Waits until a drained worker has answered all that this gateway sent it.
    ///
    /// It has to be seen twice: a request that was on its way to the worker when it was drained
    /// is counted only when it is sent.
    pub(super) async fn wait_until_idle(
        &self,
        id: &str,
        limit: Duration,
    ) -> anyhow::Result<WorkerDocument> {
        let began = Instant::now();
        let mut seen_idle = 0;
        loop {
            let worker = self.worker(id).await?;
            seen_idle = if worker.in_flight == 0 { seen_idle + 1 } else { 0 };
            if seen_idle == 2 {
                return Ok(worker);
            }
            if began.elapsed() >= limit {
                let count = worker.in_flight;
                bail!(
                    "worker `{id}` is drained, and has {count} requests to finish after {limit:?}"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the gateway has a worker's answer to a health check, and from another process
    /// than `before`.
    pub(super) async fn wait_until_there(
        &self,
        id: &str,
        before: Option<&str>,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let worker = self.worker(id).await?;
            let is_new = before.is_none_or(|before| worker.process.as_deref() != Some(before));
            if worker.reachable && is_new {
                return Ok(());
            }
            if began.elapsed() >= limit {
                let why = match worker.error {
                    Some(error) => error,
                    None if !is_new => "it is the same process as before".to_owned(),
                    None => "it has not answered a health check yet".to_owned(),
                };
                bail!("worker `{id}` is not there after {limit:?}: {why}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Chunks::one(body));
        let answer = send(&self.address, request, self.timeout).await.with_context(|| {
            format!(
                "no answer from an admin listener at {}: start the gateway with --admin-listen, \
                 and name its address with --admin",
                self.address,
            )
        })?;
        if answer.status() == StatusCode::OK {
            let text = answer.body();
            return serde_json::from_slice(text)
                .with_context(|| format!("{} answers what no gateway does", self.address));
        }
        match serde_json::from_slice::<ErrorDocument>(answer.body()) {
            Ok(document) => bail!("{}", document.error),
            Err(_) => bail!("{} answered {}", self.address, answer.status()),
        }
    }
}

/// The path of a worker, whatever its id.
fn path(id: &str, action: &str) -> String {
    let mut path = String::from("/admin/workers/");
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path + action
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_is_one_segment_of_a_path() {
        for (id, expected) in [
            ("worker_1", "/admin/workers/worker_1/drain"),
            ("[::1]:8001", "/admin/workers/%5B%3A%3A1%5D%3A8001/drain"),
            ("a/b é", "/admin/workers/a%2Fb%20%C3%A9/drain"),
        ] {
            assert_eq!(path(id, "/drain"), expected);
        }
    }
}
