//! Clients of a model with state that the workers keep. They go by what the guide says: after an
//! error that does not tell them to begin anew they send the same step again, which must be as if
//! it had never been sent before; after one that does, and when nobody knows whether an answer got
//! lost, they begin another sequence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use inferring_lockstep::now;
use inferring_types::{
    Deadline, ErrorKind, InferResponse, SequenceId, SequenceStep, ServiceError, WorkerId,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clients::{Due, Ends, TICK, id};
use crate::faults::Fault;
use crate::fleet::Fleet;
use crate::front::Gone;
use crate::scenario::Scenario;
use crate::sums::Sum;

/// Lets clients go through sequences, until all have ended.
pub(crate) async fn ask(fleet: &Arc<Fleet>, scenario: &Scenario, random: &mut Rng) -> Ends {
    let end = now() + scenario.load.time;
    let mut clients = JoinSet::new();
    for number in 0..scenario.load.sequences {
        let client = Client::new(number, fleet, scenario, random.fork());
        clients.spawn(client.go_through_sequences(end));
    }
    let mut ends = Ends::default();
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(one) => ends.add(one),
            Err(error) => fleet.trace.violation(format_args!("a sequence ended in: {error}")),
        }
    }
    ends
}

/// One who goes through sequences, one after the other.
struct Client {
    fleet: Arc<Fleet>,
    number: usize,
    random: Rng,
    due: Due,
    /// Whether a sequence may be lost that was not idle.
    losses: bool,
    idle_timeout: Duration,
    timeout_max: Duration,
    ends: Ends,
}

/// A sequence under way.
struct Sequence {
    id: SequenceId,
    sums: Vec<Sum>,
    /// Who keeps it: a worker, and a version of the model.
    keeper: Option<(WorkerId, u64)>,
    /// When its last step that was answered was sent.
    sent: Instant,
    /// When anything was last heard of it.
    heard: Instant,
}

/// One step of it, which may be sent several times.
struct Step {
    numbers: Vec<f32>,
    start: bool,
    end: bool,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Again,
    Anew,
}

impl Client {
    fn new(number: usize, fleet: &Arc<Fleet>, scenario: &Scenario, random: Rng) -> Self {
        Self {
            fleet: fleet.clone(),
            number,
            random,
            due: Due::of(scenario),
            // A gateway that begins finds the sequences where they are.
            losses: scenario.faults.iter().any(|fault| *fault != Fault::GatewayCrash),
            idle_timeout: scenario.worker.sequences.idle_timeout,
            timeout_max: scenario.load.timeout_max,
            ends: Ends::default(),
        }
    }

    async fn go_through_sequences(mut self, end: Instant) -> Ends {
        for number in 0.. {
            if now() >= end {
                break;
            }
            let id = format!("sequence-{}-{number}", self.number);
            self.go_through(id.parse().expect("a short name")).await;
        }
        self.ends
    }

    /// Goes through one, to its end or to where it is lost.
    async fn go_through(&mut self, id: SequenceId) {
        const TRIES: usize = 5;
        let (rows, steps) = (self.random.usize(1..=2), self.random.usize(1..12));
        let sums = vec![Sum::ZERO; rows];
        let (sent, heard) = (now(), now());
        let mut sequence = Sequence { id, sums, keeper: None, sent, heard };
        // Now and then a client goes away and says nothing.
        let silent_end = self.random.u8(..4) == 0;
        for place in 0..steps {
            let numbers = (0..rows).map(|_| self.random.u16(..1000).into()).collect();
            let end = place + 1 == steps && !silent_end;
            let step = Step { numbers, start: place == 0, end };
            let mut next = Next::Again;
            for attempt in 0..TRIES {
                let name = format!("{}-{place}-{attempt}", sequence.id);
                next = self.send(&mut sequence, &step, name).await;
                if next != Next::Again {
                    break;
                }
                self.pause(10, 200).await;
            }
            if next != Next::GoOn {
                return;
            }
            match self.random.u8(..30) {
                0 => sleep(self.idle_timeout.mul_f64(0.5 + self.random.f64())).await,
                _ => self.pause(5, 120).await,
            }
        }
    }

    async fn pause(&mut self, shortest: u64, longest: u64) {
        sleep(Duration::from_millis(self.random.u64(shortest..longest))).await;
    }

