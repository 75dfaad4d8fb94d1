//! The queue between requests and a model's instances: bounded, and sorted into lanes of jobs
//! that may share a run.
//!
//! When a batch leaves is decided by [`inferring_policy::batching`]; here jobs wait, and
//! instances wait for jobs. A full queue refuses at once, because a queue that grows turns
//! overload into time-outs.

mod batch;
mod lane;

use std::sync::Arc;
use std::time::Instant;

use inferring_policy::batching::{self, BatchingConfig, DispatchReason, Plan};
use inferring_types::{BatchStatus, Deadline, RowAxes, ServiceError, Tensor};
use parking_lot::{Condvar, Mutex};

pub(crate) use batch::Batch;
use lane::{Lane, LaneKey};

use crate::cache::Leader;
use crate::config::QueueConfig;
use crate::rows;

/// When a job came, and how soon it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// When the worker took the request.
    pub(crate) accepted: Instant,
    /// After which the answer is of no use to whoever asked first.
    pub(crate) deadline: Deadline,
    /// Its priority class; 0 is the most urgent.
    pub(crate) class: usize,
}

/// One computation to do: a request's inputs, and the duty to answer all who wait for it.
struct Job {
    /// In the model's declared order.
    inputs: Vec<Tensor>,
    /// How much of a batch it takes: its rows, or 1 where rows are not joined.
    rows: usize,
    /// Bytes of all inputs.
    bytes: u64,
    /// When it was submitted.
    enqueued: Instant,
    /// Answers all who wait.
    leader: Leader,
}

impl Job {
    /// More rows count as this many: such a job runs alone anyway, and sums do not overflow.
    const ROWS_MAX: u64 = u32::MAX as u64;

    fn new(inputs: Vec<Tensor>, axes: Option<&RowAxes>, enqueued: Instant, leader: Leader) -> Self {
        // Inputs with rows have equally many: a request is held to that when it is arranged.
        let rows = axes.and_then(|axes| {
            let mut inputs = inputs.iter().zip(&axes.inputs);
            inputs.find_map(|(input, axis)| rows::count(input, (*axis)?))
        });
        let rows = rows.map_or(1, |rows| rows.min(Self::ROWS_MAX));
        let bytes = inputs.iter().map(|input| input.data().len() as u64).sum();
        Self { inputs, rows: rows as usize, bytes, enqueued, leader }
    }
}

/// Where jobs for one model wait for its instances.
pub(crate) struct Batcher {
    policy: BatchingConfig,
    /// Where rows lie, where jobs of equal shape may share a run.
    axes: Option<Arc<RowAxes>>,
    requests_max: usize,
    bytes_max: u64,
    queue: Mutex<Queue>,
    job_arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Never empty lanes; few, because requests for one model mostly have one shape.
    lanes: Vec<Lane>,
    requests: usize,
    bytes: u64,
    closed: bool,
    status: BatchStatus,
}

impl Batcher {
    /// A batcher for a model whose rows lie along `axes`; for one that does not join rows where
    /// there are none. Batches of one of the `preferred` sizes wait for no more.
    pub(crate) fn new(config: &QueueConfig, preferred: &[u64], axes: Option<&RowAxes>) -> Self {
        let policy = config.policy();
        let enough = preferred.iter().min().and_then(|&rows| usize::try_from(rows).ok());
        Self {
            policy: BatchingConfig {
                rows_max: if axes.is_some() { policy.rows_max } else { 1 },
                rows_enough: enough.unwrap_or(policy.rows_enough),
                ..policy
            },
            axes: axes.cloned().map(Arc::new),
            requests_max: config.queue_requests_max,
            bytes_max: config.queue_bytes_max.as_u64(),
            queue: Mutex::default(),
            job_arrived: Condvar::new(),
        }
    }

    /// Queues the computation of `inputs`, which are in the model's declared order. Where that
    /// cannot be, all who wait are answered `Overloaded` (the queue is full) or `Unavailable`
    /// (the batcher is closed).
    pub(crate) fn submit(&self, inputs: Vec<Tensor>, order: Order, leader: Leader) {
        let axes = self.axes.as_deref();
        let key = axes.map_or_else(LaneKey::default, |axes| LaneKey::of_rows(&inputs, axes));
        let job = Job::new(inputs, axes, order.accepted, leader);
        let mut queue = self.queue.lock();
        let refusal = if queue.closed {
            ServiceError::unavailable("the worker is shutting down")
        } else if self.is_full(&queue, job.bytes) {
            ServiceError::overloaded(format!(
                "the model's queue is full: {} requests with {} bytes are waiting",
                queue.requests, queue.bytes,
            ))
        } else {
            queue.push(key, job);
            drop(queue);
            self.job_arrived.notify_one();
            return;
        };
        drop(queue);
        job.leader.complete(Err(refusal));
    }

    /// Whether a job of that many bytes has no room. An empty queue takes any one job: there is
    /// no point in refusing now what would be refused for ever.
    fn is_full(&self, queue: &Queue, bytes: u64) -> bool {
        queue.requests > 0
            && (queue.requests >= self.requests_max || queue.bytes + bytes > self.bytes_max)
    }

