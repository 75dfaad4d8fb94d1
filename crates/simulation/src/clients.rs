//! Those who ask, and what they hold an answer against.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use inferring_lockstep::now;
use inferring_types::{Deadline, ErrorKind, InferRequest, InferResponse, RequestId, ServiceError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::content::Content;
use crate::faults::Fault;
use crate::fleet::Fleet;
use crate::front::Gone;
use crate::scenario::Scenario;

/// What a runtime's timers round up to.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// How all requests ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    /// Their clients left.
    pub(crate) left: u64,
}

impl Ends {
    pub(crate) fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.errors += other.errors;
        self.left += other.left;
    }

    /// How many there were.
    pub(crate) fn all(self) -> u64 {
        self.answers + self.errors + self.left
    }
}

/// What a client may be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// There may be nobody to ask.
    unavailable: bool,
    /// Runs may fail.
    failures: bool,
    /// There may be more to do than can be done.
    overload: bool,
    /// There may not be enough time.
    late: bool,
}

impl Due {
    /// Nothing but answers.
    pub(crate) const ANSWERS: Self =
        Self { unavailable: false, failures: false, overload: false, late: false };

    /// Answers, or that there is no room.
    pub(crate) const ROOM_OR_NOT: Self = Self { overload: true, ..Self::ANSWERS };

    /// In that scenario, as long as things go wrong.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        Self {
            // A gateway that has just begun sends nobody away whom its workers would serve, nor
            // does a worker that gets another version.
            unavailable: scenario
                .faults
                .iter()
                .any(|fault| !matches!(fault, Fault::GatewayCrash | Fault::Replacement)),
            // A slow run may be over its limit.
            failures: [Fault::Failures, Fault::Hang, Fault::Slow].iter().any(|f| scenario.has(*f)),
            overload: true,
            late: true,
        }
    }

    pub(crate) fn admits(self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::Unavailable => self.unavailable,
            ErrorKind::Overloaded => self.overload,
            ErrorKind::DeadlineExceeded => self.late,
            // A run that fails twice on one input and then runs another one: it looks like the
            // input's fault.
            ErrorKind::Internal | ErrorKind::InvalidArgument => self.failures,
            _ => false,
        }
    }
}

/// Sends requests as the scenario says, and returns when all of them have ended.
pub(crate) async fn ask(fleet: &Arc<Fleet>, scenario: &Scenario, mut random: Rng) -> Ends {
    let load = &scenario.load;
    let end = now() + load.time;
    let mut clients = JoinSet::new();
    let mut number = 0;
    while now() < end {
        sleep(load.pace.mul_f64(random.f64() * 2.0)).await;
        let many = if random.f64() < load.bursts { random.usize(5..40) } else { 1 };
        for _ in 0..many {
            number += 1;
            clients.spawn(Client::draw(number, fleet, scenario, &mut random).ask());
        }
    }
    let mut ends = Ends::default();
    while let Some(end) = clients.join_next().await {
        match end {
            Ok(End::Answer) => ends.answers += 1,
            Ok(End::Error) => ends.errors += 1,
            Ok(End::Left) => ends.left += 1,
            Err(error) => fleet.trace.violation(format_args!("a request ended in: {error}")),
        }
    }
    fleet.trace.check(ends.all() == number, || format!("{number} requests, of which {ends:?}"));
    ends
}

/// A client with one request.
pub(crate) struct Client {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) gateway: usize,
    pub(crate) id: RequestId,
    pub(crate) contents: Vec<Content>,
    pub(crate) priority: Option<NonZeroU32>,
    /// When no answer is of any use to it.
    pub(crate) timeout: Duration,
    /// When it leaves, come what may.
    pub(crate) leaves: Option<Duration>,
    pub(crate) due: Due,
}

/// How a request ended, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Answer,
    Error,
    Left,
}

