//! What lies between gateways and workers: connections that take their time, break, and lead
//! nowhere.
//!
//! It behaves as TCP does: what is sent on a connection arrives late, or the connection breaks;
//! nothing arrives twice, and a lost packet is a delay. Messages on different connections overtake
//! each other. What a worker answers comes over as what its status code and its fields say, and no
//! more.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use inferring_lockstep::now;
use inferring_protocol::status::{error_from_http, http_status};
use inferring_types::{
    Blame, BoxFuture, Deadline, DrainListener, IndexEntry, InferRequest, InferResponse,
    InferenceService, LoadRequest, ModelConfig, ModelMetadata, ModelName, ModelRepository,
    ModelSelector, ModelStatistics, NodeStatus, ServiceError, StatusSource, WorkerId,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout, timeout_at};

use crate::front::Incarnation;
use crate::host::{Host, Process};
use crate::journal::Journal;
use crate::life::Life;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// All connections.
pub(crate) struct Network {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    random: Rng,
    /// What is not as it should be between a gateway and a worker.
    lines: BTreeMap<(usize, WorkerId), Line>,
}

/// The state of the line between a gateway and a worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    /// Nothing arrives at the worker.
    pub(crate) cut_there: bool,
    /// Nothing comes back from it.
    pub(crate) cut_back: bool,
    /// The share of packets that are lost, which makes them late.
    pub(crate) loss: f64,
    /// The share of messages on which their connection breaks.
    pub(crate) resets: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

impl Network {
    pub(crate) fn new(random: Rng) -> Arc<Self> {
        let state = State { random, lines: BTreeMap::new() };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// Changes the line between a gateway and a worker.
    pub(crate) fn change(&self, gateway: usize, worker: &WorkerId, change: impl FnOnce(&mut Line)) {
        change(self.state.lock().lines.entry((gateway, worker.clone())).or_default());
        self.changed.notify_waiters();
    }

    fn line(&self, gateway: usize, worker: &WorkerId) -> Line {
        let state = self.state.lock();
        state.lines.get(&(gateway, worker.clone())).copied().unwrap_or_default()
    }

    /// How long a message takes; `None` where its connection breaks.
    fn draw(&self, line: Line) -> Option<Duration> {
        let random = &mut self.state.lock().random;
        if random.f64() < line.resets {
            return None;
        }
        let mut time = Duration::from_micros(random.u64(100..1500));
        while random.f64() < line.loss {
            time += Duration::from_millis(200);
        }
        Some(time)
    }
}

/// A gateway's way to a worker, as `client::RemoteWorker` is one.
pub(crate) struct Link {
    pub(crate) network: Arc<Network>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) gateway: Incarnation,
    /// The gateway's: connections are closed when it ends.
    pub(crate) life: Arc<Life>,
    pub(crate) host: Arc<Host>,
    /// Whom to tell that the worker wants no new requests.
    pub(crate) draining: OnceLock<DrainListener>,
}

impl Link {
    /// A connection, if there is anybody to take it.
    async fn connect(&self) -> Result<Arc<Process>, ServiceError> {
        let connected = async {
            self.carry(Way::There).await?;
            // The system takes a connection for a process that does not move.
            let process = self.host.process();
            self.carry(Way::Back).await?;
            process.ok_or_else(|| ServiceError::unreachable("connection refused"))
        };
        let connected = timeout(CONNECT_TIMEOUT, connected).await;
        let late = |_| Err(ServiceError::unreachable("no connection in time"));
        connected.unwrap_or_else(late).map_err(ServiceError::unsent)
    }

    /// Brings a message over.
    async fn carry(&self, way: Way) -> Result<(), ServiceError> {
        let line = || self.network.line(self.gateway.gateway, &self.host.id);
        let is_cut = |line: Line| if way == Way::There { line.cut_there } else { line.cut_back };
        loop {
            let time = self.network.draw(line());
            sleep(time.ok_or_else(|| ServiceError::unreachable("connection reset"))?).await;
            if !is_cut(line()) {
                return Ok(());
            }
            loop {
                let changed = self.network.changed.notified();
                if !is_cut(line()) {
                    break;
                }
                changed.await;
            }
        }
    }

