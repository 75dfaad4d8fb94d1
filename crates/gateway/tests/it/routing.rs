//! Where requests go.

use std::collections::HashMap;

use inferring_types::{Blame, ErrorKind, InferenceService, ServiceError, WorkerId};

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass, request};

#[tokio::test(start_paused = true)]
async fn equal_content_meets_at_one_worker_and_different_content_spreads() {
    let fleet = Fleet::start(5).await;
    let mut served = HashMap::<WorkerId, u32>::new();
    for content in 0..200u16 {
        let worker = fleet.served_by(content.into()).await;
        for _ in 0..3 {
            assert_eq!(fleet.served_by(content.into()).await, worker, "content {content}");
        }
        *served.entry(worker).or_default() += 1;
    }
    assert_eq!(served.len(), 5);
    assert!(served.values().all(|&count| (15..=80).contains(&count)), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn gateways_that_learnt_of_workers_in_another_order_route_alike() {
    let fleet = Fleet::start(6).await;
    for by in 1..6 {
        let peer = fleet.rotated(by).await;
        for content in 0..50u16 {
            let order = fleet.order_of(content.into()).await;
            assert_eq!(order.len(), 6);
            assert_eq!(peer.order_of(content.into()).await, order, "content {content}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failover_follows_the_keys_own_order_and_asks_each_worker_at_most_once() {
    let mut seconds = HashMap::<WorkerId, Vec<WorkerId>>::new();
    for content in 0..30u16 {
        let fleet = Fleet::start(4).await;
        let order = fleet.order_of(content.into()).await;
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, fleet.workers.iter().map(|w| w.id()).collect::<Vec<_>>());
        for failing in 0..4usize {
            if let Some(index) = failing.checked_sub(1) {
                let error = ServiceError::failed(format!("fault of {}", order[index]));
                fleet.worker(&order[index]).answers(Answer::Error(error));
            }
            assert_eq!(fleet.served_by(content.into()).await, order[failing]);
            assert_eq!(fleet.take_journal(), order[..=failing]);
        }
        fleet.worker(&order[3]).answers(Answer::Error(ServiceError::failed("the last fault")));
        let error = fleet.ask(content.into()).await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            ("the last fault", ErrorKind::Internal)
        );
        assert_eq!(fleet.take_journal(), order);
        seconds.entry(order[0].clone()).or_default().push(order[1].clone());
    }
    // What one worker sheds does not fall on one neighbour.
    let spreads = |heirs: &Vec<WorkerId>| heirs.iter().any(|heir| *heir != heirs[0]);
    assert!(seconds.values().any(spreads), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_one_worker_knows_is_routed_to_it() {
    let fleet = Fleet::start(3).await;
    let only = &fleet.workers[1];
    only.serves(&["m", "rare"]);
    let unknown = fleet.gateway.infer(request("rare", 1.0, SECOND)).await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.blame()), (ErrorKind::NotFound, Blame::Client));
    pass(SECOND).await;
    fleet.take_journal();
    for content in 0..30u16 {
        let rare = request("rare", content.into(), SECOND);
        assert_eq!(fleet.gateway.infer(rare).await.unwrap().served.worker, only.id());
    }
    assert_eq!(fleet.take_journal(), vec![only.id(); 30]);

    // The others are well: that must not be told of as an open breaker.
    only.is(Presence::Refusing);
    pass(SECOND).await;
    let error = fleet.gateway.infer(request("rare", 1.0, SECOND)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no worker can be asked (worker_1: it does not serve this model; worker_2: connection \
         refused; worker_3: it does not serve this model)",
    );
}

#[tokio::test(start_paused = true)]
async fn the_figures_add_up() {
    let fleet = Fleet::start(3).await;
    let failing = fleet.workers[0].id();
    fleet.worker(&failing).answers(Answer::Error(ServiceError::failed("a fault")));
    for content in 0..60u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    fleet.all_answer(&Answer::Error(ServiceError::invalid("a client's mistake")));
    for content in 0..7u16 {
        fleet.ask(content.into()).await.unwrap_err();
    }
    let asked = fleet.take_journal();
    let status = fleet.status().await;
    assert_eq!((status.requests, status.errors, status.in_flight), (67, 7, 0));
    assert_eq!(status.failovers, 5, "five faults open the breaker, and each led on");
    assert_eq!(status.requests + status.failovers, asked.len() as u64);
    for worker in &status.workers {
        let tries = asked.iter().filter(|id| **id == worker.id).count() as u64;
        assert_eq!((worker.requests, worker.in_flight), (tries, 0), "{}", worker.id);
        assert_eq!(worker.failures, if worker.id == failing { 5 } else { 0 });
        assert!((worker.share - tries as f64 / asked.len() as f64).abs() < 1e-9);
    }
    assert!((status.workers.iter().map(|worker| worker.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(status.ready);
}

/// A thread that requests come on is also one of those workers that are in the same process.
#[tokio::test(start_paused = true)]
async fn workers_attend_to_the_threads_of_their_gateway() {
    let fleet = Fleet::start(3).await;
    fleet.all_answer(&Answer::WhenAttended);
    let asked = fleet.start_asking(1.0).await;
    let attending = tokio::spawn(fleet.gateway.attendant().unwrap());
    let (answer, at) = asked.await.unwrap();
    answer.unwrap();
    assert_eq!(at, tokio::time::Instant::now(), "nobody had to wait");
    attending.abort();
}
