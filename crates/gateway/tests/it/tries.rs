//! Tries beyond the first: when there is one, at which worker, and that they stay few.

use std::time::Duration;

use inferring_gateway::{BreakerSettings, GatewayConfig, LoadBound, LoadSettings};
use inferring_types::{
    Blame, BreakerState, ErrorKind, InferRequest, InferResponse, InferenceService, RouteReason,
    SequenceStep, ServiceError, TryStatus, WorkerId,
};
use tokio::time::Instant;

use crate::fixture::{Answer, Asking, Fleet, SECOND, pass, request};

const MS: Duration = Duration::from_millis(1);

/// However much a worker has to do, what belongs to it goes there.
pub(crate) fn unbounded() -> GatewayConfig {
    let bound = LoadBound::try_from(1e9).unwrap();
    GatewayConfig {
        load: LoadSettings { bound, ..LoadSettings::default() },
        ..GatewayConfig::default()
    }
}

/// No number of failures keeps requests from a worker.
fn without_breakers() -> GatewayConfig {
    let breaker = BreakerSettings {
        failures_to_open: u32::MAX,
        failure_rate_to_open: 2.0,
        ..BreakerSettings::default()
    };
    GatewayConfig { breaker, ..unbounded() }
}

pub(crate) fn unreachable() -> ServiceError {
    ServiceError::unreachable("the connection broke off")
}

/// Has each worker answer so often within that time that the gateway knows what is usual.
pub(crate) async fn teach(fleet: &Fleet, time: Duration) {
    fleet.all_answer(&Answer::After(time));
    for round in 0..4u16 {
        let mut asking = Vec::new();
        for content in 0..32 * fleet.workers.len() as u16 {
            asking.push(fleet.start_asking((1000 * round + content).into()).await);
        }
        answers(asking).await.into_iter().for_each(|answer| _ = answer.unwrap());
    }
    fleet.all_answer(&Answer::Echo);
    assert_eq!(fleet.status().await.tries, TryStatus::default());
    fleet.take_journal();
}

pub(crate) async fn answers(asking: Vec<Asking>) -> Vec<Result<InferResponse, ServiceError>> {
    let mut answers = Vec::new();
    for task in asking {
        answers.push(task.await.unwrap().0);
    }
    answers
}

pub(crate) fn routed(response: &InferResponse) -> (u32, RouteReason, Duration) {
    let routed = response.routed.expect("a gateway tells how it came to ask");
    (routed.attempt, routed.reason, routed.time)
}

pub(crate) fn about(time: Duration, expected: Duration) -> bool {
    (expected..expected + 5 * MS).contains(&time)
}

#[tokio::test(start_paused = true)]
async fn fault_01_a_worker_killed_with_many_requests_in_flight_costs_no_client_an_error() {
    for in_flight in [1_u16, 30, 300] {
        let fleet = Fleet::start(3).await;
        fleet.all_answer(&Answer::After(SECOND));
        let mut asking = Vec::new();
        for content in 0..in_flight {
            asking.push(fleet.start_asking(content.into()).await);
        }
        let status = fleet.status().await;
        let most = status.workers.iter().max_by_key(|worker| worker.in_flight).unwrap();
        let (victim, lost) = (fleet.worker(&most.id), most.in_flight);
        assert!(lost >= u64::from(in_flight) / 3);
        fleet.take_journal();
        victim.is_killed();
        for answer in answers(asking).await {
            let answer = answer.unwrap();
            let (attempt, reason, time) = routed(&answer);
            let is_retry = reason == RouteReason::Retry;
            assert_eq!((attempt > 1, is_retry), (is_retry, attempt == 2), "{reason:?}");
            assert_ne!(answer.served.worker, victim.id());
            // Nothing had come before that would have earned so many retries at once.
            assert!(time < 15 * SECOND, "{time:?}");
        }
        let status = fleet.status().await;
        assert_eq!((status.errors, status.tries.retries), (0, lost));
        assert_eq!(fleet.take_journal().len() as u64, lost);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_03_workers_killed_one_by_one_to_none_and_back() {
    let fleet = Fleet::start(3).await;
    for alive in (0..3).rev() {
        fleet.workers[alive].is_killed();
        for content in 0..20u16 {
            let started = Instant::now();
            let result = fleet.ask(content.into()).await;
            assert!(started.elapsed() < 50 * MS, "{:?}", started.elapsed());
            if alive > 0 {
                result.unwrap();
            } else {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
            }
        }
    }
    pass(SECOND).await;
    let started = Instant::now();
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed()), (ErrorKind::Unavailable, Duration::ZERO));
    // A probe may find one in that time.
    assert_eq!(error.worth_retrying_after(), Some(SECOND));
    fleet.workers[1].restarts();
    pass(SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, fleet.workers[1].id());
}

