//! Workers that do far worse than the others, and fleets of which most are not well.

use std::time::Duration;

use inferring_gateway::{AdmissionSettings, GatewayConfig, LoadBound};
use inferring_types::{
    BreakerState, EjectionReason, InferenceService, RouteReason, ServiceError, WorkerId,
};

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass, request};

const MS: Duration = Duration::from_millis(1);

/// Every request at its key's own worker, and none hedged: what is left is what ejection does.
fn ejection_alone() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.load.bound = LoadBound::try_from(1e9).unwrap();
    config.hedge.enabled = false;
    config.hot_keys.replicas_max = 1;
    config.admission = AdmissionSettings { limit_min: 100_000, ..AdmissionSettings::default() };
    config
}

/// Asks for this many contents, this many each second.
async fn ask(fleet: &Fleet, requests: u16, each_second: u32) -> Vec<bool> {
    let mut asking = Vec::new();
    for content in 0..requests {
        asking.push(fleet.start_asking(content.into()).await);
        tokio::time::sleep(SECOND / each_second).await;
    }
    let mut answered = Vec::new();
    for asking in asking {
        answered.push(asking.await.unwrap().0.is_ok());
    }
    answered
}

async fn ejected(fleet: &Fleet) -> Vec<(WorkerId, EjectionReason)> {
    let workers = fleet.status().await.workers.into_iter();
    workers.filter_map(|worker| Some((worker.id, worker.ejected?.reason))).collect()
}

