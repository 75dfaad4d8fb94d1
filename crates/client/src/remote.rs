//! A worker in another process, as a service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use inferring_protocol::fields::{DRAINING, ELSEWHERE, LOAD, load};
use inferring_protocol::frames;
use inferring_protocol::rest::documents::{ErrorDocument, WorkerHealth};
use inferring_protocol::rest::{Chunks, headers, v2};
use inferring_protocol::status::error_from_http;
use inferring_types::{
    Blame, BoxFuture, Described, DrainListener, ErrorKind, InferRequest, InferResponse,
    InferenceService, ModelCatalog, ModelMetadata, ModelSelector, NodeStatus, SegmentedBytes,
    ServiceError, StatusSource, WorkerLoad, WorkerStatus,
};
use tracing::debug;

use crate::channel::Asked;
use crate::channels::Channels;
use crate::config::ClientConfig;
use crate::connection::{Connection, ConnectionError, Progress, Unanswered};
use crate::pool::Pool;

/// A worker reached over the network.
///
/// Its models are those that it named when its status was last asked for.
pub struct RemoteWorker {
    address: String,
    pub(crate) host: HeaderValue,
    config: ClientConfig,
    pool: Pool,
    channels: Channels,
    models: ArcSwap<ModelCatalog<RemoteModel>>,
}

/// A model of the worker, and the path that asks it.
struct RemoteModel {
    metadata: Arc<ModelMetadata>,
    /// Asks for the newest version, whichever that is when the request arrives.
    infer: Uri,
}

impl RemoteModel {
    fn new(metadata: Arc<ModelMetadata>) -> Self {
        Self { infer: infer_path(metadata.name.as_str(), None), metadata }
    }
}

impl Described for RemoteModel {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }
}

fn infer_path(model: &str, version: Option<&str>) -> Uri {
    let path = match version {
        None => format!("/v2/models/{model}/infer"),
        Some(version) => format!("/v2/models/{model}/versions/{version}/infer"),
    };
    path.parse().expect("the names of a model and of a version are safe in a path")
}

impl RemoteWorker {
    /// The worker at `address` (`host:port`). Nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidArgument` where `address` cannot stand in a request.
    pub fn new(address: &str, config: ClientConfig) -> Result<Self, ServiceError> {
        let host = HeaderValue::from_str(address).map_err(|_| {
            ServiceError::invalid(format!("`{address}` is no address: expected host:port"))
        })?;
        Ok(Self {
            address: address.to_owned(),
            host,
            pool: Pool::new(&config),
            channels: Channels::default(),
            config,
            models: ArcSwap::default(),
        })
    }

    async fn ask(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        // Executed twice, a step of a sequence would change its state twice.
        let repeats = if request.sequence.is_some() { Repeats::Never } else { Repeats::Once };
        let infer = self.infer_path(request.selector())?;
        let message = v2::encode_request(&request);
        let mut before = Progress::Unsent;
        if repeats == Repeats::Once
            && let Some(asked) = self.ask_in_frames(&request, &message)
        {
            match asked.await {
                Ok(answer) => return answer_in_frame(answer, request),
                // As where a connection closes under a request: it is sent again, once.
                Err(Unanswered {
                    progress: progress @ (Progress::Unsent | Progress::Raced),
                    ..
                }) => {
                    before = progress;
                }
                // A worker that is lost with all that it was busy with is not asked again: whoever
                // asked knows how many such requests there are, and who else could take them.
                Err(unanswered) => return Err(self.unanswered(unanswered, repeats)),
            }
        }
        let http = || {
            // Asked for anew each time it is sent: connecting took some of it.
            let remaining = request.deadline.remaining(now());
            let timeout = remaining.as_micros().div_ceil(1000);
            let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
            let mut http = Request::new(message.body.clone());
            *http.method_mut() = Method::POST;
            *http.uri_mut() = infer.clone();
            let fields = http.headers_mut();
            fields.reserve(5);
            fields.insert(HOST, self.host.clone());
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            fields.insert(headers::TIMEOUT, timeout.into());
            fields.insert(LOAD, HeaderValue::from_static("1"));
            if let Some(length) = message.json_length {
                fields.insert(headers::JSON_LENGTH, length.into());
            }
            http
        };
        let response = self.exchange_after(before, http, repeats).await?;
        if response.headers().contains_key(DRAINING) {
            self.channels.draining.tell();
        }
        if response.status() != StatusCode::OK {
            return Err(error_of(&response));
        }
        let load = load_in(&response);
        let (head, body) = response.into_parts();
        let json_length = headers::json_length(&head.headers, body.len()).map_err(malformed)?;
        let mut answer = v2::decode_response(body, json_length, request.id, request.model)?;
        answer.served.load = load.unwrap_or_default();
        Ok(answer)
    }