    async fn ask(&self, request: InferRequest) -> Result<InferResponse, ServiceError> {
        let mut tried = self.journal.begin_try(self.gateway, &request, &self.host.id);
        let deadline = request.deadline.at();
        let answer = timeout_at(deadline.into(), self.exchange(request)).await;
        let late = |_| Err(ServiceError::deadline_exceeded("the worker did not answer in time"));
        let answer = answer.unwrap_or_else(late);
        tried.ends(&answer);
        answer
    }

    async fn exchange(&self, mut request: InferRequest) -> Result<InferResponse, ServiceError> {
        let process = self.connect().await?;
        let remaining = request.deadline.remaining(now());
        self.carry(Way::There).await?;
        self.host.thawed().await;
        // The wire carries whole milliseconds, and what remains is counted from the arrival on.
        let remaining = Duration::from_millis(remaining.as_millis() as u64);
        request.deadline = Deadline::after(now(), remaining);
        let (answered, task) = process.accept(request);
        let connection = Connection { task: Some(task) };
        let answer = answered.await;
        self.host.thawed().await;
        let drains = !process.worker.is_ready(None);
        connection.close();
        self.carry(Way::Back).await?;
        if drains && let Some(listener) = self.draining.get() {
            listener();
        }
        match answer {
            Ok(answer) => answer.map_err(|error| over_the_wire(&error)),
            Err(_) => Err(ServiceError::unreachable("connection reset")),
        }
    }

    async fn health(&self) -> Result<NodeStatus, ServiceError> {
        let process = self.connect().await?;
        self.carry(Way::There).await?;
        self.host.thawed().await;
        let status = process.worker.status().await;
        self.carry(Way::Back).await?;
        status
    }
}

/// Closed by being dropped: the worker notices a moment later, and gives up the request.
struct Connection {
    task: Option<AbortHandle>,
}

impl Connection {
    fn close(mut self) {
        self.task = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            tokio::spawn(async move {
                sleep(Duration::from_millis(1)).await;
                task.abort();
            });
        }
    }
}

/// What nobody reads: whoever asked has ended.
fn ended() -> ServiceError {
    ServiceError::unreachable("the process has ended")
}

fn over_the_wire(error: &ServiceError) -> ServiceError {
    let retry_after = error.worth_retrying_after();
    let mut told = error_from_http(http_status(error.kind()), error.to_string(), retry_after);
    if error.blame() == Blame::Client && error.is_retryable() {
        // It says so by a field of its own.
        told = told.retryable();
    }
    match error.load() {
        Some(load) => told.with_load(load),
        None => told,
    }
}

impl InferenceService for Link {
    fn models(&self) -> Vec<Arc<ModelMetadata>> {
        Vec::new()
    }

    fn model(&self, _: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
        Err(ServiceError::unavailable("a gateway learns models from health checks"))
    }

    fn is_ready(&self, _: Option<ModelSelector<'_>>) -> bool {
        false
    }

    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
        Box::pin(async { self.life.share(self.ask(request)).await.unwrap_or_else(|| Err(ended())) })
    }
}

impl StatusSource for Link {
    fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
        Box::pin(async { self.life.share(self.health()).await.unwrap_or_else(|| Err(ended())) })
    }

    fn on_draining(&self, listener: DrainListener) {
        let _ = self.draining.set(listener);
    }
}

/// Questions about models go the same way as health checks, and are not simulated.
fn not_simulated<T>() -> BoxFuture<'static, Result<T, ServiceError>> {
    Box::pin(async { Err(ServiceError::unavailable("not simulated")) })
}

impl ModelRepository for Link {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        not_simulated()
    }

    fn load(&self, _: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        not_simulated()
    }

    fn unload(&self, _: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        not_simulated()
    }

    fn config<'a>(
        &'a self,
        _: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        not_simulated()
    }

    fn statistics<'a>(
        &'a self,
        _: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        not_simulated()
    }
}