#[tokio::test(start_paused = true)]
async fn fault_06_an_answer_that_breaks_off_is_an_error_and_asked_of_nobody_else() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    let kind = ErrorKind::Unavailable;
    let truncated = ServiceError::new(kind, Blame::WorkerUnreachable, "it broke off");
    fleet.worker(&order[0]).answers(Answer::Error(truncated));
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!((error.kind(), error.worker()), (kind, Some(&order[0])));
    assert_eq!(fleet.take_journal(), order[..1]);
    let routed = error.routing().unwrap();
    assert_eq!((routed.attempt, routed.reason), (1, RouteReason::Primary));
}

#[tokio::test(start_paused = true)]
async fn fault_09_where_all_fail_tries_are_few_more_than_requests() {
    let cases = [
        (Answer::Error(ServiceError::failed("a fault")), 1),
        (Answer::Error(ServiceError::failed("a fault")), 50),
        (Answer::Error(unreachable()), 50),
    ];
    for (answer, at_a_time) in cases {
        let fleet = Fleet::start_with(5, without_breakers()).await;
        fleet.all_answer(&answer);
        let started = Instant::now();
        let (mut requests, mut content) = (0_u32, 0_u16);
        while started.elapsed() < 20 * SECOND {
            let mut asking = Vec::new();
            for _ in 0..at_a_time {
                content = content.wrapping_add(1);
                requests += 1;
                asking.push(fleet.start_asking(content.into()).await);
            }
            pass(100 * MS).await;
            for task in asking {
                // Those whose worker is gone may wait for their turn.
                if task.is_finished() {
                    task.await.unwrap().0.unwrap_err();
                }
            }
        }
        let tries = fleet.take_journal().len() as f64;
        let reserve = 10.0 * (1.0 + started.elapsed().as_secs_f64());
        let bound = 1.2 * f64::from(requests) + reserve;
        assert!(tries <= bound, "{tries} tries of {requests} requests");
        let status = fleet.status().await;
        assert!(status.tries.retries > 200 && status.tries.budget_exhausted > 0, "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_11_a_client_that_leaves_cancels_all_tries_and_counts_against_nobody() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 10 * MS).await;
    let order = fleet.order_of(1.0).await;
    let before = fleet.status().await;
    fleet.all_answer(&Answer::Never);
    for _ in 0..10 {
        let asking = fleet.start_asking(1.0).await;
        pass(50 * MS).await;
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
    }
    assert_eq!(fleet.take_journal().len(), 20, "each was hedged");
    for (worker, cancelled) in order.iter().zip([10, 10, 0]) {
        assert_eq!(fleet.worker(worker).cancelled(), cancelled);
        let endpoint = fleet.endpoint(worker).await;
        assert_eq!((endpoint.in_flight, endpoint.failures), (0, 0));
        assert_eq!(endpoint.breaker.state, BreakerState::Closed);
    }
    let after = fleet.status().await;
    assert_eq!((after.in_flight, after.errors - before.errors), (0, 0));
    assert_eq!((after.tries.hedges, after.tries.hedges_won), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn fault_24_a_retry_near_the_deadline_ends_with_it() {
    for second_answer in [Answer::Never, Answer::Error(ServiceError::failed("another"))] {
        let fleet = Fleet::start(3).await;
        let order = fleet.order_of(1.0).await;
        fleet.worker(&order[0]).answers(Answer::After(10 * SECOND));
        fleet.worker(&order[1]).answers(second_answer.clone());
        fleet.worker(&order[2]).answers(second_answer);
        let gateway = fleet.gateway.clone();
        let started = Instant::now();
        let asking =
            tokio::spawn(
                async move { gateway.infer(request("m", 1.0, SECOND)).await.unwrap_err() },
            );
        tokio::time::sleep(990 * MS).await;
        fleet.worker(&order[0]).is_killed();
        asking.await.unwrap();
        let took = started.elapsed();
        assert!((990 * MS..=1001 * MS).contains(&took), "{took:?}");
        assert_eq!(fleet.status().await.in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_a_sequence_is_neither_hedged_nor_given_up() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 20 * MS).await;
    fleet.all_answer(&Answer::After(15 * SECOND));
    let sequence = Some(SequenceStep { id: "7".parse().unwrap(), start: true, end: false });
    let step = InferRequest { sequence, ..request("m", 0.0, 30 * SECOND) };
    let answer = fleet.gateway.infer(step).await.unwrap();
    assert_eq!((routed(&answer).0, fleet.take_journal().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_goes_to_one_other_worker_and_the_shortest_wait_is_told() {
    let fleet = Fleet::start(4).await;
    let order = fleet.order_of(1.0).await;
    let full = |seconds| {
        let error = ServiceError::overloaded("the queue is full");
        Answer::Error(error.retry_after(seconds * SECOND))
    };
    let seconds = [3, 7, 1, 1];
    for (worker, seconds) in order.iter().zip(seconds) {
        fleet.worker(worker).answers(full(seconds));
    }
    let started = Instant::now();
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.worth_retrying_after()),
        (ErrorKind::Overloaded, Some(3 * SECOND))
    );
    assert_eq!(error.worker(), Some(&order[1]));
    assert_eq!((fleet.take_journal().as_slice(), started.elapsed()), (&order[..2], Duration::ZERO));

    fleet.worker(&order[1]).answers(Answer::Echo);
    assert_eq!(fleet.served_by(1.0).await, order[1]);
}

/// A worker that is slow is better than none, and so is one that might answer.
#[tokio::test(start_paused = true)]
async fn a_try_is_given_up_only_for_another_one() {
    let fleet = Fleet::start_with(2, unbounded()).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[1]).dies();
    pass(SECOND).await;
    fleet.worker(&order[0]).answers(Answer::After(25 * SECOND));
    fleet.take_journal();
    assert_eq!(fleet.served_by(1.0).await, order[0]);
    assert_eq!(fleet.take_journal(), order[..1]);
    assert_eq!(fleet.endpoint(&order[0]).await.failures, 0);
}

/// The time of a request is divided among those who could answer it; a try that got less than a
/// worker may take has not failed.
#[tokio::test(start_paused = true)]
async fn a_short_deadline_leaves_time_for_another_worker() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Never);
    let started = Instant::now();
    let answer = fleet.gateway.infer(request("m", 1.0, 6 * SECOND)).await.unwrap();
    assert_eq!(answer.served.worker, order[1]);
    assert!(about(started.elapsed(), 2 * SECOND), "{:?}", started.elapsed());
    let hung = fleet.endpoint(&order[0]).await;
    assert_eq!((hung.failures, hung.in_flight, hung.breaker.failures), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_waits_for_budget_no_longer_than_it_must() {
    let fleet = Fleet::start_with(2, {
        let mut config = without_breakers();
        config.retry.budget = 0.0;
        config.retry.in_flight_min = 0;
        config
    })
    .await;
    let order = fleet.order_of(1.0).await;
    let first: &WorkerId = &order[0];
    fleet.worker(first).answers(Answer::Error(ServiceError::failed("a fault")));
    let started = Instant::now();
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!(error.to_string(), "a fault");
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!(fleet.status().await.tries.budget_exhausted, 1);

    // What was not sent costs no budget.
    fleet.worker(first).dies();
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    assert_eq!(fleet.status().await.tries.retries, 0);
}
