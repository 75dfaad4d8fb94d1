//! A small inference server on a loopback port: the documents are the real ones, the model is
//! `output = first number of the input`.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inferring_loadgen::Target;
use inferring_protocol::rest::documents::{ErrorDocument, GatewayStats, WorkerHealth};
use inferring_protocol::rest::{ModelDocument, plain};
use inferring_types::{
    AdmissionStatus, Allotment, BackendStatus, BatchStatus, Batching, BreakerStatus, CacheStatus,
    ContentDigest, DataType, Dimension, EndpointStatus, GatewayStatus, MembershipStatus,
    ModelMetadata, ModelVersion, RowAxes, ShapeSpec, TensorSpec, TryStatus, WorkerStatus,
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How the server behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Whether it answers `/stats` as a gateway does; otherwise as a worker.
    pub(crate) gateway: bool,
    /// Whether it remembers answers.
    pub(crate) cache: bool,
    /// Whether each output is another, whatever the input.
    pub(crate) unstable: bool,
    /// Whether every tenth inference is refused with 503.
    pub(crate) refuses_some: bool,
    /// Whether the model has two inputs.
    pub(crate) two_inputs: bool,
}

/// A running server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) state: Arc<State>,
    _accepting: JoinSet<()>,
}

/// What it has seen.
pub(crate) struct State {
    behaviour: Behaviour,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    refused: u64,
    hits: u64,
    known: HashSet<Bytes>,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let state = Arc::new(State { behaviour, counts: Mutex::default() });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self { target: address.to_string().parse().unwrap(), state, _accepting: accepting }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| state.answer(request));
            let http = hyper::server::conn::http1::Builder::new();
            // A client that goes away ends it with an error: expected at the end of a run.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl State {
    pub(crate) fn requests(&self) -> u64 {
        self.counts.lock().requests
    }

    /// Different inputs seen.
    pub(crate) fn inputs(&self) -> usize {
        self.counts.lock().known.len()
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(match &*path {
            "/infer" | "/models/first/infer" => self.infer(&body),
            "/v2/models" => json(&serde_json::json!({ "models": [self.model()] })),
            "/v2/models/first" => json(&self.model()),
            "/stats" if self.behaviour.gateway => json(&self.gateway_stats()),
            "/stats" | "/health" => json(&self.worker_health()),
            path => error(StatusCode::NOT_FOUND, &format!("there is no {path}")),
        })
    }

    fn infer(&self, body: &Bytes) -> Response<Full<Bytes>> {
        let request = match plain::decode_request(body, &self.metadata()) {
            Ok(request) => request,
            Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong.to_string()),
        };
        let mut counts = self.counts.lock();
        counts.requests += 1;
        if self.behaviour.refuses_some && counts.requests.is_multiple_of(10) {
            counts.refused += 1;
            return error(StatusCode::SERVICE_UNAVAILABLE, "no healthy worker");
        }
        let known = !counts.known.insert(body.clone());
        let cached = known && self.behaviour.cache;
        counts.hits += u64::from(cached);
        let first = request.input.tensor.to_f32().unwrap()[0];
        let output = if self.behaviour.unstable { counts.requests as f32 } else { first };
        let node_id = if first < 0.5 { "worker_1" } else { "worker_2" };
        json(&serde_json::json!({
            "request_id": "r", "output_data": [output], "node_id": node_id, "cached": cached,
            "inference_time_us": 7,
        }))
    }

    fn metadata(&self) -> ModelMetadata {
        let spec = |name: &str, width| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(width)]),
        };
        let inputs = if self.behaviour.two_inputs { &["x", "z"][..] } else { &["x"] };
        ModelMetadata {
            name: "first".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: ContentDigest::of(b"first"),
            size_bytes: 1,
            inputs: inputs.iter().map(|name| spec(name, 4)).collect(),
            outputs: vec![spec("y", 1)],
            batching: Batching::Rows { reason: "declared".into(), axes: RowAxes::first(1, 1) },
            batch_size_max: 32,
        }
    }

    fn model(&self) -> ModelDocument {
        (&self.metadata()).into()
    }

    fn worker_health(&self) -> WorkerHealth {
        let counts = self.counts.lock();
        let misses = counts.requests - counts.refused - counts.hits;
        (&WorkerStatus {
            id: "worker_9".into(),
            incarnation: 1,
            ready: true,
            loading: false,
            uptime: Duration::from_secs(1),
            requests: counts.requests,
            in_flight: 0,
            errors: counts.refused,
            cache: CacheStatus { hits: counts.hits, misses, ..CacheStatus::default() },
            batches: BatchStatus { batches: misses, rows: misses, ..BatchStatus::default() },
            models: Vec::new(),
            backend: BackendStatus {
                name: "test".into(),
                version: "1".into(),
                library: None,
                found_by: None,
            },
            loads: Vec::new(),
            resident_memory_bytes: None,
        })
            .into()
    }

    fn gateway_stats(&self) -> GatewayStats {
        let counts = self.counts.lock();
        (&GatewayStatus {
            ready: true,
            uptime: Duration::from_secs(1),
            requests: counts.requests,
            in_flight: 0,
            errors: counts.refused,
            failovers: 0,
            tries: TryStatus::default(),
            admission: AdmissionStatus::default(),
            membership: MembershipStatus::default(),
            panic: false,
            hot_keys: 0,
            workers: vec![EndpointStatus {
                id: "worker_9".into(),
                address: "in process".into(),
                node_id: None,
                process: None,
                weight: 1.0,
                draining: false,
                reachable: true,
                last_probe_error: None,
                breaker: BreakerStatus::CLOSED,
                ejected: None,
                ejections: 0,
                requests: counts.requests,
                failures: counts.refused,
                in_flight: 0,
                allotment: Allotment::default(),
                share: 1.0,
            }],
            models: Vec::new(),
        })
            .into()
    }
}

fn json(document: &impl Serialize) -> Response<Full<Bytes>> {
    Response::new(serde_json::to_vec(document).unwrap().into())
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let document = ErrorDocument { error: message.to_owned(), request_id: None };
    let mut response = json(&document);
    *response.status_mut() = status;
    response
}