    /// Sends a request on a channel, if there is one that takes it.
    fn ask_in_frames(&self, request: &InferRequest, message: &v2::Message) -> Option<Asked> {
        let (now, asked) = (now(), request.selector());
        let framed = frames::Request {
            model: request.model.as_str(),
            version: asked.version,
            timeout: request.deadline.remaining(now),
            json_length: message.json_length,
        };
        let Self { address, config, pool, channels, .. } = self;
        channels.ask(address, config, pool, &framed, &message.body, now)
    }

    async fn health(&self) -> Result<WorkerStatus, ServiceError> {
        let request = || {
            let mut http = Request::new(Chunks::default());
            *http.uri_mut() = Uri::from_static("/health");
            http.headers_mut().insert(HOST, self.host.clone());
            http
        };
        let doubt = Doubt(Some(&self.pool));
        let response = self.exchange(request, Repeats::Once).await;
        doubt.settle(&response);
        let response = response?;
        let spoken = response.headers().get(frames::FIELD);
        self.channels.learn(spoken.is_some_and(|version| version == frames::VERSION));
        // A worker that is not ready answers 503 with the same document.
        let health: WorkerHealth =
            serde_json::from_slice(response.body().contiguous()).map_err(|error| {
                let what = format!("{} does not answer as a worker does", self.address);
                ServiceError::failed(what).caused_by(error)
            })?;
        let status = WorkerStatus::try_from(health)?;
        self.learn(&status);
        Ok(status)
    }

    fn learn(&self, status: &WorkerStatus) {
        let told = || status.models.iter().map(|model| &model.metadata);
        if !self.models.load().iter().map(|model| &model.metadata).eq(told()) {
            let models = told().cloned().map(RemoteModel::new);
            self.models.store(Arc::new(ModelCatalog::new(models)));
        }
    }

    /// The path that asks for a model that the worker is known to serve.
    fn infer_path(&self, asked: ModelSelector<'_>) -> Result<Uri, ServiceError> {
        let models = self.models.load();
        let model = models.get(asked).ok_or_else(|| self.not_known())?;
        Ok(match asked.version {
            None => model.infer.clone(),
            version => infer_path(model.metadata.name.as_str(), version),
        })
    }

    /// What the worker is known to serve of what is asked for.
    pub(crate) fn known(
        &self,
        asked: ModelSelector<'_>,
    ) -> Result<Arc<ModelMetadata>, ServiceError> {
        let models = self.models.load();
        models.get(asked).map(|model| model.metadata.clone()).ok_or_else(|| self.not_known())
    }

    fn not_known(&self) -> ServiceError {
        ServiceError::unavailable(format!(
            "worker at {} is not known to serve this model",
            self.address,
        ))
    }

    /// Sends a request on an idle connection, or on a new one where there is none.
    ///
    /// A worker may close an idle connection at the very moment a request is sent on it. That is
    /// no failure of the worker: the request is sent again, once, on a new connection, where
    /// `repeats` allows it or the worker cannot have seen it. If there is none to be had, the worker
    /// is lost, and may have executed the request: it does not count as one that was not sent.
    pub(crate) async fn exchange(
        &self,
        request: impl Fn() -> Request<Chunks>,
        repeats: Repeats,
    ) -> Result<Response<SegmentedBytes>, ServiceError> {
        self.exchange_after(Progress::Unsent, request, repeats).await
    }

