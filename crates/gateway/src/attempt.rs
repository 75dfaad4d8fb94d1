//! Asks workers until one answers, inside the request's deadline.
//!
//! One worker is asked, and while it is busy three things may happen:
//!
//! - It **fails**: another one is asked. Where nothing was sent, or the worker is there and takes
//!   nothing new, that costs nobody anything and happens at once. A worker whose queue is full says
//!   that there is much to do: one other is asked, not all of them. After all other failures a try
//!   is work done twice; the budget has to allow it, and it waits a random time before. Unless an
//!   equal request is under way to another worker: to go along with that costs nothing.
//! - It **takes longer than most do**: another one is asked beside it (a hedge), and the first
//!   answer counts. The slower try is dropped, which closes its connection, and so the worker
//!   learns that nobody waits.
//! - It **takes too long**: it is given up, but only once another one can take its place. A try
//!   that may still be answered is better than none.
//!
//! Retries and hedges share one budget (`policy::retry_budget`), no worker is asked twice, and no
//! step is taken once an answer has begun to come. One deadline is over all.
//!
//! A step of a sequence is different: its state is at one worker, and changes when it is executed.
//! No other worker can go on with it, and none may do it twice. See [`sequence`].

mod race;
mod sequence;
mod single;
mod witness;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_policy::{AnswerTimes, Backoff, ConcurrencyLimit, RetryBudget, RetryPermit};
use inferring_types::{
    Blame, ErrorKind, InferRequest, InferResponse, RouteReason, ServiceError, TryStatus,
};

use self::race::End;
use self::single::Try;
use crate::clock;
use crate::config::GatewayConfig;
use crate::routing::{Chosen, Route};

/// How many tries the time of a request is divided among.
const TRIES_PLANNED: u32 = 3;
/// A try is not given up sooner than after so many times what 19 of 20 take,
const PATIENCE: u32 = 3;
/// or after that time where that is not known.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(1);
/// How long a request waits for leave to be tried again after a worker has answered with an error.
const WAIT_AFTER_ANSWER: Duration = Duration::from_millis(100);

/// What the tries of all requests share.
pub(crate) struct Attempts {
    budget: RetryBudget,
    backoff: Backoff,
    timeout: Duration,
    hedges_are_enabled: bool,
    failovers: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
    budget_exhausted: AtomicU64,
}

