//! Whose fault an error is, and what follows from it.

use std::time::Duration;

use inferring_gateway::{AdmissionSettings, GatewayConfig, LoadBound};
use inferring_types::{
    Blame, BreakerState, BreakerStatus, ErrorKind, InferenceService, OpenedBy, ServiceError,
    WorkerId,
};

use crate::fixture::{Answer, Fleet, SECOND, pass, request};

#[tokio::test(start_paused = true)]
async fn errors_that_are_no_workers_fault_are_answered_and_count_against_nobody() {
    let too_large = ServiceError::new(ErrorKind::TooLarge, Blame::Client, "too large");
    let cases = [
        (ServiceError::invalid("a client's mistake"), 1),
        (too_large, 1),
        (ServiceError::deadline_exceeded("too late"), 1),
        // Another worker may have the model.
        (ServiceError::not_found("no such model"), 3),
        // One other may have room.
        (ServiceError::overloaded("the queue is full"), 2),
        (ServiceError::unavailable("draining"), 3),
    ];
    for (error, asked) in cases {
        let fleet = Fleet::start_with(3, breakers_alone()).await;
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
        let left = fleet.endpoint(&order[0]).await.breaker.trial_in.unwrap();
        let seconds = left.as_secs() as usize;
        assert!(seconds >= 29, "{left:?}");
        for _ in 0..seconds {
            assert_eq!(fleet.served_by(1.0).await, order[1]);
            pass(SECOND).await;
        }
        assert_eq!(fleet.take_journal(), vec![order[1].clone(); seconds]);
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
    fleet.wait_for_trial(&order[0]).await;
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

/// Every request at its key's own worker first, and none hedged.
fn breakers_alone() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.load.bound = LoadBound::try_from(1e9).unwrap();
    config.hedge.enabled = false;
    config.hot_keys.replicas_max = 1;
    config.admission = AdmissionSettings { limit_min: 100_000, ..AdmissionSettings::default() };
    config.retry.reserve_per_second = 100_000;
    config
}

/// Two workers, and the order in which content 1 belongs to them; the breaker of the first is
/// open.
async fn opened(config: GatewayConfig) -> (Fleet, Vec<WorkerId>) {
    let fleet = Fleet::start_with(2, config).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..5 {
        fleet.ask(1.0).await.unwrap();
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Open);
    fleet.worker(&order[0]).recovers();
    fleet.take_journal();
    (fleet, order)
}

#[tokio::test(start_paused = true)]
async fn fault_10_ten_thousand_malformed_inputs_are_400s_and_move_no_breaker() {
    let fleet = Fleet::start_with(3, breakers_alone()).await;
    fleet.all_answer(&Answer::Error(ServiceError::invalid("the model cannot take this")));
    for content in 0..5_000u16 {
        // Refused by the worker, and by the gateway before any worker is asked.
        let error = fleet.ask(content.into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let mut nameless = request("m", content.into(), SECOND);
        nameless.inputs.clear();
        let error = fleet.gateway.infer(nameless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        if content % 500 == 0 {
            pass(SECOND).await;
        }
    }
    assert_eq!(fleet.take_journal().len(), 5_000);
    for worker in fleet.status().await.workers {
        assert_eq!(worker.breaker, BreakerStatus::CLOSED);
        assert_eq!((worker.failures, worker.ejections), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn fault_12_of_a_thousand_requests_at_half_open_exactly_the_trials_reach_the_worker() {
    for trials in [1, 3] {
        let mut config = breakers_alone();
        config.breaker.trial_permits = trials;
        let (fleet, order) = opened(config).await;
        fleet.wait_for_trial(&order[0]).await;
        fleet.worker(&order[0]).answers(Answer::After(SECOND));
        let mut asking = Vec::new();
        for _ in 0..1000 {
            asking.push(fleet.start_asking(1.0).await);
        }
        let asked = fleet.take_journal();
        assert_eq!(asked.len(), 1000);
        let reached = asked.iter().filter(|worker| **worker == order[0]).count();
        assert_eq!(reached, trials as usize);
        for asking in asking {
            asking.await.unwrap().0.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_13_a_trial_that_hangs_ends_and_another_one_follows() {
    let (fleet, order) = opened(breakers_alone()).await;
    fleet.wait_for_trial(&order[0]).await;
    fleet.worker(&order[0]).answers(Answer::Never);
    assert_eq!(fleet.served_by(1.0).await, order[1], "given up after its time");
    let status = fleet.endpoint(&order[0]).await.breaker;
    assert_eq!((status.state, status.opened_by), (BreakerState::Open, Some(OpenedBy::Trial)));
    fleet.wait_for_trial(&order[0]).await;
    fleet.worker(&order[0]).answers(Answer::Echo);
    for _ in 0..2 {
        assert_eq!(fleet.served_by(1.0).await, order[0]);
    }
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn fault_14_a_stragglers_result_from_before_the_opening_is_ignored() {
    let late = Duration::from_secs(5);
    for straggle in
        [Answer::After(late), Answer::ErrorAfter(late, ServiceError::failed("a late fault"))]
    {
        let fleet = Fleet::start_with(2, breakers_alone()).await;
        let order = fleet.order_of(1.0).await;
        let worker = fleet.worker(&order[0]);
        worker.answers(straggle.clone());
        let to_open = fleet.start_asking(1.0).await;
        pass(2 * SECOND).await;
        let to_half_open = fleet.start_asking(1.0).await;
        worker.dies();
        for _ in 0..5 {
            assert_eq!(fleet.served_by(1.0).await, order[1]);
        }
        let before = fleet.endpoint(&order[0]).await.breaker;
        assert_eq!(before.state, BreakerState::Open);
        to_open.await.unwrap().0.unwrap();
        let after = fleet.endpoint(&order[0]).await.breaker;
        assert_eq!((after.state, after.failures), (before.state, before.failures));

        worker.recovers();
        // A probe finds it back, before the second straggler ends.
        pass(SECOND * 6 / 5).await;
        assert_eq!(fleet.served_by(1.0).await, order[0], "a trial");
        let before = fleet.endpoint(&order[0]).await.breaker;
        assert_eq!((before.state, before.successes), (BreakerState::HalfOpen, 1));
        to_half_open.await.unwrap().0.unwrap();
        assert_eq!(fleet.endpoint(&order[0]).await.breaker, before);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_18_a_worker_that_flaps_is_asked_ever_more_rarely_and_no_client_notices() {
    let fleet = Fleet::start_with(2, breakers_alone()).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    let mut openings = Vec::new();
    let mut was_open = false;
    for second in 0..1800u32 {
        // Well while it is tried, and ill as soon as it is trusted.
        let breaker = fleet.breaker(&order[0]).await;
        worker.answers(match breaker {
            BreakerState::Closed => Answer::Error(ServiceError::failed("a fault")),
            BreakerState::Open | BreakerState::HalfOpen => Answer::Echo,
        });
        for _ in 0..10 {
            fleet.ask(1.0).await.unwrap();
        }
        let is_open = fleet.breaker(&order[0]).await == BreakerState::Open;
        if is_open && !was_open {
            openings.push(second);
        }
        was_open = is_open;
        pass(SECOND).await;
    }
    // 30, 60, 120, 240 and then 300 seconds, up to a fifth more: in half an hour 9 times at most,
    // where a fixed time-out would give 50 times.
    let pauses: Vec<_> = openings.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((7..=9).contains(&openings.len()), "{openings:?}");
    assert!(
        // To the second in which it was seen.
        pauses[0] <= 37 && pauses[3] >= 239 && pauses[4..].iter().all(|pause| *pause >= 299),
        "{pauses:?}"
    );
    let failures = fleet.endpoint(&order[0]).await.failures;
    assert_eq!(failures, 5 * openings.len() as u64);
}