    /// The same of a request that has come so far `before`, on a connection that broke.
    async fn exchange_after(
        &self,
        mut before: Progress,
        request: impl Fn() -> Request<Chunks>,
        repeats: Repeats,
    ) -> Result<Response<SegmentedBytes>, ServiceError> {
        while before == Progress::Unsent
            && let Some(mut connection) = self.pool.take(now())
        {
            if !connection.is_usable().await {
                continue;
            }
            match self.exchange_on(connection, request()).await {
                Err(Unanswered { progress: Progress::Unsent, .. }) => break,
                Err(Unanswered { progress: Progress::Sent, .. }) if repeats == Repeats::Once => {
                    before = Progress::Sent;
                }
                outcome => return outcome.map_err(|error| self.unanswered(error, repeats)),
            }
        }
        let again = async {
            let unsent = |error| Unanswered { error, progress: Progress::Unsent };
            let connection = self.connect().await.map_err(unsent)?;
            self.exchange_on(connection, request()).await
        };
        again.await.map_err(|Unanswered { error, progress }| {
            let progress = progress.max(before);
            self.unanswered(Unanswered { error, progress }, repeats)
        })
    }

    async fn connect(&self) -> Result<Connection, ConnectionError> {
        let all_in_use = || ConnectionError::AllInUse { count: self.pool.open_max() };
        let place = self.pool.place().ok_or_else(all_in_use)?;
        Connection::open(&self.address, &self.config, place).await
    }

    /// Sees to it that this thread has a connection that works, where it had no use for one of
    /// late: a request that comes then need not open one, nor find out that the one there is leads
    /// nowhere.
    async fn keep_warm(&self) {
        if self.pool.is_warm(now(), WARM) {
            return;
        }
        let request = || {
            let mut http = Request::new(Chunks::default());
            *http.uri_mut() = Uri::from_static("/v2/health/live");
            http.headers_mut().insert(HOST, self.host.clone());
            http
        };
        let answer = self.exchange(request, Repeats::Once);
        match tokio::time::timeout(self.config.connect_timeout, answer).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(worker = self.address, error = %error.chain(), "not warm"),
            Err(_) => debug!(worker = self.address, error = "no answer in time", "not warm"),
        }
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        request: Request<Chunks>,
    ) -> Result<Response<SegmentedBytes>, Unanswered> {
        let response = connection.exchange(request, self.config.answer_max()).await?;
        self.pool.put(connection, now());
        Ok(response)
    }

    /// The error for a request without an answer. It is worth a try on another worker, unless this
    /// one may have executed it and that must not happen twice, or has begun to answer: what is
    /// known to have been executed is not executed again.
    fn unanswered(&self, unanswered: Unanswered, repeats: Repeats) -> ServiceError {
        let Unanswered { error, progress } = unanswered;
        let known = |error: ServiceError| match progress {
            Progress::Unsent => error.unsent(),
            Progress::Raced | Progress::Sent | Progress::Answering => error,
        };
        match error {
            ConnectionError::TooLarge { limit } => {
                // The worker is well, and another one would answer as much.
                let message =
                    format!("the worker's answer is larger than the limit of {limit} bytes");
                return ServiceError::new(ErrorKind::Internal, Blame::Server, message);
            }
            ConnectionError::Exhausted(_) => {
                // Another worker may be asked over a connection that there is.
                let message = "there is no room for another connection to a worker";
                return known(ServiceError::overloaded(message)).caused_by(error);
            }
            ConnectionError::AllInUse { .. } => {
                let message = format!("too many requests wait for the worker at {}", self.address);
                return known(ServiceError::overloaded(message)).caused_by(error);
            }
            _ => {}
        }
        let (kind, blame) = (ErrorKind::Unavailable, Blame::WorkerUnreachable);
        let message = format!("worker at {} does not answer", self.address);
        let unreachable = ServiceError::new(kind, blame, message).caused_by(error);
        match (repeats, progress) {
            (_, Progress::Unsent) => unreachable.retryable().unsent(),
            (Repeats::Once, Progress::Raced | Progress::Sent) => unreachable.retryable(),
            (Repeats::Never, Progress::Raced | Progress::Sent) | (_, Progress::Answering) => {
                unreachable
            }
        }
    }
}