    /// The next batch, once there is one; `None` when the batcher is closed and all is done.
    ///
    /// Work that nobody waits for, or whose deadline has passed, is dropped here and never runs.
    pub(crate) fn next_batch(&self) -> Option<Batch> {
        loop {
            let (jobs, reason) = self.wait_for_jobs()?;
            let candidates = jobs.len();
            let now = Instant::now();
            let batch = Batch::of_wanted(jobs, self.axes.clone(), now, now);
            self.count(reason, candidates, batch.as_ref());
            if batch.is_some() {
                return batch;
            }
        }
    }

    /// Refuses new jobs; those that are queued are still handed out.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.job_arrived.notify_all();
    }

    pub(crate) fn status(&self) -> BatchStatus {
        let queue = self.queue.lock();
        BatchStatus { queued: queue.requests as u64, ..queue.status }
    }

    fn wait_for_jobs(&self) -> Option<(Vec<Job>, DispatchReason)> {
        let mut queue = self.queue.lock();
        loop {
            let now = Instant::now();
            match queue.choose(&self.policy, now) {
                Choice::Dispatch { lane, reason } => {
                    let jobs = queue.take(lane, &self.policy);
                    if !queue.lanes.is_empty() {
                        // Another idle instance may take the rest.
                        self.job_arrived.notify_one();
                    }
                    return Some((jobs, reason));
                }
                Choice::Nothing if queue.closed => return None,
                Choice::Nothing => self.job_arrived.wait(&mut queue),
                Choice::WaitUntil(moment) => {
                    self.job_arrived.wait_until(&mut queue, moment);
                }
            }
        }
    }

    fn count(&self, reason: DispatchReason, candidates: usize, batch: Option<&Batch>) {
        let mut queue = self.queue.lock();
        let status = &mut queue.status;
        status.dropped += (candidates - batch.map_or(0, Batch::jobs)) as u64;
        if let Some(batch) = batch {
            status.batches += 1;
            status.rows += batch.rows() as u64;
            match reason {
                DispatchReason::Full => status.full += 1,
                DispatchReason::Timeout => status.delay += 1,
                DispatchReason::Idle => status.idle += 1,
            }
        }
    }
}

enum Choice {
    Dispatch { lane: usize, reason: DispatchReason },
    WaitUntil(Instant),
    Nothing,
}

impl Queue {
    fn push(&mut self, key: LaneKey, job: Job) {
        self.requests += 1;
        self.bytes += job.bytes;
        match self.lanes.iter_mut().find(|lane| lane.key == key) {
            Some(lane) => lane.push(job),
            None => self.lanes.push(Lane::new(key, job)),
        }
    }

    /// Among the lanes that may leave, the one whose oldest job came first.
    fn choose(&self, policy: &BatchingConfig, now: Instant) -> Choice {
        let mut choice = Choice::Nothing;
        let mut chosen_oldest: Option<Instant> = None;
        for (index, lane) in self.lanes.iter().enumerate() {
            let plan = match batching::plan(policy, lane.rows(), lane.oldest(), now) {
                // A closed queue holds nothing back.
                Plan::WaitUntil(_) if self.closed => Plan::Dispatch(DispatchReason::Idle),
                plan => plan,
            };
            match plan {
                Plan::Dispatch(reason)
                    if chosen_oldest.is_none_or(|oldest| lane.oldest() < oldest) =>
                {
                    chosen_oldest = Some(lane.oldest());
                    choice = Choice::Dispatch { lane: index, reason };
                }
                Plan::Dispatch(_) => {}
                Plan::WaitUntil(moment) => match choice {
                    Choice::Dispatch { .. } => {}
                    Choice::WaitUntil(earlier) if earlier <= moment => {}
                    _ => choice = Choice::WaitUntil(moment),
                },
            }
        }
        choice
    }

