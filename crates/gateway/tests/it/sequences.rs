//! Requests whose state is at one worker.

use inferring_types::{
    Blame, ErrorKind, InferRequest, InferResponse, InferenceService, NodeAdmin, RouteReason,
    SequenceStep, ServiceError, WorkerChange, WorkerId,
};

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass, request};

/// A step of a sequence about some content, without the inputs that its worker keeps.
fn step(id: &str, start: bool, content: f32) -> InferRequest {
    let sequence = Some(SequenceStep { id: id.parse().unwrap(), start, end: false });
    InferRequest { sequence, ..request("m", content, 30 * SECOND) }
}

async fn take(fleet: &Fleet, step: InferRequest) -> Result<InferResponse, ServiceError> {
    fleet.gateway.infer(step).await
}

/// The workers in the order in which a sequence belongs to them: nobody takes its start.
async fn order_of(fleet: &Fleet, id: &str) -> Vec<WorkerId> {
    fleet.all_answer(&Answer::Error(ServiceError::unreachable("connection refused").unsent()));
    fleet.take_journal();
    take(fleet, step(id, true, 0.0)).await.unwrap_err();
    fleet.all_answer(&Answer::Echo);
    fleet.take_journal()
}

/// A connection that broke when the request had been sent.
fn broke() -> ServiceError {
    ServiceError::new(ErrorKind::Unavailable, Blame::WorkerUnreachable, "the worker is gone")
}

#[tokio::test(start_paused = true)]
async fn all_steps_of_a_sequence_meet_at_one_worker_and_sequences_spread() {
    let fleet = Fleet::start(5).await;
    let other_gateway = fleet.rotated(2).await;
    let mut homes = Vec::new();
    for id in 0..20 {
        let id = id.to_string();
        let home = take(&fleet, step(&id, true, 0.0)).await.unwrap().served.worker;
        for (content, gateway) in [(1.0, &fleet), (2.0, &other_gateway)] {
            let served = take(gateway, step(&id, false, content)).await.unwrap().served;
            assert_eq!(served.worker, home, "sequence {id}");
        }
        homes.push(home);
    }
    assert!(homes.iter().any(|home| *home != homes[0]));
}

