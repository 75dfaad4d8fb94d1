//! Equal requests at once are asked of one worker, however many they are.

use std::collections::HashMap;
use std::time::Duration;

use inferring_gateway::GatewayConfig;
use inferring_types::{
    InferResponse, InferenceService, RouteReason, ServiceError, WorkerId, WorkerLoad,
};

use crate::fixture::{Answer, Asking, Fleet, Presence, SECOND, pass, request};

const MANY: usize = 1000;
const MS: Duration = Duration::from_millis(1);

fn without_hedges() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.hedge.enabled = false;
    // All of them are let in.
    config.admission.limit_min = 10_000;
    config
}

async fn fleet() -> (Fleet, Vec<WorkerId>) {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    let order = fleet.order_of(1.0).await;
    (fleet, order)
}

/// The same question so many times at once.
async fn ask_at_once(fleet: &Fleet, count: usize) -> Vec<Asking> {
    let mut asking = Vec::new();
    for _ in 0..count {
        asking.push(fleet.start_asking(1.0).await);
    }
    asking
}

async fn answers(asking: Vec<Asking>) -> Vec<InferResponse> {
    let mut answers = Vec::new();
    for task in asking {
        answers.push(task.await.unwrap().0.unwrap());
    }
    answers
}

/// How many were answered by whom, and why.
fn count(answers: &[InferResponse]) -> HashMap<(WorkerId, RouteReason), usize> {
    let mut counts = HashMap::new();
    for answer in answers {
        let reason = answer.routed.unwrap().reason;
        *counts.entry((answer.served.worker.clone(), reason)).or_default() += 1;
    }
    counts
}

async fn asked(fleet: &Fleet) -> (WorkerId, RouteReason) {
    let response = fleet.ask(1.0).await.unwrap();
    (response.served.worker, response.routed.unwrap().reason)
}

#[tokio::test(start_paused = true)]
async fn fault_26_a_thousand_equal_requests_at_once_are_asked_of_one_worker() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::After(SECOND));
    let asking = ask_at_once(&fleet, MANY).await;
    let worker = fleet.endpoint(&order[0]).await;
    assert_eq!((worker.in_flight, worker.allotment.taken), (MANY as u64, 1));
    let counts = count(&answers(asking).await);
    let expected = [
        ((order[0].clone(), RouteReason::Primary), 1),
        ((order[0].clone(), RouteReason::Flight), MANY - 1),
    ];
    assert_eq!(counts, HashMap::from(expected));
    let worker = fleet.endpoint(&order[0]).await;
    assert_eq!((worker.in_flight, worker.allotment.taken), (0, 0));
}

/// What waits for the run of another request leaves room for what does not.
#[tokio::test(start_paused = true)]
async fn who_goes_along_takes_no_room_from_others() {
    let (fleet, order) = fleet().await;
    let others = fleet.of_one_order(1.0, 5).await;
    fleet.all_answer(&Answer::After(SECOND));
    let asking = ask_at_once(&fleet, MANY).await;
    let mut at_home = 0;
    let mut asking_others = Vec::new();
    for &content in &others[1..] {
        asking_others.push(fleet.start_asking(content).await);
    }
    for answer in answers(asking_others).await {
        at_home += usize::from(answer.served.worker == order[0]);
    }
    // As if the thousand were one: bounds of 1, 1, 2, 2 and 3, as one after the other comes.
    assert_eq!(at_home, 2);
    answers(asking).await;
}

#[tokio::test(start_paused = true)]
async fn fault_26_when_the_worker_dies_they_go_to_one_other_together() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::After(SECOND));
    let before = fleet.status().await;
    let asking = ask_at_once(&fleet, MANY).await;
    pass(100 * MS).await;
    fleet.take_journal();
    fleet.worker(&order[0]).is_killed();
    let counts = count(&answers(asking).await);
    assert_eq!(counts, HashMap::from([((order[1].clone(), RouteReason::Retry), MANY)]));
    assert!(fleet.take_journal().iter().all(|asked| *asked == order[1]));
    let status = fleet.status().await;
    // One of them needed leave: the others cost nothing.
    assert_eq!(status.errors, before.errors);
    let tries = (status.failovers - before.failovers, status.tries.retries);
    assert_eq!(tries, (MANY as u64, 1));
}

/// Both of a thousand's workers die under them.
#[tokio::test(start_paused = true)]
async fn fault_26_when_the_next_one_dies_too_they_go_on_together() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::After(SECOND));
    let asking = ask_at_once(&fleet, MANY).await;
    for worker in &order[..2] {
        pass(100 * MS).await;
        fleet.worker(worker).is_killed();
    }
    let counts = count(&answers(asking).await);
    assert_eq!(counts, HashMap::from([((order[2].clone(), RouteReason::Retry), MANY)]));
    assert_eq!(fleet.status().await.tries.retries, 2);
}

#[tokio::test(start_paused = true)]
async fn that_the_first_ones_client_leaves_ends_nothing_for_the_others() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::After(SECOND));
    let mut asking = ask_at_once(&fleet, 3).await;
    asking.remove(0).abort();
    pass(100 * MS).await;
    asking.extend(ask_at_once(&fleet, 10).await);
    let counts = count(&answers(asking).await);
    assert_eq!(counts, HashMap::from([((order[0].clone(), RouteReason::Flight), 12)]));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_left_the_next_one_is_like_the_first() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::Never);
    for asking in ask_at_once(&fleet, 3).await {
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
    }
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 0);
    fleet.all_answer(&Answer::Echo);
    assert_eq!(asked(&fleet).await, (order[0].clone(), RouteReason::Primary));
}