/// Whether a request may be sent again that a worker may have executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// It may, as its answer would be the same.
    Once,
    /// It may not.
    Never,
}

impl InferenceService for RemoteWorker {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        self.models.load().iter().map(|model| model.metadata.clone()).collect()
    }

    fn model(&self, asked: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        self.known(asked)
    }

    /// As far as its last status told.
    fn is_ready(&self, asked: Option<ModelSelector<'_>>) -> bool {
        self.models.load().get(asked.unwrap_or_default()).is_some()
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async {
            let deadline = request.deadline;
            if deadline.has_passed(now()) {
                return Err(deadline_exceeded());
            }
            let answer = tokio::time::timeout_at(deadline.at().into(), self.ask(request));
            answer.await.unwrap_or_else(|_| Err(deadline_exceeded()))
        })
    }

    fn keep_warm(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.keep_warm())
    }
}

/// How long a connection may have been idle that is taken to work.
const WARM: Duration = Duration::from_secs(5);

/// A question about the worker's health. If it is not answered, by an error or because whoever
/// asked waits no longer, idle connections are doubted.
struct Doubt<'a>(Option<&'a Pool>);

impl Doubt<'_> {
    /// The question has come to an end.
    fn settle(mut self, answer: &Result<Response<SegmentedBytes>, ServiceError>) {
        match answer {
            Err(error) if error.blame() == Blame::WorkerUnreachable => {}
            _ => self.0 = None,
        }
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.0 {
            pool.doubt();
        }
    }
}

/// Now, by the clock that time-outs run on.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whoever asked set the deadline: that it was too short says nothing of the worker.
fn deadline_exceeded() -> ServiceError {
    ServiceError::deadline_exceeded("the deadline passed before the worker answered")
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::failed("the worker's answer is malformed").caused_by(error)
}

/// The answer that a frame holds.
fn answer_in_frame(message: Bytes, request: InferRequest) -> Result<InferResponse, ServiceError> {
    let (head, body) = frames::Answer::read(message).map_err(malformed)?;
    if head.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).into_owned();
        let error = error_from_http(head.status, text, head.retry_after);
        return Err(match head.load {
            Some(load) => error.with_load(load),
            None => error,
        });
    }
    let mut answer = v2::decode_response(body.into(), head.json_length, request.id, request.model)?;
    answer.served.load = head.load.unwrap_or_default();
    Ok(answer)
}

fn load_in(response: &Response<SegmentedBytes>) -> Option<WorkerLoad> {
    response.headers().get(LOAD).and_then(load::parse)
}

impl StatusSource for RemoteWorker {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { Ok(NodeStatus::Worker(Box::new(self.health().await?))) })
    }

    /// There is one listener, the first.
    fn on_draining(&self, listener: DrainListener) {
        self.channels.draining.listen(listener);
    }
}

pub(crate) fn error_of(response: &Response<SegmentedBytes>) -> ServiceError {
    let document: Option<ErrorDocument> = serde_json::from_slice(response.body().contiguous()).ok();
    let message = document.map_or_else(
        || format!("the worker answered {}", response.status()),
        |document| document.error,
    );
    let retry_after = headers::retry_after(response.headers());
    let mut error = error_from_http(response.status(), message, retry_after);
    if response.headers().contains_key(ELSEWHERE) {
        error = error.retryable();
    }
    match load_in(response) {
        Some(load) => error.with_load(load),
        None => error,
    }
}
