//! A worker that is a socket and a script.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inferring_client::{ClientConfig, RemoteWorker};
use inferring_protocol::rest::documents::WorkerHealth;
use inferring_protocol::rest::{collect, v2};
use inferring_types::{
    BackendStatus, BatchStatus, Batching, CacheOutcome, CacheStatus, ContentDigest, DataType,
    Deadline, DeviceStatus, Dimension, InferRequest, InferResponse, ModelMetadata, ModelStatus,
    ModelVersion, NamedTensor, RequestId, Served, ShapeSpec, StatusSource, Tensor, TensorSpec,
    WorkerLoad, WorkerStatus,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the worker does once it has read a request for inference.
pub(crate) enum Reply {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes.
    BytesThenClose(Vec<u8>),
    /// Closes without a word, after this long.
    CloseAfter(Duration),
    /// Is busy for ever, and tells when the client closes.
    Busy(Arc<Notify>),
}

/// A request that the worker has read.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Which of the worker's connections it came on, the first being 1.
    pub(crate) connection: usize,
    /// The request line and the header fields.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The time-out that the request states, in milliseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.field("x-request-timeout-ms")
    }

    /// The value of a header field.
    pub(crate) fn field<T: FromStr<Err: Debug>>(&self, name: &str) -> Option<T> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
        self.head.lines().find_map(value).map(|value| value.parse().unwrap())
    }
}

#[derive(Default)]
struct Script {
    /// Replies to all other requests. `GET /health` is answered well, unless at all.
    replies: Mutex<VecDeque<Reply>>,
    /// Whether `GET /health` is not answered.
    is_silent: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

/// A worker that replies as scripted, and a client that knows its model.
pub(crate) struct FakeWorker {
    pub(crate) client: RemoteWorker,
    script: Arc<Script>,
    listening: JoinHandle<()>,
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl FakeWorker {
    pub(crate) async fn start(config: ClientConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::<Script>::default();
        let listening = tokio::spawn(listen(listener, script.clone()));
        let client = client_of(address, config);
        client.status().await.unwrap();
        Self { client, script, listening }
    }

    /// Nobody listens any more, and its connections are closed.
    pub(crate) async fn dies(&self) {
        self.listening.abort();
        while !self.listening.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// It answers no question about its health any more.
    pub(crate) fn falls_silent(&self) {
        self.script.is_silent.store(true, Ordering::SeqCst);
    }

    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.replies.lock().unwrap().extend(replies);
    }

    /// The requests for inference that came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.script.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.head.starts_with("POST ")).cloned().collect()
    }

    /// The requests that came, those for its health left out.
    pub(crate) fn seen_any(&self) -> Vec<Seen> {
        let seen = self.script.seen.lock().unwrap();
        seen.iter().filter(|seen| !seen.head.starts_with("GET /health ")).cloned().collect()
    }

    /// The connections on which those requests came.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.connection).collect()
    }
}

pub(crate) fn client_of(address: SocketAddr, config: ClientConfig) -> RemoteWorker {
    RemoteWorker::new(&address.to_string(), config).unwrap()
}

async fn listen(listener: TcpListener, script: Arc<Script>) {
    let mut connections = tokio::task::JoinSet::new();
    for number in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(converse(stream, number, script.clone()));
    }
}

async fn converse(stream: TcpStream, connection: usize, script: Arc<Script>) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut stream).await {
        let wants_health = head.starts_with("GET /health ");
        script.seen.lock().unwrap().push(Seen { connection, head, body });
        let reply = if wants_health && script.is_silent.load(Ordering::SeqCst) {
            Reply::CloseAfter(Duration::from_secs(60))
        } else if wants_health {
            Reply::Bytes(response("200 OK", "", &health()))
        } else {
            script.replies.lock().unwrap().pop_front().expect("a reply for each request")
        };
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::BytesThenClose(bytes) => return stream.write_all(&bytes).await.unwrap(),
            Reply::CloseAfter(delay) => return tokio::time::sleep(delay).await,
            Reply::Busy(closed) => {
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "nothing is sent any more");
                return closed.notify_one();
            }
        }
    }
}

/// Reads a request's head and body, or `None` where the client has closed.
pub(crate) async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// An answer of this status line, further header fields (each with its end of line) and body.
pub(crate) fn response(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

/// A worker's answer to a request about one number, as the protocol has it.
pub(crate) async fn good_answer() -> Vec<u8> {
    let (fields, body) = good_body().await;
    response("200 OK", &fields, &body)
}

/// The header fields and body of that answer.
pub(crate) async fn good_body() -> (String, Vec<u8>) {
    let answer = InferResponse {
        id: "request-1".parse().unwrap(),
        model: model().name,
        version: ModelVersion::first(),
        outputs: [number(42.0)].into(),
        served: Served {
            worker: "worker_1".into(),
            cache: CacheOutcome::Computed,
            inference_time: Duration::from_millis(2),
            queue_time: Duration::ZERO,
            execution_time: Duration::from_millis(1),
            batch_size: 1,
            load: WorkerLoad::default(),
        },
        routed: None,
    };
    let message = v2::encode_response(&answer, &v2::OutputForm::raw()).unwrap();
    let fields = format!("inference-header-content-length: {}\r\n", message.json_length.unwrap());
    (fields, collect(message.body, usize::MAX).await.unwrap().to_vec())
}

/// A worker's health document.
pub(crate) fn health() -> Vec<u8> {
    let status = WorkerStatus {
        id: "worker_1".into(),
        incarnation: 1,
        ready: true,
        loading: false,
        uptime: Duration::ZERO,
        requests: 0,
        in_flight: 0,
        errors: 0,
        cache: CacheStatus::default(),
        batches: BatchStatus::default(),
        models: vec![ModelStatus {
            metadata: Arc::new(model()),
            device: DeviceStatus { provider: "Fake".into(), fallback_reason: None },
            batches: BatchStatus::default(),
        }],
        backend: BackendStatus {
            name: "fake".into(),
            version: "1".into(),
            library: None,
            found_by: None,
        },
        loads: Vec::new(),
        resident_memory_bytes: None,
    };
    serde_json::to_vec(&WorkerHealth::from(&status)).unwrap()
}

/// A model of one number.
pub(crate) fn model() -> ModelMetadata {
    let number = TensorSpec {
        name: "x".into(),
        datatype: DataType::Fp32,
        shape: ShapeSpec::new([Dimension::Fixed(1)]),
    };
    ModelMetadata {
        name: "m".parse().unwrap(),
        version: ModelVersion::first(),
        aliases: Vec::new(),
        digest: ContentDigest::of(b"m"),
        size_bytes: 1,
        inputs: vec![number.clone()],
        outputs: vec![number],
        batching: Batching::Alone { reason: "a test".into() },
        batch_size_max: 0,
    }
}

fn number(value: f32) -> NamedTensor {
    NamedTensor::new("x".into(), Tensor::from_f32([1].into(), &[value]).unwrap())
}

/// A request that may take 5 seconds from `arrived`.
pub(crate) fn request_of(arrived: Instant) -> InferRequest {
    InferRequest {
        id: "request-1".parse::<RequestId>().unwrap(),
        model: "m".parse().unwrap(),
        version: None,
        inputs: vec![number(1.0)],
        outputs: Vec::new(),
        deadline: Deadline::after(arrived, Duration::from_secs(5)),
        priority: None,
        sequence: None,
    }
}

/// A request that came just now.
pub(crate) fn request() -> InferRequest {
    request_of(Instant::now())
}