#[tokio::test(start_paused = true)]
async fn fault_08_a_worker_100_times_slower_is_left_alone_and_the_others_answer_for_it() {
    let fleet = Fleet::start_with(3, ejection_alone()).await;
    fleet.all_answer(&Answer::After(10 * MS));
    let slow = fleet.workers[1].clone();
    slow.answers(Answer::After(SECOND));
    assert!(ask(&fleet, 300, 50).await.into_iter().all(|is_ok| is_ok));
    let seen = ejected(&fleet).await;
    assert!(
        matches!(&seen[..], [(id, EjectionReason::Slow { factor })]
            if *id == slow.id() && (90.0..110.0).contains(factor)),
        "{seen:?}",
    );
    fleet.take_journal();
    // Of the same names, and so with the same keys for each.
    let twin = Fleet::start(3).await;
    for content in 0..300u16 {
        let asked_at = tokio::time::Instant::now();
        let answer = fleet.ask(content.into()).await.unwrap();
        assert!(asked_at.elapsed() <= 20 * MS);
        assert_ne!(answer.served.worker, slow.id());
        let reason = match twin.served_by(content.into()).await == slow.id() {
            true => RouteReason::Ejected,
            false => RouteReason::Primary,
        };
        assert_eq!(answer.routed.unwrap().reason, reason);
    }
    assert!(!fleet.take_journal().contains(&slow.id()));

    // Its time is over and it does no better: longer, the second time.
    pass(36 * SECOND).await;
    assert_eq!(ejected(&fleet).await, []);
    ask(&fleet, 300, 50).await;
    let again = fleet.endpoint(&slow.id()).await;
    assert!(again.ejected.is_some_and(|it| it.returns_in > 50 * SECOND), "{:?}", again.ejected);
    assert_eq!(again.ejections, 2);

    // It is well again.
    slow.answers(Answer::After(10 * MS));
    pass(72 * SECOND).await;
    ask(&fleet, 300, 50).await;
    assert_eq!(ejected(&fleet).await, []);
    assert!(fleet.take_journal().contains(&slow.id()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_one_of_three_is_left_alone_though_its_breaker_stays_closed() {
    let fleet = Fleet::start_with(3, ejection_alone()).await;
    let ill = fleet.workers[2].clone();
    ill.answers(Answer::OneOf(3, ServiceError::failed("a fault")));
    assert!(ask(&fleet, 300, 50).await.into_iter().all(|is_ok| is_ok), "others answer for it");
    let seen = ejected(&fleet).await;
    assert!(
        matches!(&seen[..], [(id, EjectionReason::Failing { success_rate, typical: 1.0 })]
            if *id == ill.id() && (0.6..0.72).contains(success_rate)),
        "{seen:?}",
    );
    assert_eq!(fleet.breaker(&ill.id()).await, BreakerState::Closed);

    // A new process in its place is asked at once.
    ill.restarts();
    pass(SECOND).await;
    assert_eq!(ejected(&fleet).await, []);
    fleet.take_journal();
    ask(&fleet, 60, 50).await;
    assert!(fleet.take_journal().contains(&ill.id()));
}

#[tokio::test(start_paused = true)]
async fn who_refuses_alone_is_left_alone_and_nobody_is_when_all_do() {
    let full = || Answer::OneOf(2, ServiceError::overloaded("the queue is full"));
    for (refusing, expected) in [(1, 1), (3, 0)] {
        let fleet = Fleet::start_with(3, ejection_alone()).await;
        fleet.workers[..refusing].iter().for_each(|worker| worker.answers(full()));
        for round in 0..6 {
            ask(&fleet, 100, 100).await;
            let opened = fleet.status().await.workers.into_iter();
            let opened = opened.filter(|worker| worker.breaker.state != BreakerState::Closed);
            assert_eq!(opened.count(), 0, "refusals opened a breaker in round {round}");
        }
        assert_eq!(ejected(&fleet).await.len(), expected, "{refusing} refuse");
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_a_queue_is_not_slowness() {
    let fleet = Fleet::start_with(3, ejection_alone()).await;
    fleet.all_answer(&Answer::After(10 * MS));
    fleet.workers[0].answers(Answer::Queued(SECOND));
    ask(&fleet, 600, 50).await;
    assert_eq!(ejected(&fleet).await, []);
}

/// Ten workers, of which `failing` fail until their breakers are open, and one drains.
async fn with_open_breakers(failing: usize) -> Fleet {
    let mut config = ejection_alone();
    config.ejection.share_max = 0.0;
    config.retry.in_flight_min = 1000;
    config.retry.reserve_per_second = 100_000;
    let fleet = Fleet::start_with(10, config).await;
    fleet.workers[9].is(Presence::Draining);
    pass(SECOND).await;
    for worker in &fleet.workers[..failing] {
        worker.answers(Answer::Error(ServiceError::failed("a fault")));
    }
    for content in 0..400u16 {
        let _ = fleet.ask(content.into()).await;
    }
    fleet.all_answer(&Answer::Echo);
    fleet.take_journal();
    fleet
}

#[tokio::test(start_paused = true)]
async fn fault_15_with_60_percent_unhealthy_all_but_the_draining_are_asked() {
    let fleet = with_open_breakers(6).await;
    let status = fleet.status().await;
    let open = |status: &inferring_types::GatewayStatus| {
        let workers = status.workers.iter();
        workers.filter(|worker| worker.breaker.state == BreakerState::Open).count()
    };
    assert!(status.panic, "3 of 9 are healthy");
    assert!(open(&status) >= 5, "{:?}", status.workers);
    let mut reasons = Vec::new();
    for content in 0..300u16 {
        let answer = fleet.gateway.infer(request("m", content.into(), SECOND)).await.unwrap();
        reasons.push(answer.routed.unwrap().reason);
    }
    assert!(reasons.contains(&RouteReason::Panic) && reasons.contains(&RouteReason::Primary));
    let mut asked = fleet.take_journal();
    asked.sort();
    asked.dedup();
    let mut expected: Vec<_> = fleet.workers[..9].iter().map(|worker| worker.id()).collect();
    expected.sort();
    assert_eq!(asked, expected);

    // The breakers heal by their own trials, and the panic ends.
    pass(36 * SECOND).await;
    for content in 0..300u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    let status = fleet.status().await;
    assert_eq!((open(&status), status.panic), (0, false));
}

#[tokio::test(start_paused = true)]
async fn above_the_threshold_breakers_are_kept_to() {
    let fleet = with_open_breakers(4).await;
    assert!(!fleet.status().await.panic, "5 of 9 are healthy");
    for content in 0..300u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    let asked = fleet.take_journal();
    for worker in &fleet.workers[..4] {
        assert!(!asked.contains(&worker.id()));
    }
}

#[tokio::test(start_paused = true)]
async fn panic_sends_nothing_to_where_nobody_is() {
    let fleet = Fleet::start_with(5, ejection_alone()).await;
    for worker in &fleet.workers[..4] {
        worker.is(Presence::Refusing);
    }
    fleet.workers[3].is(Presence::Silent);
    pass(6 * SECOND).await;
    assert!(fleet.status().await.panic);
    for content in 0..100u16 {
        assert_eq!(fleet.served_by(content.into()).await, fleet.workers[4].id());
    }
    assert_eq!(fleet.take_journal(), vec![fleet.workers[4].id(); 100]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_worker_is_asked_whatever_its_breaker_says() {
    let fleet = Fleet::start_with(1, ejection_alone()).await;
    fleet.all_answer(&Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..10 {
        fleet.ask(1.0).await.unwrap_err();
    }
    let id = fleet.workers[0].id();
    assert_eq!(fleet.breaker(&id).await, BreakerState::Open);
    fleet.all_answer(&Answer::After(SECOND));
    let mut asking = Vec::new();
    for content in 0..20u16 {
        asking.push(fleet.start_asking(content.into()).await);
    }
    for asking in asking {
        asking.await.unwrap().0.unwrap();
    }
}
