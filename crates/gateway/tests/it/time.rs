//! How long a request may take, and who may take how much of it.

use std::time::Duration;

use inferring_types::{ErrorKind, InferenceService};
use tokio::time::Instant;

use crate::fixture::{Answer, Fleet, SECOND, request};

/// Time-outs are rounded up to the millisecond.
fn assert_took(started: Instant, expected: Duration) {
    let took = started.elapsed();
    let late = took.checked_sub(expected);
    assert!(late.is_some_and(|late| late < Duration::from_millis(10)), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_worker_is_left_for_the_next_after_its_time() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Never);
    let started = Instant::now();
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    assert_took(started, 10 * SECOND);
    let hung = fleet.endpoint(&order[0]).await;
    assert_eq!((hung.failures, hung.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_all_attempts_together() {
    let fleet = Fleet::start(5).await;
    let order = fleet.order_of(1.0).await;
    fleet.all_answer(&Answer::Never);
    let started = Instant::now();
    let error = fleet.gateway.infer(request("m", 1.0, 25 * SECOND)).await.unwrap_err();
    assert_took(started, 25 * SECOND);
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(fleet.take_journal(), order[..3]);
    for worker in &order {
        // Each had a third of the time, which is less than a worker may take: none has failed.
        assert_eq!(fleet.endpoint(worker).await.failures, 0, "{worker}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_worker_may_take_all_that_is_left() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    fleet.all_answer(&Answer::After(15 * SECOND));
    let started = Instant::now();
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    assert_took(started, 25 * SECOND);

    let alone = Fleet::start(1).await;
    alone.all_answer(&Answer::After(29 * SECOND));
    let started = Instant::now();
    alone.ask(1.0).await.unwrap();
    assert_took(started, 29 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn fault_23_a_deadline_that_has_passed_asks_nobody() {
    let fleet = Fleet::start(2).await;
    let late = request("m", 1.0, SECOND);
    tokio::time::sleep(2 * SECOND).await;
    let error = fleet.gateway.infer(late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(fleet.take_journal(), []);
}