impl Client {
    fn draw(number: u64, fleet: &Arc<Fleet>, scenario: &Scenario, random: &mut Rng) -> Self {
        let load = &scenario.load;
        // The smaller of two: what comes first is asked for most.
        let mut content = || Content(random.u32(..load.contents).min(random.u32(..load.contents)));
        let contents = [content(), content(), content()];
        let rows = [1, 1, 1, 2, 3][random.usize(..5)];
        let timeout = match random.u8(..20) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(random.u64(1..20)),
            _ => load.timeout_max.mul_f64(0.2 + 0.8 * random.f64()),
        };
        let leaves = (random.f64() < load.leaving).then(|| timeout.mul_f64(random.f64()));
        Self {
            fleet: fleet.clone(),
            gateway: random.usize(..fleet.fronts.len()),
            id: id(format_args!("request-{number}")),
            contents: contents[..rows].to_vec(),
            priority: NonZeroU32::new(random.u32(..5)),
            timeout,
            leaves,
            due: Due::of(scenario),
        }
    }

    /// Asks, and holds what comes against what is due.
    pub(crate) async fn ask(self) -> End {
        let (trace, id, began) = (&self.fleet.trace, &self.id, now());
        let mut request = InferRequest::new(
            Content::MODEL.parse().expect("a name"),
            Content::inputs(&self.contents),
            Deadline::after(began, self.timeout),
        );
        request.id = id.clone();
        request.priority = self.priority;
        trace.note(format_args!(
            "{id} asks gateway {} for {:?} within {:?}",
            self.gateway, self.contents, self.timeout,
        ));
        // Nobody may be kept waiting beyond the deadline: longer than that is not waited for.
        let patience = self.leaves.unwrap_or(self.timeout + 2 * TICK);
        let front = &self.fleet.fronts[self.gateway];
        let Ok(result) = timeout(patience, front.ask(request)).await else {
            trace.note(format_args!("{id} leaves"));
            trace.check(self.leaves.is_some(), || format!("{id} gets no answer in time"));
            return End::Left;
        };
        let took = now() - began;
        trace.check(took <= self.timeout + TICK, || format!("{id} is answered late: {took:?}"));
        match result {
            Ok(Ok(response)) => self.check_answer(&response, began),
            Ok(Err(error)) => self.check_error(&error),
            Err(gone) => self.check_gone(gone, front.was_down_since(began)),
        }
    }

    fn check_answer(&self, response: &InferResponse, began: Instant) -> End {
        let (id, trace) = (&self.id, &self.fleet.trace);
        let (worker, cache) = (&response.served.worker, response.served.cache);
        let version = response.version.number().unwrap_or_default();
        trace.note(format_args!("{id} is answered by {worker}, version {version}: {cache:?}"));
        trace.check(response.id == *id, || format!("{id} gets the answer to {}", response.id));
        let is_right = Content::are_answered_by(&self.contents, version, &response.outputs);
        trace.check(is_right, || format!("{id} gets a wrong answer: {:?}", response.outputs));
        let is_fresh = self.fleet.host(worker).contents.may_answer(version, began);
        trace.check(is_fresh, || format!("{id} gets an answer of version {version}, which left"));
        End::Answer
    }

    fn check_error(&self, error: &ServiceError) -> End {
        let (id, trace) = (&self.id, &self.fleet.trace);
        trace.note(format_args!("{id} fails: {:?}: {error}", error.kind()));
        trace.check(self.due.admits(error.kind()), || {
            format!("{id} fails, and nothing was wrong: {:?}: {}", error.kind(), error.chain())
        });
        End::Error
    }

    /// Nobody is left alone but by a gateway that was down meanwhile.
    fn check_gone(&self, gone: Gone, was_down: bool) -> End {
        let (id, trace) = (&self.id, &self.fleet.trace);
        trace.note(format_args!("{id} is left alone: {gone:?}"));
        trace.check(was_down, || format!("{id} is left alone by a gateway that serves: {gone:?}"));
        End::Error
    }
}

pub(crate) fn id(text: impl std::fmt::Display) -> RequestId {
    text.to_string().parse().expect("visible characters")
}
