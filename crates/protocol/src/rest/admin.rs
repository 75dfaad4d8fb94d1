//! What operators send to a node's admin listener, and what it answers.

use inferring_types::{
    Blame, EndpointStatus, ErrorKind, GatewayStatus, ServiceError, WorkerChange, WorkerSpec,
};
use serde::{Deserialize, Serialize};

use super::documents::MembershipDocument;

/// A worker to add: `POST /admin/workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddWorkerRequest {
    /// Its id; its address where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it is reached, as `HOST:PORT`.
    pub address: String,
    /// Its share of the keys; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Whether it is to get no requests yet.
    #[serde(default)]
    pub draining: bool,
}

impl AddWorkerRequest {
    /// Reads the worker of a request.
    ///
    /// # Errors
    /// `InvalidArgument` where it names none.
    pub fn decode(body: &[u8]) -> Result<WorkerSpec, ServiceError> {
        let Self { id, address, weight, draining } = decode(body)?;
        let spec = WorkerSpec::new(id.as_deref(), &address)
            .map_err(|error| ServiceError::invalid(error.to_string()))?;
        Ok(WorkerSpec { weight: weight.unwrap_or(spec.weight), draining, ..spec })
    }
}

/// A worker's new weight: `POST /admin/workers/{id}/weight`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// Its share of the keys, relative to the others.
    pub weight: f64,
}

impl WeightRequest {
    /// Reads the change of a request.
    ///
    /// # Errors
    /// `InvalidArgument` where it is none.
    pub fn decode(body: &[u8]) -> Result<WorkerChange, ServiceError> {
        decode(body).map(|Self { weight }| WorkerChange::Weight(weight))
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::invalid(format!("the body is not as expected: {error}")))
}

/// A gateway's workers: `GET /admin/workers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkersDocument {
    /// Whether the gateway itself takes requests.
    pub ready: bool,
    /// The list in force.
    pub membership: MembershipDocument,
    /// The workers on it.
    pub workers: Vec<WorkerDocument>,
}

/// One worker of a gateway: `GET /admin/workers/{id}`, and the answer to each change of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerDocument {
    /// Its id.
    pub id: String,
    /// Where it is reached.
    pub address: String,
    /// Its share of the keys, relative to the others.
    pub weight: f64,
    /// Whether it gets no new requests, by an operator's or a list's word.
    pub draining: bool,
    /// Whether its last health check succeeded.
    pub reachable: bool,
    /// Why its last health check failed; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its circuit breaker: `CLOSED`, `OPEN` or `HALF_OPEN`.
    pub breaker: String,
    /// The process that answered its last health check; another one after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Tries that it has not answered yet.
    pub in_flight: u64,
    /// Tries sent to it.
    pub requests: u64,
    /// Tries that failed by its fault.
    pub failures: u64,
    /// Its share of all tries, 0 to 1.
    pub share: f64,
}

impl From<&GatewayStatus> for WorkersDocument {
    fn from(status: &GatewayStatus) -> Self {
        Self {
            ready: status.ready,
            membership: MembershipDocument::from(&status.membership),
            workers: status.workers.iter().map(WorkerDocument::from).collect(),
        }
    }
}

impl WorkersDocument {
    /// The worker of this id.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn find(self, id: &str) -> Result<WorkerDocument, ServiceError> {
        let unknown = || {
            let message = format!("there is no worker `{id}`");
            ServiceError::new(ErrorKind::NotFound, Blame::Client, message)
        };
        self.workers.into_iter().find(|worker| worker.id == id).ok_or_else(unknown)
    }
}

impl From<&EndpointStatus> for WorkerDocument {
    fn from(endpoint: &EndpointStatus) -> Self {
        Self {
            id: endpoint.id.to_string(),
            address: endpoint.address.clone(),
            weight: endpoint.weight,
            draining: endpoint.draining,
            reachable: endpoint.reachable,
            error: endpoint.last_probe_error.clone(),
            breaker: endpoint.breaker.state.name().to_owned(),
            process: endpoint.process.map(|process| format!("{process:016x}")),
            in_flight: endpoint.in_flight,
            requests: endpoint.requests,
            failures: endpoint.failures,
            share: endpoint.share,
        }
    }
}

/// Whether a node drains: the answer to `POST /admin/drain` and `POST /admin/undrain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingDocument {
    /// Whether it says that it takes no more requests.
    pub draining: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_to_add_needs_an_address_alone() {
        let worker = AddWorkerRequest::decode(br#"{"address": "h:1"}"#).unwrap();
        assert_eq!(worker, "h:1".parse().unwrap());
        let body = br#"{"id": "w", "address": "h:1", "weight": 2, "draining": true}"#;
        let worker = AddWorkerRequest::decode(body).unwrap();
        assert_eq!((worker.id.as_str(), worker.weight, worker.draining), ("w", 2.0, true));
    }

    #[test]
    fn what_is_no_request_is_told_with_its_reason() {
        for (body, reason) in [
            (&b""[..], "EOF"),
            (b"{}", "missing field `address`"),
            (br#"{"address": "h"}"#, "the port is missing"),
            (br#"{"address": "h:1", "heft": 2}"#, "unknown field `heft`"),
        ] {
            let error = AddWorkerRequest::decode(body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(
            WeightRequest::decode(br#"{"weight": 0.5}"#).unwrap(),
            WorkerChange::Weight(0.5),
        );
        assert!(WeightRequest::decode(b"{}").is_err());
    }
}
