//! Runs that are ended early, and instances that hang.
//!
//! Where a limit passes, the clock is what is waited for; the tests wait for what follows from it.

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_backend::fake::FakeBackend;
use inferring_types::{Blame, CacheOutcome, ErrorKind};
use inferring_worker::{CacheConfig, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, PATIENCE, expected, queueing, request, row, row_answer, values, with_timeout,
    within_patience,
};

/// So short that tests need not wait long for it, and with it the grace that follows; so long that
/// a busy machine gets a run done within it.
const LIMIT: Duration = Duration::from_secs(1);

fn limited() -> WorkerConfig {
    WorkerConfig { run_limit: Some(LIMIT), ..WorkerConfig::default() }
}

/// Both rows leave together, and not one by one.
fn pairs() -> QueueConfig {
    QueueConfig {
        size_max: NonZeroUsize::new(2).unwrap(),
        dispatch_when_idle: false,
        delay_max: 100 * PATIENCE,
        ..QueueConfig::default()
    }
}

#[tokio::test]
async fn a_run_that_all_have_left_is_ended() {
    let fixture = Fixture::new();
    fixture.engine.hold();
    let answer = fixture.begin(row(1.0));
    assert!(fixture.engine.wait_until_running(1, PATIENCE));
    let runs = fixture.engine.runs();
    drop(answer);
    assert_eq!(fixture.engine.interrupts(), 1);
    // The engine is still held: only an interrupt lets the instance go on to the next run.
    let next = fixture.begin(row(2.0));
    assert!(fixture.engine.wait_until_begun(runs + 1, PATIENCE));
    fixture.engine.release();
    assert_eq!(values(&within_patience(next).await), row_answer(2.0));
    let again = fixture.ask(row(1.0)).await;
    assert_eq!(values(&again), row_answer(1.0));
    assert_eq!(again.unwrap().served.cache, CacheOutcome::Computed);
    let status = fixture.status().await;
    assert_eq!((status.batches.interrupted, status.errors, status.in_flight), (1, 0, 0));
}

#[tokio::test]
async fn a_run_goes_on_as_long_as_anybody_waits_for_any_of_it() {
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(pairs()));
    fixture.engine.hold();
    let [first, other, last] = [1.0, 1.0, 2.0].map(|value| fixture.begin(row(value)));
    assert!(fixture.engine.wait_until_running(1, PATIENCE));
    assert_eq!(fixture.rows_of_runs(), [2]);
    drop(last);
    drop(first);
    assert_eq!(fixture.engine.interrupts(), 0);
    fixture.engine.release();
    assert_eq!(values(&within_patience(other).await), row_answer(1.0));
    // What was computed for those who left is kept all the same.
    assert_ne!(fixture.ask(row(2.0)).await.unwrap().served.cache, CacheOutcome::Computed);
    assert_eq!(fixture.status().await.batches.interrupted, 0);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_run_ends_it() {
    let fixture = Fixture::new();
    fixture.engine.hold();
    let hasty = fixture.ask(with_timeout(row(1.0), Duration::from_millis(20))).await;
    assert_eq!(hasty.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert!(fixture.engine.wait_until_interrupts(1, PATIENCE));
}

#[tokio::test]
async fn a_run_over_its_limit_is_ended_and_its_instance_goes_on() {
    let fixture = Fixture::with(&FakeBackend::new(), &limited());
    let shares = fixture.engine.shares();
    fixture.engine.hold();
    let error = fixture.ask(row(1.0)).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Internal, Blame::WorkerFailed));
    assert!(!error.is_retryable(), "another worker would take as long");
    assert_eq!(error.to_string(), "the model ran for longer than 1s, which is its limit");
    fixture.engine.release();
    assert_eq!(values(&fixture.ask(row(2.0)).await), row_answer(2.0));
    assert_eq!(fixture.engine.shares(), shares, "no instance was replaced");
    assert_eq!(fixture.status().await.batches.interrupted, 1);
}