    fn take(&mut self, index: usize, policy: &BatchingConfig) -> Vec<Job> {
        let lane = &mut self.lanes[index];
        let jobs = lane.take(policy);
        if lane.is_empty() {
            self.lanes.swap_remove(index);
        }
        self.requests -= jobs.len();
        self.bytes -= jobs.iter().map(|job| job.bytes).sum::<u64>();
        jobs
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use inferring_types::{ContentDigest, ErrorKind};

    use super::*;
    use crate::cache::{Lookup, ResultCache, Sharing, Tenant, Ticket};
    use crate::config::CacheConfig;

    struct Fixture {
        batcher: Batcher,
        cache: Arc<ResultCache>,
        jobs: u64,
    }

    impl Fixture {
        fn new(config: &QueueConfig, joins_rows: bool) -> Self {
            let cache = ResultCache::new(&CacheConfig::default());
            let axes = joins_rows.then(|| RowAxes::first(1, 1));
            Self { batcher: Batcher::new(config, &[], axes.as_ref()), cache, jobs: 0 }
        }

        fn submit(&mut self, shape: [u64; 2], timeout: Duration) -> Ticket {
            self.jobs += 1;
            let now = Instant::now();
            let key = ContentDigest::of(&self.jobs.to_le_bytes());
            let deadline = Deadline::after(now, timeout);
            let kept = Tenant::new(Sharing::Kept);
            let Lookup::Lead(ticket, leader) = self.cache.get_or_lead(kept, key, deadline, now)
            else {
                panic!("keys differ");
            };
            let values = vec![0.0; (shape[0] * shape[1]) as usize];
            let inputs = vec![Tensor::from_f32(shape.into(), &values).unwrap()];
            self.batcher.submit(inputs, Order { accepted: now, deadline, class: 0 }, leader);
            ticket
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn config(size_max: usize) -> QueueConfig {
        QueueConfig { size_max: NonZeroUsize::new(size_max).unwrap(), ..QueueConfig::default() }
    }

    #[test]
    fn an_idle_instance_takes_what_is_there_up_to_the_maximum() {
        let mut fixture = Fixture::new(&config(4), true);
        let _tickets: Vec<_> = (0..6).map(|_| fixture.submit([1, 3], LONG)).collect();
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 4);
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 2);
        let status = fixture.batcher.status();
        assert_eq!((status.batches, status.rows, status.full, status.idle), (2, 6, 1, 1));
        assert_eq!(status.queued, 0);
    }

    #[test]
    fn only_jobs_of_equal_shape_share_a_batch() {
        let mut fixture = Fixture::new(&config(8), true);
        let _tickets: Vec<_> =
            [[1, 3], [1, 5], [2, 3], [1, 5]].map(|shape| fixture.submit(shape, LONG)).into();
        let sizes: Vec<_> = (0..2).map(|_| fixture.batcher.next_batch().unwrap().rows()).collect();
        assert_eq!(sizes, [3, 2]);
    }

    #[test]
    fn a_model_that_does_not_join_rows_runs_every_job_alone() {
        let mut fixture = Fixture::new(&config(8), false);
        let _tickets: Vec<_> = (0..3).map(|_| fixture.submit([1, 3], LONG)).collect();
        for _ in 0..3 {
            assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 1);
        }
    }

    #[test]
    fn without_idle_dispatch_a_batch_leaves_full_or_late() {
        let config = QueueConfig {
            dispatch_when_idle: false,
            delay_max: Duration::from_millis(30),
            ..config(2)
        };
        let mut fixture = Fixture::new(&config, true);
        let start = Instant::now();
        let _tickets: Vec<_> = (0..3).map(|_| fixture.submit([1, 3], LONG)).collect();
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 2);
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 1);
        assert!(start.elapsed() >= Duration::from_millis(30));
        let status = fixture.batcher.status();
        assert_eq!((status.full, status.delay, status.idle), (1, 1, 0));
    }

    #[test]
    fn an_instance_waits_for_the_lane_that_may_leave_first() {
        let config = QueueConfig { dispatch_when_idle: false, delay_max: LONG, ..config(8) };
        let mut fixture = Fixture::new(&config, true);
        let _tickets = [[1, 3], [1, 4], [1, 5]].map(|shape| fixture.submit(shape, 2 * LONG));
        let mut queue = fixture.batcher.queue.lock();
        let first = queue.lanes[0].oldest();
        for _ in 0..3 {
            queue.lanes.rotate_left(1);
            let choice = queue.choose(&config.policy(), first);
            assert!(matches!(choice, Choice::WaitUntil(moment) if moment == first + LONG));
        }
    }

    #[tokio::test]
    async fn expired_and_abandoned_jobs_never_run() {
        let mut fixture = Fixture::new(&config(8), true);
        let expired = fixture.submit([1, 3], Duration::ZERO);
        drop(fixture.submit([1, 3], LONG));
        let _alive = fixture.submit([1, 3], LONG);
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 1);
        let error = expired.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(fixture.batcher.status().dropped, 2);
    }

    #[test]
    fn halves_of_a_failed_batch_leave_out_what_nobody_waits_for() {
        let mut fixture = Fixture::new(&config(8), true);
        let mut tickets: Vec<_> = (0..6).map(|_| fixture.submit([1, 3], LONG)).collect();
        let batch = fixture.batcher.next_batch().unwrap();
        drop(tickets.split_off(2));
        let Ok([Some(first), None]) = batch.halve(Instant::now()) else {
            panic!("the second half was abandoned as a whole");
        };
        assert_eq!(first.jobs(), 2, "the third was abandoned");
        let Ok([None, None]) = first.halve(Instant::now() + 2 * LONG) else {
            panic!("all have expired by then");
        };
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let config = QueueConfig { queue_requests_max: 2, ..config(8) };
        let mut fixture = Fixture::new(&config, true);
        let _tickets: Vec<_> = (0..2).map(|_| fixture.submit([1, 3], LONG)).collect();
        let error = fixture.submit([1, 3], LONG).wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }

    #[tokio::test]
    async fn closing_hands_out_the_rest_and_refuses_the_new() {
        let mut fixture = Fixture::new(&config(8), true);
        let _ticket = fixture.submit([1, 3], LONG);
        fixture.batcher.close();
        let error = fixture.submit([1, 3], LONG).wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(fixture.batcher.next_batch().unwrap().jobs(), 1);
        assert!(fixture.batcher.next_batch().is_none());
    }
}
