//! A gateway over scripted workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inferring_gateway::{Gateway, GatewayConfig, Member, Probes};
use inferring_types::{
    BreakerState, Deadline, EndpointStatus, GatewayStatus, InferRequest, InferResponse,
    InferenceService, NamedTensor, NodeStatus, RequestId, ServiceError, StatusSource, Tensor,
    WorkerId,
};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use crate::fake_worker::{Answer, FakeWorker, Presence};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Workers `worker_1`, `worker_2` and so on behind a gateway that has probed them once.
pub(crate) struct Fleet {
    pub(crate) workers: Vec<Arc<FakeWorker>>,
    pub(crate) gateway: Arc<Gateway>,
    journal: Arc<Mutex<Vec<WorkerId>>>,
    _probes: Probes,
}

impl Fleet {
    pub(crate) async fn start(size: usize) -> Self {
        Self::start_with(size, GatewayConfig::default()).await
    }

    pub(crate) async fn start_with(size: usize, config: GatewayConfig) -> Self {
        let journal = Arc::<Mutex<Vec<WorkerId>>>::default();
        let worker = |number| {
            let id = WorkerId::from(format!("worker_{number}").as_str());
            Arc::new(FakeWorker::new(id, journal.clone()))
        };
        let workers: Vec<_> = (1..=size).map(worker).collect();
        Self::of(workers, journal, config).await
    }

    /// Another gateway over the same workers, which it learns of in another order.
    pub(crate) async fn rotated(&self, by: usize) -> Self {
        let mut workers = self.workers.clone();
        workers.rotate_left(by);
        workers[1..].reverse();
        Self::of(workers, self.journal.clone(), GatewayConfig::default()).await
    }

    async fn of(
        workers: Vec<Arc<FakeWorker>>,
        journal: Arc<Mutex<Vec<WorkerId>>>,
        config: GatewayConfig,
    ) -> Self {
        let member = |worker: &Arc<FakeWorker>| Member {
            id: worker.id(),
            address: worker.id().to_string(),
            weight: 1.0,
            service: worker.clone(),
        };
        let members = workers.iter().map(member).collect();
        let gateway = Gateway::new(members, config).unwrap();
        let probes = gateway.start_probes().await;
        Self { workers, gateway, journal, _probes: probes }
    }

    pub(crate) fn worker(&self, id: &WorkerId) -> &FakeWorker {
        self.workers.iter().find(|worker| worker.id == *id).unwrap()
    }

    pub(crate) fn all_answer(&self, answer: &Answer) {
        self.workers.iter().for_each(|worker| worker.answers(answer.clone()));
    }

    pub(crate) async fn ask(&self, content: f32) -> Result<InferResponse, ServiceError> {
        self.gateway.infer(request("m", content, 30 * SECOND)).await
    }

    /// Asks, and tells which worker served.
    pub(crate) async fn served_by(&self, content: f32) -> WorkerId {
        self.ask(content).await.unwrap().served.worker
    }

    /// Asks in a task of its own, which has come as far as it can at the return.
    pub(crate) async fn start_asking(&self, content: f32) -> Asking {
        let gateway = self.gateway.clone();
        let task = tokio::spawn(async move {
            let result = gateway.infer(request("m", content, 30 * SECOND)).await;
            (result, Instant::now())
        });
        tokio::task::yield_now().await;
        task
    }

    /// The workers in the order in which `content` belongs to them: all of them decline.
    pub(crate) async fn order_of(&self, content: f32) -> Vec<WorkerId> {
        self.all_answer(&Answer::Error(ServiceError::unavailable("declined")));
        self.take_journal();
        self.ask(content).await.unwrap_err();
        self.all_answer(&Answer::Echo);
        self.take_journal()
    }

    /// So many contents, `content` the first of them, that belong to the workers in the same order.
    pub(crate) async fn of_one_order(&self, content: f32, count: usize) -> Vec<f32> {
        let order = self.order_of(content).await;
        let mut contents = vec![content];
        let mut others = (10_000..u16::MAX).map(f32::from);
        while contents.len() < count {
            let other = others.next().unwrap();
            if self.order_of(other).await == order {
                contents.push(other);
            }
        }
        contents
    }

    /// Who was asked since this was last called.
    pub(crate) fn take_journal(&self) -> Vec<WorkerId> {
        std::mem::take(&mut self.journal.lock())
    }

    pub(crate) async fn status(&self) -> GatewayStatus {
        match self.gateway.status().await.unwrap() {
            NodeStatus::Gateway(status) => *status,
            NodeStatus::Worker(_) => panic!("a gateway says that it is a worker"),
        }
    }

    pub(crate) async fn endpoint(&self, id: &WorkerId) -> EndpointStatus {
        self.status().await.workers.into_iter().find(|worker| worker.id == *id).unwrap()
    }

    /// Lets time pass until the breaker of this worker, which is open, lets a trial through.
    pub(crate) async fn wait_for_trial(&self, id: &WorkerId) {
        let left = self.endpoint(id).await.breaker.trial_in.unwrap();
        // Timers go by the millisecond.
        tokio::time::sleep(left + Duration::from_millis(1)).await;
        assert_eq!(self.breaker(id).await, BreakerState::HalfOpen);
    }

    pub(crate) async fn breaker(&self, id: &WorkerId) -> BreakerState {
        self.endpoint(id).await.breaker.state
    }
}

/// A request under way: its outcome, and when it came.
pub(crate) type Asking = tokio::task::JoinHandle<(Result<InferResponse, ServiceError>, Instant)>;

/// A request about one number.
pub(crate) fn request(model: &str, content: f32, timeout: Duration) -> InferRequest {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let tensor = Tensor::from_f32([1].into(), &[content]).unwrap();
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    InferRequest {
        id: format!("request-{id}").parse::<RequestId>().unwrap(),
        model: model.parse().unwrap(),
        version: None,
        inputs: vec![NamedTensor::new("x".into(), tensor)],
        outputs: Vec::new(),
        deadline: Deadline::after(Instant::now().into_std(), timeout),
        priority: None,
        sequence: None,
    }
}

/// Lets time pass: as many probes as fit into it are over.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration + Duration::from_millis(10)).await;
}