/// From the first answer on they are work like any other: nobody goes along with them, though the
/// others are still under way.
#[tokio::test(start_paused = true)]
async fn with_the_first_answer_bounds_hold_again() {
    let (fleet, order) = fleet().await;
    fleet.all_answer(&Answer::After(SECOND));
    let first = ask_at_once(&fleet, 1).await;
    pass(500 * MS).await;
    let others = ask_at_once(&fleet, 20).await;
    answers(first).await;
    let later = ask_at_once(&fleet, 5).await;
    let counts = count(&answers(later).await);
    // Bounds of 1, 1, 2, 2 and 3, as one after the other comes.
    let expected = [
        ((order[0].clone(), RouteReason::Primary), 3),
        ((order[1].clone(), RouteReason::Bound), 2),
    ];
    assert_eq!(counts, HashMap::from(expected));
    answers(others).await;

    // What nobody has asked for a while may be forgotten.
    pass(2 * SECOND).await;
    let counts = count(&answers(ask_at_once(&fleet, 5).await).await);
    assert_eq!(counts[&(order[0].clone(), RouteReason::Flight)], 4);
}

/// Who shares a run shares its error, and is tried again with the others. Those who come then are
/// not asked of the worker that has failed them just because some of them still are.
#[tokio::test(start_paused = true)]
async fn an_error_ends_it_like_an_answer() {
    let (fleet, order) = fleet().await;
    let broken = ServiceError::failed("a fault").retryable();
    fleet.worker(&order[0]).answers(Answer::ErrorAfter(100 * MS, broken));
    fleet.worker(&order[1]).answers(Answer::After(SECOND));
    let first = ask_at_once(&fleet, 1).await;
    pass(50 * MS).await;
    let others = ask_at_once(&fleet, 3).await;
    pass(100 * MS).await;
    // The first one is at the second worker by now, and the others follow.
    let late = ask_at_once(&fleet, 1).await;
    let reasons = count(&answers(late).await);
    assert_eq!(reasons, HashMap::from([((order[1].clone(), RouteReason::Flight), 1)]));
    for asking in [first, others] {
        for answer in answers(asking).await {
            assert_eq!(answer.served.worker, order[1]);
        }
    }
    assert_eq!(fleet.status().await.tries.retries, 1);
}

/// A worker that is not to be asked is not gone along to.
#[tokio::test(start_paused = true)]
async fn nobody_goes_along_to_a_worker_that_gets_no_requests() {
    for presence in [Presence::Refusing, Presence::Draining] {
        let (fleet, order) = fleet().await;
        fleet.worker(&order[0]).answers(Answer::After(10 * SECOND));
        fleet.worker(&order[1]).answers(Answer::After(SECOND));
        let first = ask_at_once(&fleet, 1).await;
        fleet.worker(&order[0]).is(presence);
        pass(SECOND).await;
        let counts = count(&answers(ask_at_once(&fleet, 10).await).await);
        let expected = [
            ((order[1].clone(), RouteReason::Unreachable), 1),
            ((order[1].clone(), RouteReason::Flight), 9),
        ];
        assert_eq!(counts, HashMap::from(expected));
        assert_eq!(answers(first).await[0].served.worker, order[0], "it finishes what it has");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_along_where_the_answer_would_be_late() {
    let (fleet, order) = fleet().await;
    fleet.worker(&order[0]).tells(WorkerLoad { wait: 5 * SECOND, run: SECOND });
    fleet.ask(1.0).await.unwrap();
    pass(500 * MS).await;
    // It is no news a second after the answer that told it, and the key is answered as long.
    fleet.worker(&order[0]).answers(Answer::After(5 * SECOND));
    let other = fleet.of_one_order(1.0, 2).await[1];
    fleet.worker(&order[0]).answers(Answer::Echo);
    fleet.ask(other).await.unwrap();
    pass(700 * MS).await;
    fleet.worker(&order[0]).answers(Answer::After(5 * SECOND));
    let first = ask_at_once(&fleet, 1).await;
    let hasty = fleet.gateway.infer(request("m", 1.0, 2 * SECOND)).await.unwrap();
    let reason = hasty.routed.unwrap().reason;
    assert_eq!((hasty.served.worker, reason), (order[1].clone(), RouteReason::Backlog));
    assert_eq!(answers(first).await[0].served.worker, order[0]);
}

/// A worker that has nothing else to do gets no more than one of equal requests as a trial.
#[tokio::test(start_paused = true)]
async fn nobody_goes_along_with_a_breakers_trial() {
    let (fleet, order) = fleet().await;
    fleet.worker(&order[0]).answers(Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..5 {
        fleet.ask(1.0).await.unwrap();
    }
    fleet.wait_for_trial(&order[0]).await;
    fleet.all_answer(&Answer::After(SECOND));
    let counts = count(&answers(ask_at_once(&fleet, 10).await).await);
    let expected = [
        ((order[0].clone(), RouteReason::Primary), 1),
        ((order[1].clone(), RouteReason::Breaker), 1),
        ((order[1].clone(), RouteReason::Flight), 8),
    ];
    assert_eq!(counts, HashMap::from(expected));
}
