//! How a worker stands with its gateway: whether it may be asked, and what else is kept of how
//! well it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_policy::ejection::ModelTimes;
use inferring_policy::{CircuitBreaker, Ejection, EjectionConfig, Health, Loss, Silence};
use inferring_types::{BreakerState, CacheOutcome, EjectedStatus, InferResponse};
use parking_lot::Mutex;

/// How a worker stands with its gateway, the reason that weighs most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is asked.
    Well,
    /// Its breaker is half-open and has a trial to give.
    Recovering,
    /// Its breaker lets nothing through.
    Tripped,
    /// It does far worse than the others.
    Ejected,
    /// Others keep outrunning it, and it was not heard of meanwhile: a health check will tell.
    Suspected,
    /// It is there, and answers its health checks badly.
    Unwell,
    /// Nobody is there, or nobody was heard of yet, or it has loaded nothing yet.
    Absent,
    /// It gets no new requests: an operator, a list or it itself says so.
    Draining {
        /// Whether it is there, and takes steps of the sequences that it has.
        is_there: bool,
    },
}

impl Standing {
    /// Whether nothing speaks against it.
    pub(crate) fn is_healthy(self) -> bool {
        self == Self::Well
    }

    /// Whether it may be asked.
    pub(crate) fn may_be_asked(self) -> bool {
        matches!(self, Self::Well | Self::Recovering)
    }

    /// Whether a sequence may begin there. Slow is better than elsewhere: its next steps must find
    /// it.
    pub(crate) fn takes_new_sequences(self) -> bool {
        self.may_be_asked() || matches!(self, Self::Ejected | Self::Suspected)
    }

    /// Whether a sequence goes on there whose state it has, which is nowhere else.
    pub(crate) fn takes_steps(self) -> bool {
        self.takes_new_sequences() || self == Self::Draining { is_there: true }
    }

    /// Whether it gets no new requests.
    pub(crate) fn is_draining(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// The same of one that drains besides.
    pub(crate) fn drained(self) -> Self {
        Self::Draining { is_there: !matches!(self, Self::Absent | Self::Unwell) }
    }

    /// Whether it may be asked when most workers are not well.
    ///
    /// Panic sets aside judgements about how well a worker does. That nobody is there is no
    /// judgement: a request sent there would only be lost, and a probe finds out each second
    /// whether it is still so.
    pub(crate) fn may_be_asked_in_panic(self) -> bool {
        !matches!(self, Self::Absent | Self::Draining { .. })
    }

    /// Of what its probes, its silence, its ejections and its breaker say.
    pub(crate) fn of(
        health: &Health,
        silence: &Silence,
        ejector: &Ejector,
        breaker: &CircuitBreaker,
        now: Instant,
    ) -> Self {
        match health.loss() {
            None if health.is_reachable() => {}
            Some(Loss::Declined) => return Self::Draining { is_there: true },
            Some(Loss::Unwell) => return Self::Unwell,
            None | Some(Loss::Gone | Loss::Silent | Loss::Loading) => return Self::Absent,
        }
        if ejector.is_ejected(now) {
            return Self::Ejected;
        }
        match breaker.status(now).state {
            BreakerState::Closed if silence.is_suspected() => Self::Suspected,
            BreakerState::Closed => Self::Well,
            _ if breaker.is_available(now) => Self::Recovering,
            _ => Self::Tripped,
        }
    }
}

/// The ejections of one worker, and the answer times that are compared for them.
pub(crate) struct Ejector {
    pub(crate) ejection: Mutex<Ejection>,
    pub(crate) times: Mutex<ModelTimes>,
    epoch: Instant,
    /// Nanoseconds after the epoch until which it is ejected; so that each request finds out
    /// without a lock.
    until: AtomicU64,
}

impl Ejector {
    pub(crate) fn new(config: &EjectionConfig, seed: u64, now: Instant) -> Self {
        Self {
            ejection: Mutex::new(Ejection::new(config, seed)),
            times: Mutex::new(ModelTimes::new(now)),
            epoch: now,
            until: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.epoch).as_nanos();
        now < u128::from(self.until.load(Ordering::Relaxed))
    }

    /// Why it is ejected and for how much longer, and how often it was.
    pub(crate) fn status(&self, now: Instant) -> (Option<EjectedStatus>, u64) {
        let ejection = self.ejection.lock();
        (ejection.status(now), ejection.count())
    }

    /// It is ejected from `now` on for this time.
    pub(crate) fn begins(&self, time: Duration, now: Instant) {
        let until = now.saturating_duration_since(self.epoch).saturating_add(time);
        self.until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        *self.times.lock() = ModelTimes::new(now);
    }

    /// There is a new process in its place.
    pub(crate) fn restarted(&self, now: Instant) {
        self.ejection.lock().restarted(now);
        self.until.store(0, Ordering::Relaxed);
        *self.times.lock() = ModelTimes::new(now);
    }

    /// An answer came after `took`.
    pub(crate) fn answered(&self, response: &InferResponse, took: Duration, now: Instant) {
        if let Some(time) = computing_time(response, took) {
            self.times.lock().observe((&response.model, &response.version), time, now);
        }
    }

    /// A try was given up after `lasted`, for another worker's `response`. Without this a worker
    /// that is outrun each time would never be seen to be slow.
    pub(crate) fn outrun(&self, response: &InferResponse, lasted: Duration, now: Instant) {
        self.times.lock().outrun((&response.model, &response.version), lasted, now);
    }

    /// A try that was outrun, and went on, has an answer that took so long.
    pub(crate) fn witnessed(&self, response: &InferResponse, took: Duration, now: Instant) {
        if let Some(time) = computing_time(response, took) {
            self.times.lock().witnessed((&response.model, &response.version), time, now);
        }
    }
}

/// What of the time that an answer took is its worker's. What it waited in the worker's queue is
/// taken off, as a long queue is the load's doing; an answer that was not computed says nothing.
fn computing_time(response: &InferResponse, took: Duration) -> Option<Duration> {
    let is_computed = response.served.cache == CacheOutcome::Computed;
    is_computed.then(|| took.saturating_sub(response.served.queue_time))
}
