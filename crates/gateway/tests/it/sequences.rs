//! Requests whose state is at one worker.

use inferring_types::{
    Blame, ErrorKind, InferRequest, InferResponse, InferenceService, SequenceStep, ServiceError,
    WorkerId,
};

use crate::fixture::{Answer, Fleet, SECOND, request};

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
async fn only_a_start_that_was_not_sent_goes_to_another_worker() {
    let refused = || ServiceError::unreachable("connection refused").unsent();
    for (start, error, tries) in [
        (true, refused(), 2),
        (false, refused(), 1),
        (true, broke(), 1),
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
    ] {
        fleet.take_journal();
        fleet.worker(&home).answers(answer);
        let error = take(&fleet, step("7", false, 0.0)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        assert_eq!(error.to_string(), format!("{problem}: {advice}"));
        assert_eq!(fleet.take_journal(), std::slice::from_ref(&home));
    }
}