/// It may be one of them that takes so long, or that they are so many.
#[tokio::test]
async fn who_shared_a_run_that_took_too_long_is_run_apart() {
    let config = WorkerConfig { run_limit: Some(LIMIT), ..queueing(pairs()) };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.set_cost(|rows| if rows > 1 { 2 * PATIENCE } else { Duration::ZERO });
    let answers = [1.0, 2.0].map(|value| fixture.ask(row(value)));
    let [first, second] = answers;
    let (first, second) = tokio::join!(first, second);
    assert_eq!((values(&first), values(&second)), (row_answer(1.0), row_answer(2.0)));
    assert_eq!(fixture.rows_of_runs(), [2, 1, 1]);
    assert_eq!(fixture.status().await.batches.interrupted, 1);
    // Where it is alone in a run, a request is at fault itself.
    fixture.engine.set_cost(|_| 2 * PATIENCE);
    let answers = [3.0, 4.0].map(|value| fixture.ask(row(value)));
    let [first, second] = answers;
    let (first, second) = tokio::join!(first, second);
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, false));
    }
    // It has been found out that two are too many.
    assert_eq!(fixture.rows_of_runs(), [2, 1, 1, 1, 1]);
    assert_eq!(fixture.status().await.batches.interrupted, 3);
}

/// Their client does not know of runs, and need not ask for fewer.
#[tokio::test]
async fn rows_of_a_request_that_take_too_long_together_are_run_apart() {
    for cache in [CacheConfig::default(), CacheConfig { entries: 0, ..CacheConfig::default() }] {
        let fixture = Fixture::with(&FakeBackend::new(), &WorkerConfig { cache, ..limited() });
        let too_many = |rows| if rows > 2 { 2 * PATIENCE } else { Duration::ZERO };
        fixture.engine.set_cost(too_many);
        let numbers: Vec<f32> = (0..32u8).map(f32::from).collect();
        let answer = fixture.ask(request([8, 4], &numbers)).await;
        assert_eq!(values(&answer), expected(4, &numbers));
        let runs = fixture.rows_of_runs();
        assert!(runs.len() < 20, "halves, and halves of halves: {runs:?}");
    }
}

/// Each run that hangs costs an instance, and halves would hang as well.
#[tokio::test]
async fn rows_of_a_request_whose_run_hangs_are_not_asked_for_again() {
    let fixture = Fixture::with(&FakeBackend::new(), &limited());
    fixture.engine.hang_next(1);
    let numbers: Vec<f32> = (0..32u8).map(f32::from).collect();
    let error = fixture.ask(request([8, 4], &numbers)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, false));
    assert_eq!(fixture.rows_of_runs(), [8]);
}

/// Five rows take 250 ms and six 300; what is reckoned to take nearly as long as the limit is left.
#[tokio::test]
async fn runs_have_no_more_rows_than_their_limit_is_reckoned_to_allow() {
    let backend = FakeBackend::new();
    backend.control().set_cost(|rows| 50 * rows as u32 * Duration::from_millis(1));
    let queue = QueueConfig { size_max: NonZeroUsize::new(16).unwrap(), ..QueueConfig::default() };
    let run_limit = Some(Duration::from_millis(360));
    let fixture = Fixture::with(&backend, &WorkerConfig { run_limit, ..queueing(queue) });
    let numbers: Vec<f32> = (0..64u8).map(f32::from).collect();
    let answer = fixture.ask(request([16, 4], &numbers)).await;
    assert_eq!(values(&answer), expected(4, &numbers));
    let runs = fixture.rows_of_runs();
    assert!(runs.iter().all(|&rows| rows <= 5), "{runs:?}");
}