    /// Sends a step, through any gateway.
    async fn send(&mut self, sequence: &mut Sequence, step: &Step, name: String) -> Next {
        let fleet = self.fleet.clone();
        let (front, trace) = (&fleet.fronts[self.random.usize(..fleet.fronts.len())], &fleet.trace);
        let allowed = self.timeout_max.mul_f64(0.2 + 0.8 * self.random.f64());
        let leaves = self.random.u8(..20) == 0;
        let patience = if leaves { allowed.mul_f64(self.random.f64()) } else { allowed + 2 * TICK };
        let began = now();
        let Step { start, end, .. } = *step;
        let place = SequenceStep { id: sequence.id.clone(), start, end };
        let deadline = Deadline::after(began, allowed);
        let request = Sum::request(id(&name), place, &step.numbers, deadline);
        trace.note(format_args!("{name} brings {:?} within {allowed:?}", step.numbers));
        let answer = timeout(patience, front.ask(request)).await;
        let took = now() - began;
        trace.check(took <= allowed + TICK || answer.is_err(), || format!("{name} took {took:?}"));
        let asked = Asked { name: &name, began, step };
        let next = match answer {
            Err(_) => {
                trace.note(format_args!("{name} leaves"));
                trace.check(leaves, || format!("{name} gets no answer in time"));
                self.ends.left += 1;
                Next::Anew
            }
            Ok(Err(gone)) => {
                self.ends.errors += 1;
                self.left_alone(&asked, gone, front.was_down_since(began))
            }
            Ok(Ok(Ok(response))) => {
                self.ends.answers += 1;
                self.check_answer(sequence, &asked, &response)
            }
            Ok(Ok(Err(error))) => {
                self.ends.errors += 1;
                self.check_error(sequence, &asked, &error)
            }
        };
        sequence.heard = now();
        next
    }

    fn left_alone(&self, asked: &Asked<'_>, gone: Gone, was_down: bool) -> Next {
        let (name, trace) = (asked.name, &self.fleet.trace);
        trace.note(format_args!("{name} is left alone: {gone:?}"));
        trace
            .check(was_down, || format!("{name} is left alone by a gateway that serves: {gone:?}"));
        match gone {
            Gone::Refused => Next::Again,
            Gone::Broken => Next::Anew,
        }
    }

    /// The state that it was given in the light of is that after all steps that were answered
    /// before, each of them heard once.
    fn check_answer(
        &self,
        sequence: &mut Sequence,
        asked: &Asked<'_>,
        response: &InferResponse,
    ) -> Next {
        let (Asked { name, began, step }, trace) = (asked, &self.fleet.trace);
        let worker = response.served.worker.clone();
        let version = response.version.number().unwrap_or_default();
        trace.note(format_args!("{name} is answered by {worker}, version {version}"));
        let idle = began.saturating_duration_since(sequence.heard);
        trace.check(step.start || idle < self.idle_timeout, || {
            format!("{name} goes on with what was idle for {idle:?}")
        });
        let sums = self.fleet.host(&worker).sums.as_ref();
        let may_answer = sums.is_some_and(|sums| sums.may_answer(version, *began));
        trace.check(may_answer, || {
            format!("{name} gets an answer of version {version}, which left")
        });
        let before =
            if step.start { vec![Sum::ZERO; step.numbers.len()] } else { sequence.sums.clone() };
        let rows = before.iter().zip(&step.numbers);
        let sums: Vec<_> = rows.map(|(sum, number)| sum.and(*number, version)).collect();
        trace.check(Sum::are_told_by(&sums, &response.outputs), || {
            format!("{name} comes to {:?}, not {sums:?}", response.outputs)
        });
        let keeper = Some((worker, version));
        trace.check(step.start || sequence.keeper == keeper, || {
            format!("{name} is kept by {:?} and answered by {keeper:?}", sequence.keeper)
        });
        (sequence.sums, sequence.keeper, sequence.sent) = (sums, keeper, *began);
        Next::GoOn
    }

    fn check_error(&self, sequence: &Sequence, asked: &Asked<'_>, error: &ServiceError) -> Next {
        let (Asked { name, step, .. }, trace) = (asked, &self.fleet.trace);
        trace.note(format_args!("{name} fails: {:?}: {error}", error.kind()));
        let text = error.to_string();
        let is_unknown = text.contains("begin it with `sequence_start`");
        if is_unknown {
            let idle = now().saturating_duration_since(sequence.sent);
            let may_be_lost = self.losses || idle >= self.idle_timeout;
            trace.check(may_be_lost && !step.start, || format!("{name} is lost for no reason"));
            let is_told = error.kind() == ErrorKind::InvalidArgument;
            trace.check(is_told, || format!("{name} is lost as {:?}", error.kind()));
            return Next::Anew;
        }
        trace.check(self.due.admits(error.kind()), || {
            format!("{name} fails, and nothing was wrong: {:?}: {}", error.kind(), error.chain())
        });
        if text.contains("start again, under another id") { Next::Anew } else { Next::Again }
    }
}

/// A step as it was sent.
struct Asked<'a> {
    name: &'a str,
    began: Instant,
    step: &'a Step,
}