impl Attempts {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self {
            budget: RetryBudget::new(config.retry.budget_policy()),
            backoff: config.retry.backoff_policy(),
            timeout: config.attempt_timeout,
            hedges_are_enabled: config.hedge.enabled,
            failovers: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            hedges_won: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
        }
    }

    /// Tries after one that failed.
    pub(crate) fn failovers(&self) -> u64 {
        self.failovers.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> TryStatus {
        TryStatus {
            retries: self.retries.load(Ordering::Relaxed),
            hedges: self.hedges.load(Ordering::Relaxed),
            hedges_won: self.hedges_won.load(Ordering::Relaxed),
            budget_exhausted: self.budget_exhausted.load(Ordering::Relaxed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all requests together are like: by that, extra tries are allowed.
#[derive(Clone, Copy)]
pub(crate) struct Traffic<'a> {
    pub(crate) admission: &'a ConcurrencyLimit,
    /// Requests that ever came.
    pub(crate) requests: &'a AtomicU64,
}

/// A request on its way to workers.
pub(crate) struct Work<'a> {
    pub(crate) attempts: &'a Attempts,
    pub(crate) traffic: Traffic<'a>,
    pub(crate) request: &'a InferRequest,
    pub(crate) route: Route<'a>,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Answer times of its model.
    pub(crate) times: &'a AnswerTimes,
    pub(crate) arrived: Instant,
    pub(crate) progress: Progress,
}

/// What has become of a request so far.
#[derive(Default)]
pub(crate) struct Progress {
    tries: u32,
    /// Waits before retries.
    waits: u32,
    /// Workers that had no room.
    refusals: u32,
    /// The shortest time after which one of them would have.
    retry_after: Option<Duration>,
    is_counted_exhausted: bool,
}

impl<'a> Work<'a> {
    /// The answer, or the last worker's error; `None` where nobody could be asked at all.
    pub(crate) async fn run(mut self) -> Option<Result<InferResponse, ServiceError>> {
        if self.request.deadline.has_passed(self.arrived) {
            return Some(Err(deadline_exceeded()));
        }
        if let Some(step) = &self.request.sequence {
            return sequence::run(self, step).await;
        }
        let chosen = self.route.next(self.arrived)?;
        let mut tried = self.begin(chosen, None, None, self.arrived);
        loop {
            let error = match self.race(tried).await {
                End::Answered(response) => return Some(Ok(response)),
                End::Late => return Some(Err(deadline_exceeded())),
                End::Replaced(next) => {
                    tried = next;
                    continue;
                }
                End::Failed(error) => error,
            };
            match self.after(&error).await {
                Some(next) => tried = next,
                None => return Some(Err(self.conclude(error))),
            }
        }
    }

    /// The try that follows a failed one, if there is to be one.
    async fn after(&mut self, error: &ServiceError) -> Option<Try<'a>> {
        let now = clock::now();
        let remaining = self.request.deadline.remaining(now);
        if remaining.is_zero() {
            return None;
        }
        let (chosen, leave) = match Remedy::of(error) {
            Remedy::None => return None,
            Remedy::OneOther if self.progress.refusals > 1 => return None,
            Remedy::Other => (self.route.next(now)?, None),
            Remedy::OneOther => self.another(now)?,
            Remedy::Retry { patience } => {
                self.another_in_time(patience.unwrap_or(remaining / 2)).await?
            }
        };
        count(&self.attempts.failovers);
        if leave.is_some() {
            count(&self.attempts.retries);
        }
        Some(self.begin(chosen, Some(RouteReason::Retry), leave, clock::now()))
    }

    /// Another worker, with leave to ask it. None is needed to go along with an equal request: if a
    /// thousand lose their worker, one of them is tried again, and the others with it.
    fn another(&mut self, now: Instant) -> Option<(Chosen<'a>, Option<RetryPermit<'a>>)> {
        if let Some(chosen) = self.route.along(now) {
            return Some((chosen, None));
        }
        let leave = self.leave(now)?;
        Some((self.route.next(now)?, Some(leave)))
    }

    /// The same after a random time, unless it needs no leave; where the budget has none then, after
    /// another one.
    async fn another_in_time(
        &mut self,
        patience: Duration,
    ) -> Option<(Chosen<'a>, Option<RetryPermit<'a>>)> {
        let began = clock::now();
        if let Some(chosen) = self.route.along(began) {
            return Some((chosen, None));
        }
        loop {
            let wait = self.attempts.backoff.wait(self.progress.waits, fastrand::f64());
            self.progress.waits += 1;
            let now = clock::now();
            let waited = now.saturating_duration_since(began);
            if waited > patience || self.request.deadline.remaining(now) <= wait {
                return None;
            }
            if !self.route.has_next(now) {
                return None;
            }
            tokio::time::sleep(wait).await;
            let now = clock::now();
            if !self.request.deadline.has_passed(now)
                && let Some(another) = self.another(now)
            {
                return Some(another);
            }
        }
    }

    /// Leave for a try beyond the first, if the budget has some now.
    fn leave(&mut self, now: Instant) -> Option<RetryPermit<'a>> {
        let active = self.traffic.admission.in_flight();
        let requests = self.traffic.requests.load(Ordering::Relaxed);
        let leave = self.attempts.budget.try_acquire(active, requests, now);
        if leave.is_none() && !self.progress.is_counted_exhausted {
            self.progress.is_counted_exhausted = true;
            count(&self.attempts.budget_exhausted);
        }
        leave
    }

    /// How long a try that begins `now` may take while another worker could take its place, and
    /// whether it has failed if it takes longer: where it has little time, it was not its fault.
    fn timeout(&self, now: Instant) -> Option<(Duration, bool)> {
        let workers = u32::try_from(self.workers).unwrap_or(u32::MAX);
        if self.progress.tries >= workers {
            return None;
        }
        let others = workers.min(TRIES_PLANNED).saturating_sub(self.progress.tries);
        let part = self.request.deadline.remaining(now) / (others + 1);
        let usual = self.times.p95().map_or(PATIENCE_UNKNOWN, |p95| p95 * PATIENCE);
        let timeout = part.max(usual);
        let is_full = timeout >= self.attempts.timeout;
        Some((timeout.min(self.attempts.timeout), is_full))
    }

    /// The error that the client gets.
    fn conclude(&self, error: ServiceError) -> ServiceError {
        let passes = matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable);
        match self.progress.retry_after {
            Some(time) if passes => error.retry_after(time),
            _ => error,
        }
    }
}

/// What can be done about a try that failed.
enum Remedy {
    /// Nothing: another worker would answer the same.
    None,
    /// Another worker may be asked at no cost.
    Other,
    /// One other may be asked: more would be too many, for they have much to do.
    OneOther,
    /// It may be tried again if the budget has leave for it within that time, or else within half
    /// of what remains: while no worker has answered, the request is not decided.
    Retry { patience: Option<Duration> },
}

impl Remedy {
    fn of(error: &ServiceError) -> Self {
        match (error.kind(), error.blame()) {
            // The model is known here: a worker that lacks it has lost it since it was probed.
            (ErrorKind::NotFound, _) => Self::Other,
            _ if !error.is_retryable() => Self::None,
            (ErrorKind::Overloaded, _) => Self::OneOther,
            _ if error.is_unsent() => Self::Other,
            // It is there, and drains or is not ready.
            (ErrorKind::Unavailable, Blame::Server) => Self::Other,
            (_, Blame::WorkerUnreachable) => Self::Retry { patience: None },
            _ => Self::Retry { patience: Some(WAIT_AFTER_ANSWER) },
        }
    }
}

fn deadline_exceeded() -> ServiceError {
    ServiceError::new(
        ErrorKind::DeadlineExceeded,
        Blame::Server,
        "the deadline passed before a worker answered",
    )
}