#[tokio::test]
async fn an_instance_that_hangs_is_replaced() {
    for is_sharable in [true, false] {
        let backend = FakeBackend::new();
        backend.control().set_sharable(is_sharable);
        let fixture = Fixture::with(&backend, &limited());
        let (loads, sessions) = (fixture.engine.loads(), fixture.engine.sessions());
        fixture.engine.hang_next(1);
        let error = fixture.ask(row(1.0)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, false));
        // The one instance there was still hangs.
        assert_eq!(values(&fixture.ask(row(2.0)).await), row_answer(2.0));
        assert_eq!(fixture.engine.running(), 1);
        assert_eq!(fixture.engine.loads(), loads + u64::from(!is_sharable));
        assert_eq!(fixture.engine.sessions(), sessions + 1);
        // It ends by itself once it comes back, and its answer is nobody's.
        fixture.engine.release();
        assert!(fixture.engine.wait_until_sessions(sessions, PATIENCE));
        let again = fixture.ask(row(1.0)).await.unwrap();
        assert_eq!(again.served.cache, CacheOutcome::Computed);
        assert_eq!(fixture.status().await.batches.interrupted, 1);
    }
}

/// Nobody waits for the batch that hangs, but others wait behind it.
#[tokio::test]
async fn an_instance_that_hangs_in_abandoned_work_is_replaced() {
    let fixture = Fixture::with(&FakeBackend::new(), &limited());
    fixture.engine.hang_next(1);
    let abandoned = fixture.begin(row(1.0));
    assert!(fixture.engine.wait_until_running(1, PATIENCE));
    let behind = fixture.begin(row(2.0));
    drop(abandoned);
    assert_eq!(values(&within_patience(behind).await), row_answer(2.0));
    assert_eq!(fixture.engine.running(), 1);
    assert_eq!(fixture.status().await.errors, 0);
}

/// Each instance that hangs costs a thread and a session until it comes back, so there is an end
/// to replacing them; those that come back serve again.
#[tokio::test]
async fn there_is_a_bound_on_the_instances_that_hang_at_once() {
    const LOST_MAX: usize = 16;
    let limit = Duration::from_millis(200);
    let config = WorkerConfig { run_limit: Some(limit), ..WorkerConfig::default() };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.hang_next(u64::MAX);
    for number in 0..=LOST_MAX {
        let error = fixture.ask(row(number as f32)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    }
    assert_eq!(fixture.engine.running(), LOST_MAX + 1);
    // Nobody is left to take this one.
    let hasty = fixture.ask(with_timeout(row(99.0), Duration::from_millis(20))).await;
    assert_eq!(hasty.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(fixture.engine.running(), LOST_MAX + 1);
    fixture.engine.hang_next(0);
    let patient = fixture.begin(row(100.0));
    fixture.engine.release();
    assert_eq!(values(&within_patience(patient).await), row_answer(100.0));
}

#[tokio::test]
async fn closing_waits_for_no_instance_that_hangs() {
    let fixture = Fixture::with(&FakeBackend::new(), &limited());
    fixture.engine.hang_next(1);
    fixture.ask(row(1.0)).await.unwrap_err();
    assert_eq!(values(&fixture.ask(row(2.0)).await), row_answer(2.0));
    fixture.engine.hang_next(1);
    let hanging = fixture.begin(row(3.0));
    assert!(fixture.engine.wait_until_running(2, PATIENCE));
    let worker = fixture.worker.clone();
    let closing = tokio::task::spawn_blocking(move || worker.close());
    // One was lost before it is closed, one is while it is.
    within_patience(closing).await.unwrap();
    assert_eq!(within_patience(hanging).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(fixture.engine.running(), 2);
}

/// A batch failed and was halved, and the run of the first half hangs: the second half has not run,
/// and is run by the instance that takes the place.
#[tokio::test]
async fn what_an_instance_that_hangs_had_not_come_to_is_done_by_the_next() {
    let config = WorkerConfig { run_limit: Some(LIMIT), ..queueing(pairs()) };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.hold();
    let [first, second] = [1.0, 2.0].map(|value| fixture.begin(row(value)));
    assert!(fixture.engine.wait_until_running(1, PATIENCE));
    fixture.engine.fail_next(1);
    fixture.engine.hang_next(1);
    fixture.engine.release();
    assert_eq!(within_patience(first).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(values(&within_patience(second).await), row_answer(2.0));
    assert_eq!(fixture.rows_of_runs(), [2, 1, 1]);
}
