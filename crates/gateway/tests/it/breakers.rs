//! Whose fault an error is, and what follows from it.

use inferring_types::{Blame, BreakerState, ErrorKind, ServiceError};

use crate::fixture::{Answer, Fleet, SECOND, pass};

#[tokio::test(start_paused = true)]
async fn errors_that_are_no_workers_fault_are_answered_and_count_against_nobody() {
    let too_large = ServiceError::new(ErrorKind::TooLarge, Blame::Client, "too large");
    let cases = [
        (ServiceError::invalid("a client's mistake"), 1),
        (too_large, 1),
        (ServiceError::deadline_exceeded("too late"), 1),
        // Another worker may have the model, or room.
        (ServiceError::not_found("no such model"), 3),
        (ServiceError::overloaded("the queue is full"), 3),
        (ServiceError::unavailable("draining"), 3),
    ];
    for (error, asked) in cases {
        let fleet = Fleet::start(3).await;
        fleet.all_answer(&Answer::Error(error.clone()));
        for _ in 0..100 {
            let answer = fleet.ask(1.0).await.unwrap_err();
            assert_eq!(answer.to_string(), error.to_string());
            assert_eq!(fleet.take_journal().len(), asked, "{error}");
        }
        for worker in fleet.status().await.workers {
            assert_eq!(worker.breaker.state, BreakerState::Closed, "{error}");
            assert_eq!((worker.breaker.failures, worker.failures), (0, 0), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn five_faults_open_the_breaker_and_the_worker_is_passed_over() {
    for fault in [ServiceError::failed("a fault"), ServiceError::unreachable("broke off")] {
        let fleet = Fleet::start(3).await;
        let order = fleet.order_of(1.0).await;
        fleet.worker(&order[0]).answers(Answer::Error(fault));
        for fault in 1..=5 {
            assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Closed);
            assert_eq!(fleet.served_by(1.0).await, order[1]);
            assert_eq!(fleet.take_journal(), order[..2]);
            assert_eq!(fleet.endpoint(&order[0]).await.failures, fault);
        }
        assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Open);
        assert_eq!(fleet.served_by(1.0).await, order[1]);
        assert_eq!(fleet.take_journal(), [order[1].clone()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_between_faults_forgives() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    for _ in 0..3 {
        fleet.worker(&order[0]).answers(Answer::Error(ServiceError::failed("a fault")));
        for _ in 0..4 {
            fleet.ask(1.0).await.unwrap();
        }
        fleet.worker(&order[0]).answers(Answer::Echo);
        assert_eq!(fleet.served_by(1.0).await, order[0]);
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_gone_serves_again_within_one_probe() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.dies();
    for _ in 0..5 {
        fleet.ask(1.0).await.unwrap();
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Open);
    pass(3 * SECOND).await;
    worker.recovers();
    assert_eq!(fleet.served_by(1.0).await, order[1], "no probe has seen it yet");
    pass(SECOND).await;
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::HalfOpen);
    for _ in 0..2 {
        assert_eq!(fleet.served_by(1.0).await, order[0]);
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_while_it_answers_probes_keeps_its_time_out() {
    for fault in [Answer::Error(ServiceError::failed("a fault")), Answer::Never] {
        let fleet = Fleet::start(2).await;
        let order = fleet.order_of(1.0).await;
        let worker = fleet.worker(&order[0]);
        worker.answers(fault);
        for _ in 0..5 {
            assert_eq!(fleet.served_by(1.0).await, order[1]);
        }
        worker.recovers();
        fleet.take_journal();
        for _ in 0..29 {
            assert_eq!(fleet.served_by(1.0).await, order[1]);
            pass(SECOND).await;
        }
        assert_eq!(fleet.take_journal(), vec![order[1].clone(); 29]);
        pass(SECOND).await;
        assert_eq!(fleet.served_by(1.0).await, order[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_process_is_tried_at_once_whatever_the_old_one_did() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.answers(Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..5 {
        fleet.ask(1.0).await.unwrap();
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Open);
    worker.restarts();
    pass(SECOND).await;
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::HalfOpen);
    assert_eq!(fleet.served_by(1.0).await, order[0]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_back_its_place_and_its_trial() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.answers(Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..5 {
        fleet.ask(1.0).await.unwrap();
    }
    pass(30 * SECOND).await;
    worker.answers(Answer::Never);
    let asking = fleet.start_asking(1.0).await;
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 1);
    assert_eq!(fleet.status().await.in_flight, 1);
    assert_eq!(fleet.served_by(1.0).await, order[1], "the one trial is taken");
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 0);
    assert_eq!(fleet.status().await.in_flight, 0);
    worker.answers(Answer::Echo);
    assert_eq!(fleet.served_by(1.0).await, order[0], "the trial was given back");
}
