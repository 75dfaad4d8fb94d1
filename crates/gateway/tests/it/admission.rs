//! How much a gateway lets in.

use std::num::NonZeroU32;
use std::time::Duration;

use inferring_gateway::{AdmissionSettings, GatewayConfig};
use inferring_types::{
    Announced, Blame, Deadline, ErrorKind, InferRequest, InferenceService, ModelSelector,
    StatusSource,
};
use tokio::time::Instant;

use crate::fixture::{Answer, Fleet, SECOND, request};

async fn fleet_with_limit(limit: u64) -> Fleet {
    let admission = AdmissionSettings {
        limit_min: limit,
        limit_start: limit,
        limit_max: limit,
        ..AdmissionSettings::default()
    };
    Fleet::start_with(3, GatewayConfig { admission, ..GatewayConfig::default() }).await
}

#[tokio::test(start_paused = true)]
async fn fault_22_what_is_beyond_the_limit_is_refused_at_once_and_reaches_no_worker() {
    let fleet = fleet_with_limit(100).await;
    fleet.all_answer(&Answer::After(SECOND));
    let mut asking = Vec::new();
    for content in 0..500u16 {
        asking.push(fleet.start_asking(content.into()).await);
    }
    let started = Instant::now();
    let (mut answered, mut refused) = (0, 0);
    for task in asking {
        let (result, at) = task.await.unwrap();
        match result {
            Ok(_) => answered += 1,
            Err(error) => {
                refused += 1;
                assert_eq!((error.kind(), error.blame()), (ErrorKind::Overloaded, Blame::Server));
                assert_eq!(error.worth_retrying_after(), Some(SECOND));
                assert!(at <= started, "{:?}", at - started);
            }
        }
    }
    assert_eq!((answered, refused, fleet.take_journal().len()), (100, 400, 100));
    let status = fleet.status().await;
    assert_eq!((status.requests, status.errors, status.in_flight), (500, 400, 0));
    assert_eq!((status.admission.refused, status.admission.limit), (400, 100));
    // There is room again.
    fleet.ask(1.0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_urgent_are_let_in_longer_and_questions_that_run_nothing_always() {
    let fleet = fleet_with_limit(20).await;
    fleet.all_answer(&Answer::Never);
    let of = |priority| InferRequest {
        priority: NonZeroU32::new(priority),
        ..request("m", 1.0, 30 * SECOND)
    };
    let mut let_in = Vec::new();
    for (priority, bound) in [(3, 15), (2, 20), (1, 25)] {
        loop {
            let (gateway, request) = (fleet.gateway.clone(), of(priority));
            let task = tokio::spawn(async move { gateway.infer(request).await });
            tokio::task::yield_now().await;
            if task.is_finished() {
                let error = task.await.unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Overloaded);
                break;
            }
            let_in.push(task);
        }
        assert_eq!(let_in.len(), bound, "priority {priority}");
    }
    assert!(fleet.gateway.model(ModelSelector::new("m", None)).is_ok());
    assert!(fleet.gateway.is_ready(None));
    assert!(fleet.gateway.status().await.is_ok());
    let_in.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The default lets all of them in, however long they take: as many connections as one is likely
/// to open to a healthy fleet.
#[tokio::test(start_paused = true)]
async fn a_healthy_fleet_refuses_nobody_at_512_connections() {
    for (connections, time) in [(64, 1), (512, 1), (512, 100), (512, 3000)] {
        let fleet = Fleet::start(3).await;
        fleet.all_answer(&Answer::Queued(Duration::from_millis(time)));
        let client = |number: u16| {
            let gateway = fleet.gateway.clone();
            tokio::spawn(async move {
                for round in 0..5u16 {
                    let content = f32::from(number) + 1000.0 * f32::from(round);
                    gateway.infer(request("m", content, 30 * SECOND)).await.unwrap();
                }
            })
        };
        let clients: Vec<_> = (0..connections).map(client).collect();
        for client in clients {
            client.await.unwrap();
        }
        let status = fleet.status().await;
        assert_eq!((status.errors, status.admission.refused), (0, 0));
        assert_eq!(status.requests, 5 * u64::from(connections));
    }
}

#[tokio::test(start_paused = true)]
async fn fault_22_a_head_is_refused_where_its_request_would_be() {
    let fleet = fleet_with_limit(20).await;
    fleet.all_answer(&Answer::Never);
    let announced = |model| Announced {
        model: ModelSelector::named(model),
        body_bytes: Some(1 << 20),
        tensor_bytes: None,
        deadline: Deadline::after(Instant::now().into_std(), SECOND),
    };
    let error = fleet.gateway.anticipate(&announced("stranger")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let begin = |priority| {
        let gateway = fleet.gateway.clone();
        let priority = NonZeroU32::new(priority);
        let request = InferRequest { priority, ..request("m", 1.0, 30 * SECOND) };
        tokio::spawn(async move { gateway.infer(request).await })
    };
    let mut let_in = Vec::new();
    for _ in 0..20 {
        assert!(fleet.gateway.anticipate(&announced("m")).is_ok());
        let_in.push(begin(2));
        tokio::task::yield_now().await;
    }
    let before = fleet.status().await;
    let error = fleet.gateway.anticipate(&announced("m")).unwrap_err();
    let whole = begin(2).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), whole.to_string());
    assert_eq!((error.kind(), error.worth_retrying_after()), (whole.kind(), Some(SECOND)));
    let after = fleet.status().await;
    assert_eq!((after.requests - before.requests, after.errors - before.errors), (2, 2));
    assert_eq!((after.admission.refused - before.admission.refused, after.in_flight), (2, 20));
    // Where an urgent one came, a head may be another one's; after a while that is forgotten.
    let_in.push(begin(1));
    tokio::task::yield_now().await;
    assert!(fleet.gateway.anticipate(&announced("m")).is_ok());
    tokio::time::advance(11 * SECOND).await;
    assert!(fleet.gateway.anticipate(&announced("m")).is_err());
    let_in.iter().for_each(tokio::task::JoinHandle::abort);
}
