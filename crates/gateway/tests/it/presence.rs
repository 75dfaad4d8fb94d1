//! Workers that go, come back, and say that they want no more.

use inferring_gateway::GatewayConfig;
use inferring_types::{Blame, BreakerState, ErrorKind};
use tokio::time::Instant;

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass};

#[tokio::test(start_paused = true)]
async fn a_refused_probe_excludes_at_once_and_one_answer_brings_back() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.is(Presence::Refusing);
    pass(SECOND).await;
    let endpoint = fleet.endpoint(&order[0]).await;
    assert!(!endpoint.reachable);
    assert_eq!(endpoint.last_probe_error.as_deref(), Some("connection refused"));
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    worker.recovers();
    pass(SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[0]);
}

#[tokio::test(start_paused = true)]
async fn silence_excludes_after_two_probes() {
    let fleet = Fleet::start(2).await;
    let worker = &fleet.workers[0];
    worker.is(Presence::Silent);
    // Sent after 1 s and again after 3 s; each is waited for during 2 s.
    pass(4 * SECOND).await;
    assert!(fleet.endpoint(&worker.id()).await.reachable);
    pass(SECOND).await;
    assert!(!fleet.endpoint(&worker.id()).await.reachable);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_no_worker_serves_is_unknown_and_not_unavailable_though_it_was_the_last() {
    let fleet = Fleet::start(2).await;
    fleet.ask(1.0).await.unwrap();
    fleet.workers.iter().for_each(|worker| worker.serves(&[]));
    pass(SECOND).await;
    assert_eq!(fleet.ask(1.0).await.unwrap_err().kind(), ErrorKind::NotFound);
    fleet.workers.iter().for_each(|worker| worker.dies());
    pass(SECOND).await;
    assert_eq!(fleet.ask(1.0).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn without_a_worker_the_answer_comes_at_once_and_tells_why() {
    let fleet = Fleet::start(3).await;
    fleet.workers[0].is(Presence::Refusing);
    fleet.workers[1].is(Presence::Draining);
    fleet.workers[2].is(Presence::Silent);
    pass(5 * SECOND).await;
    let asked_at = Instant::now();
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!(asked_at.elapsed().as_millis(), 0);
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Server));
    assert_eq!(
        error.to_string(),
        "no worker can be asked (worker_1: connection refused; worker_2: it is draining; \
         worker_3: it did not answer its health check within 2s)",
    );
    assert!(!fleet.status().await.ready);
    assert_eq!(fleet.take_journal(), []);
}

#[tokio::test(start_paused = true)]
async fn fault_53_a_worker_that_loads_its_models_is_asked_nothing_until_it_has_and_blamed_for_nothing()
 {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    // It was restarted.
    worker.restarts();
    worker.is(Presence::Loading);
    pass(SECOND).await;
    let loading = fleet.endpoint(&order[0]).await;
    assert!(!loading.reachable && !loading.draining);
    assert_eq!(loading.last_probe_error.as_deref(), Some("it is still loading its models"));
    fleet.take_journal();
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    pass(60 * SECOND).await;
    assert_eq!(fleet.take_journal(), [order[1].clone()]);
    let loading = fleet.endpoint(&order[0]).await;
    assert_eq!((loading.failures, loading.ejections), (0, 0));
    assert_eq!(fleet.breaker(&order[0]).await, BreakerState::Closed);
    worker.recovers();
    pass(SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[0]);
}

/// Whoever asks then is to come again, and not to think that there is no such model.
#[tokio::test(start_paused = true)]
async fn a_model_whose_only_worker_loads_anew_is_unavailable_and_not_unknown() {
    let fleet = Fleet::start(1).await;
    fleet.workers[0].restarts();
    fleet.workers[0].is(Presence::Loading);
    pass(SECOND).await;
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = "no worker can be asked (worker_1: it is still loading its models)";
    assert_eq!(error.to_string(), told);
    assert!(!fleet.status().await.ready);
    assert_eq!(fleet.take_journal(), []);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_handed_over_when_their_worker_falls_silent() {
    let mut config = GatewayConfig::default();
    // All of them wait at one worker.
    config.load.bound = 1e6.try_into().unwrap();
    let fleet = Fleet::start_with(3, config).await;
    let order = fleet.order_of(1.0).await;
    let failovers_before = fleet.status().await.failovers;
    let started = Instant::now();
    let worker = fleet.worker(&order[0]);
    worker.answers(Answer::Never);
    let mut asking = Vec::new();
    for _ in 0..10 {
        asking.push(fleet.start_asking(1.0).await);
    }
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 10);
    worker.is(Presence::Silent);
    for task in asking {
        let (result, at) = task.await.unwrap();
        assert_eq!(result.unwrap().served.worker, order[1]);
        // Probed after 1 s and again after 3 s, for 2 s each; an attempt alone may take 10 s.
        assert!(at - started <= 5 * SECOND, "handed over after {:?}", at - started);
    }
    assert_eq!(fleet.status().await.failovers - failovers_before, 10);
    let lost = fleet.endpoint(&order[0]).await;
    assert_eq!((lost.in_flight, lost.failures), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_draining_worker_gets_nothing_new_and_keeps_what_it_has() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.answers(Answer::After(5 * SECOND));
    let asking = fleet.start_asking(1.0).await;
    worker.is(Presence::Draining);
    pass(SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    // It listens no more, and still finishes what it was asked.
    worker.is(Presence::Refusing);
    let (result, _) = asking.await.unwrap();
    assert_eq!(result.unwrap().served.worker, order[0]);
    let drained = fleet.endpoint(&order[0]).await;
    assert_eq!((drained.requests, drained.failures), (2, 0), "one was asked for its order");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_listens_no_more_still_answers_what_it_was_asked() {
    let fleet = Fleet::start(1).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.answers(Answer::After(5 * SECOND));
    let asking = fleet.start_asking(1.0).await;
    // It stops: no probe has come between its order to stop and the end of its listening.
    worker.is(Presence::Refusing);
    let (result, _) = asking.await.unwrap();
    assert_eq!(result.unwrap().served.worker, order[0]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_went_while_another_was_asked_is_not_asked() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Never);
    let asking = fleet.start_asking(1.0).await;
    fleet.worker(&order[1]).dies();
    let (result, _) = asking.await.unwrap();
    assert_eq!(result.unwrap().served.worker, order[2]);
    assert_eq!(fleet.take_journal(), [order[0].clone(), order[2].clone()]);
}

/// Else what is sent until the next probe would go to a worker that has said what it wants.
#[tokio::test(start_paused = true)]
async fn a_worker_that_says_that_it_drains_gets_nothing_new_from_then_on() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    let began = Instant::now();
    worker.is(Presence::Draining);
    worker.says_it_drains();
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    assert_eq!(began.elapsed().as_millis(), 0, "no probe has told");
    // It is asked why at once, and not a second later.
    pass(SECOND / 5).await;
    let drained = fleet.endpoint(&order[0]).await;
    assert_eq!(drained.last_probe_error.as_deref(), Some("it is draining"));
    worker.recovers();
    pass(SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[0]);
}

#[tokio::test(start_paused = true)]
async fn a_health_answer_that_was_on_its_way_does_not_undo_what_a_worker_has_said_since() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    let worker = fleet.worker(&order[0]);
    worker.answers_probes_after(SECOND / 2);
    // Asked after a second, it was well then.
    pass(SECOND + SECOND / 4).await;
    worker.is(Presence::Draining);
    worker.says_it_drains();
    pass(SECOND / 2).await;
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    pass(2 * SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[1]);
    // One that was asked afterwards does.
    worker.recovers();
    pass(2 * SECOND).await;
    assert_eq!(fleet.served_by(1.0).await, order[0]);
}

#[tokio::test(start_paused = true)]
async fn without_another_worker_the_answer_tells_that_the_last_one_drains() {
    let fleet = Fleet::start(1).await;
    fleet.workers[0].says_it_drains();
    let error = fleet.ask(1.0).await.unwrap_err();
    assert_eq!(error.to_string(), "no worker can be asked (worker_1: it says that it drains)",);
    // It is there and was mistaken, or has changed its mind: the next probe tells.
    pass(SECOND).await;
    fleet.ask(1.0).await.unwrap();
}