#[tokio::test(start_paused = true)]
async fn inputs_that_the_worker_keeps_may_be_missing() {
    let fleet = Fleet::start(2).await;
    let without = InferRequest { inputs: Vec::new(), ..step("7", true, 0.0) };
    take(&fleet, without).await.unwrap();
    let alone = InferRequest { inputs: Vec::new(), ..request("m", 0.0, SECOND) };
    assert_eq!(take(&fleet, alone).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn only_a_start_of_which_nothing_was_executed_goes_to_another_worker() {
    let refused = || ServiceError::unreachable("connection refused").unsent();
    for (start, error, tries) in [
        (true, refused(), 2),
        (false, refused(), 1),
        (true, broke(), 1),
        // It is there, and takes nothing new.
        (true, ServiceError::unavailable("the worker is shutting down"), 2),
        (false, ServiceError::unavailable("the worker is shutting down"), 1),
        (true, ServiceError::overloaded("the queue is full"), 1),
        (true, ServiceError::failed("a fault"), 1),
        (false, ServiceError::not_found("no such model"), 1),
    ] {
        let fleet = Fleet::start(3).await;
        let order = order_of(&fleet, "7").await;
        fleet.worker(&order[0]).answers(Answer::Error(error.clone()));
        let result = take(&fleet, step("7", start, 0.0)).await;
        assert_eq!(fleet.take_journal(), order[..tries], "start {start}, {error:?}");
        assert_eq!(result.is_ok(), tries > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_passed_on_as_it_is() {
    let fleet = Fleet::start(2).await;
    let full = ServiceError::overloaded("the queue is full").retry_after(3 * SECOND);
    fleet.all_answer(&Answer::Error(full));
    let error = take(&fleet, step("7", true, 0.0)).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Overloaded, "the queue is full"));
    assert_eq!(error.worth_retrying_after(), Some(3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_step_without_an_answer_says_that_the_sequence_must_start_again() {
    let fleet = Fleet::start(2).await;
    let home = order_of(&fleet, "7").await.remove(0);
    let advice = "what became of sequence `7` is not known; start again, under another id";
    for (answer, kind, problem) in [
        (Answer::Error(broke()), ErrorKind::Unavailable, "the worker is gone"),
        (
            Answer::Error(ServiceError::unreachable("connection refused").unsent()),
            ErrorKind::Unavailable,
            "connection refused",
        ),
        // No shorter time-out than the deadline: there is nobody else to ask.
        (
            Answer::Never,
            ErrorKind::DeadlineExceeded,
            "the deadline passed before a worker answered",
        ),
        // A client of a worker gives up at the same moment.
        (
            Answer::ErrorAfter(30 * SECOND, ServiceError::deadline_exceeded("no answer in time")),
            ErrorKind::DeadlineExceeded,
            "the deadline passed before a worker answered",
        ),
    ] {
        fleet.take_journal();
        fleet.worker(&home).answers(answer);
        let error = take(&fleet, step("7", false, 0.0)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        assert_eq!(error.to_string(), format!("{problem}: {advice}"));
        assert_eq!(fleet.take_journal(), std::slice::from_ref(&home));
    }
}

/// The worker that answers a step.
async fn answers(fleet: &Fleet, step: InferRequest) -> WorkerId {
    take(fleet, step).await.unwrap().served.worker
}

/// What a worker answers to a step of a sequence that it does not know.
fn unknown() -> Answer {
    Answer::Error(ServiceError::invalid("model `m` knows no sequence `7`").retryable())
}

/// Who says that a worker drains.
#[derive(Debug, Clone, Copy)]
enum Drain {
    Word,
    Health,
    Operator,
}

impl Drain {
    async fn begin(self, fleet: &Fleet, worker: &WorkerId) {
        match self {
            Self::Word => {
                fleet.worker(worker).is(Presence::Draining);
                fleet.worker(worker).says_it_drains();
            }
            Self::Health => {
                fleet.worker(worker).is(Presence::Draining);
                pass(SECOND).await;
            }
            Self::Operator => {
                let change = WorkerChange::Draining(true);
                fleet.gateway.change_worker(worker.clone(), change).await.unwrap();
            }
        }
    }

    async fn end(self, fleet: &Fleet, worker: &WorkerId) {
        fleet.worker(worker).is(Presence::There);
        if let Self::Operator = self {
            let change = WorkerChange::Draining(false);
            fleet.gateway.change_worker(worker.clone(), change).await.unwrap();
        }
        pass(SECOND).await;
    }
}

const DRAINS: [Drain; 3] = [Drain::Word, Drain::Health, Drain::Operator];

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_goes_on_with_its_sequences_and_new_ones_begin_elsewhere() {
    for drain in DRAINS {
        let fleet = Fleet::start(3).await;
        let order = order_of(&fleet, "7").await;
        assert_eq!(answers(&fleet, step("7", true, 0.0)).await, order[0]);
        drain.begin(&fleet, &order[0]).await;
        for content in [1.0, 2.0, 3.0] {
            let home = answers(&fleet, step("7", false, content)).await;
            assert_eq!(home, order[0], "{drain:?}");
        }
        // A gateway that knows nothing of it asks there, too.
        let other = fleet.rotated(1).await;
        if !matches!(drain, Drain::Operator) {
            assert_eq!(answers(&other, step("7", false, 4.0)).await, order[0], "{drain:?}");
        }
        let begun = take(&fleet, step("7", true, 0.0)).await.unwrap();
        assert_eq!(begun.served.worker, order[1], "{drain:?}");
        assert_eq!(begun.routed.unwrap().reason, RouteReason::Unreachable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sequence_that_began_elsewhere_goes_on_there_when_its_first_worker_is_back() {
    for drain in DRAINS {
        let fleet = Fleet::start(3).await;
        let order = order_of(&fleet, "7").await;
        drain.begin(&fleet, &order[0]).await;
        assert_eq!(answers(&fleet, step("7", true, 0.0)).await, order[1], "{drain:?}");
        drain.end(&fleet, &order[0]).await;
        for content in [1.0, 2.0] {
            let went_on = take(&fleet, step("7", false, content)).await.unwrap();
            assert_eq!(went_on.served.worker, order[1], "{drain:?}");
            assert_eq!(went_on.routed.unwrap().reason, RouteReason::Primary);
        }
        // Begun anew, it leaves no other state behind.
        assert_eq!(answers(&fleet, step("7", true, 0.0)).await, order[1], "{drain:?}");
        let mut last = step("7", false, 3.0);
        last.sequence.as_mut().unwrap().end = true;
        assert_eq!(answers(&fleet, last).await, order[1]);
        // It has ended: the next one of that name begins where it belongs.
        assert_eq!(answers(&fleet, step("7", true, 0.0)).await, order[0], "{drain:?}");
    }
}

/// Gateways do not tell each other where sequences began, nor does one that was restarted know.
#[tokio::test(start_paused = true)]
async fn who_does_not_know_where_a_sequence_is_asks_until_a_worker_does() {
    let fleet = Fleet::start(3).await;
    let order = order_of(&fleet, "7").await;
    for worker in &order[..2] {
        fleet.worker(worker).answers(unknown());
    }
    assert_eq!(answers(&fleet, step("7", false, 1.0)).await, order[2]);
    assert_eq!(fleet.take_journal(), order);
    // From then on it knows.
    assert_eq!(answers(&fleet, step("7", false, 2.0)).await, order[2]);
    assert_eq!(fleet.take_journal(), order[2..]);
    // It has moved: somebody began it anew at another gateway.
    fleet.worker(&order[1]).answers(Answer::Echo);
    fleet.worker(&order[2]).answers(unknown());
    assert_eq!(answers(&fleet, step("7", false, 3.0)).await, order[1]);
    assert_eq!(fleet.take_journal(), [order[2].clone(), order[0].clone(), order[1].clone()]);
}

#[tokio::test(start_paused = true)]
async fn a_sequence_that_nobody_knows_is_looked_for_at_few_and_refused_as_by_one() {
    for (size, asked) in [(2, 2), (9, 4)] {
        let fleet = Fleet::start(size).await;
        let order = order_of(&fleet, "7").await;
        fleet.all_answer(&unknown());
        let failures = || async {
            fleet.status().await.workers.iter().map(|worker| worker.failures).sum::<u64>()
        };
        let before = failures().await;
        let error = take(&fleet, step("7", false, 1.0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.to_string(), "model `m` knows no sequence `7`");
        assert_eq!(fleet.take_journal(), order[..asked]);
        assert_eq!(failures().await, before, "nobody is blamed for a client's mistake");
    }
}

/// Another worker would say that it knows no such sequence, and its client would begin anew.
#[tokio::test(start_paused = true)]
async fn a_step_whose_worker_is_away_is_told_so_asks_nobody_and_goes_on_when_it_is_back() {
    let fleet = Fleet::start(3).await;
    let order = order_of(&fleet, "7").await;
    answers(&fleet, step("7", true, 0.0)).await;
    fleet.take_journal();
    fleet.worker(&order[0]).is(Presence::Silent);
    pass(5 * SECOND).await;
    let error = take(&fleet, step("7", false, 1.0)).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Server));
    assert_eq!(
        error.to_string(),
        format!(
            "the state of sequence `7` is at worker {}, which cannot be asked now: send the step \
             again later, or start again, under another id",
            order[0],
        ),
    );
    assert_eq!(fleet.take_journal(), []);
    fleet.worker(&order[0]).is(Presence::There);
    pass(3 * SECOND).await;
    assert_eq!(answers(&fleet, step("7", false, 1.0)).await, order[0]);
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_that_is_gone_is_sent_no_step() {
    let fleet = Fleet::start(3).await;
    let order = order_of(&fleet, "7").await;
    answers(&fleet, step("7", true, 0.0)).await;
    Drain::Operator.begin(&fleet, &order[0]).await;
    fleet.worker(&order[0]).dies();
    pass(SECOND).await;
    fleet.take_journal();
    let error = take(&fleet, step("7", false, 1.0)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be asked now"), "{error}");
    assert_eq!(fleet.take_journal(), []);
}
