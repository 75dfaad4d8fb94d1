//! Tries beside one that takes long: when there is one, what becomes of the slower one, and what a
//! worker that is outrun again and again is taken for.

use std::time::Duration;

use inferring_types::{InferenceService, RouteReason, TryStatus, WorkerId};
use tokio::time::Instant;

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass, request};
use crate::tries::{about, answers, routed, teach, unbounded, unreachable};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn fault_02_a_stopped_worker_is_hedged_where_answers_are_known_and_left_where_not() {
    for is_known in [true, false] {
        let fleet = Fleet::start_with(3, unbounded()).await;
        if is_known {
            teach(&fleet, 20 * MS).await;
        }
        let stopped = &fleet.workers[0];
        stopped.answers(Answer::Never);
        stopped.is(Presence::Silent);
        let started = Instant::now();
        let mut asking = Vec::new();
        for content in 0..60u16 {
            asking.push(fleet.start_asking(content.into()).await);
        }
        let stuck = fleet.endpoint(&stopped.id()).await.in_flight;
        assert!(stuck > 5);
        for answer in answers(asking).await {
            assert_ne!(answer.unwrap().served.worker, stopped.id());
        }
        // Without that knowledge it is two health checks, of two seconds each.
        let bound = if is_known { SECOND } else { 6 * SECOND };
        assert!(started.elapsed() < bound, "known {is_known}: {:?}", started.elapsed());
        let status = fleet.status().await;
        assert_eq!(status.tries.hedges_won, if is_known { stuck } else { 0 });
        assert_eq!((status.errors, status.in_flight), (0, 0));
        pass(5 * SECOND).await;
        assert!(!fleet.endpoint(&stopped.id()).await.reachable);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_08_who_waits_for_a_worker_100_times_slower_waits_no_longer_than_usual_twice() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 10 * MS).await;
    fleet.all_answer(&Answer::After(10 * MS));
    let slow = &fleet.workers[0];
    slow.answers(Answer::After(SECOND));
    let (mut times, mut hedged) = (Vec::new(), 0);
    // Requests come one after the other, 200 in about four seconds.
    for content in 0..200u16 {
        let (_, reason, time) = routed(&fleet.ask(content.into()).await.unwrap());
        times.push(time);
        hedged += u64::from(reason == RouteReason::Hedge);
    }
    times.sort();
    assert!(times[197] <= 30 * MS, "{:?}", &times[190..]);
    assert!(hedged > 20, "{hedged}");
    let status = fleet.status().await;
    assert_eq!(status.tries.hedges_won, hedged);
    // One a second runs on to tell how slow it is.
    let witnesses = hedged - slow.cancelled();
    assert!((2..=5).contains(&witnesses), "{witnesses}");
    assert_eq!((status.errors, status.failovers), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn fault_02_a_worker_that_falls_silent_costs_few_hedges_and_not_one_a_request() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 10 * MS).await;
    let own = fleet.of_one_order(1.0, 100).await;
    let silent = fleet.worker(&fleet.order_of(1.0).await[0]);
    fleet.all_answer(&Answer::After(10 * MS));
    silent.answers(Answer::Never);
    silent.is(Presence::Silent);
    let started = Instant::now();
    let mut reasons = Vec::new();
    for content in &own[..50] {
        reasons.push(routed(&fleet.ask(*content).await.unwrap()).1);
    }
    assert!(started.elapsed() < SECOND, "before a health check can have failed");
    assert_eq!(reasons[..5], [RouteReason::Hedge; 5]);
    assert_eq!(reasons[5..], [RouteReason::Unreachable; 45]);

    // A health check that it answers shows that it is there.
    silent.is(Presence::There);
    silent.answers(Answer::After(10 * MS));
    pass(4 * SECOND).await;
    for content in &own[50..] {
        let answer = fleet.ask(*content).await.unwrap();
        assert_eq!((routed(&answer).1, answer.served.worker), (RouteReason::Primary, silent.id()));
    }
}

#[tokio::test(start_paused = true)]
async fn fault_25_the_first_of_a_try_and_its_hedge_answers_and_the_other_is_cancelled() {
    // (what the first takes, what its hedge takes, which of them answers, and when)
    for (first, second, winner, time) in [(1000, 10, 1, 30), (25, 100, 0, 25)] {
        let fleet = Fleet::start_with(3, unbounded()).await;
        teach(&fleet, 20 * MS).await;
        let order = fleet.order_of(1.0).await;
        let before = fleet.status().await;
        fleet.worker(&order[0]).answers(Answer::After(first * MS));
        fleet.worker(&order[1]).answers(Answer::After(second * MS));
        let answer = fleet.ask(1.0).await.unwrap();
        assert_eq!(fleet.take_journal(), order[..2]);
        assert_eq!(answer.served.worker, order[winner]);
        let (attempt, reason, took) = routed(&answer);
        let expected = [(1, RouteReason::Primary), (2, RouteReason::Hedge)][winner];
        assert_eq!((attempt, reason), expected);
        assert!(about(took, time * MS), "{took:?}");

        let after = fleet.status().await;
        assert_eq!(after.requests - before.requests, 1);
        assert_eq!((after.errors - before.errors, after.failovers - before.failovers), (0, 0));
        let tries = TryStatus { hedges: 1, hedges_won: winner as u64, ..TryStatus::default() };
        assert_eq!((after.tries, after.in_flight), (tries, 0));
        for (place, worker) in order.iter().enumerate() {
            let (cancelled, endpoint) = (fleet.worker(worker).cancelled(), fleet.endpoint(worker));
            assert_eq!(cancelled, u64::from(place == 1 - winner));
            let endpoint = endpoint.await;
            assert_eq!((endpoint.in_flight, endpoint.failures), (0, 0));
        }
    }
}

/// The first try and the hedge that stands beside it may fail, one after the other in any order.
#[tokio::test(start_paused = true)]
async fn where_one_of_two_tries_fails_the_other_goes_on() {
    for (failing, answering) in [(0, 1), (1, 0)] {
        let fleet = Fleet::start_with(3, unbounded()).await;
        teach(&fleet, 20 * MS).await;
        let order = fleet.order_of(1.0).await;
        fleet.worker(&order[failing]).answers(Answer::After(SECOND));
        fleet.worker(&order[answering]).answers(Answer::After(100 * MS));
        let asking = fleet.start_asking(1.0).await;
        pass(50 * MS).await;
        assert_eq!(fleet.take_journal(), order[..2]);
        fleet.worker(&order[failing]).is_killed();
        let answer = asking.await.unwrap().0.unwrap();
        assert_eq!(answer.served.worker, order[answering]);
        assert_eq!(fleet.take_journal(), [], "nobody else was asked");
    }
    // Both fail: the third is asked.
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 20 * MS).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Never);
    fleet.worker(&order[1]).answers(Answer::Never);
    let asking = fleet.start_asking(1.0).await;
    pass(50 * MS).await;
    fleet.worker(&order[0]).is_killed();
    fleet.worker(&order[1]).is_killed();
    let answer = asking.await.unwrap().0.unwrap();
    assert_eq!((routed(&answer).0, &answer.served.worker), (3, &order[2]));
}

#[tokio::test(start_paused = true)]
async fn there_is_no_hedge_while_workers_have_queues() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 20 * MS).await;
    fleet.all_answer(&Answer::Queued(20 * MS));
    for content in 0..96u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    fleet.all_answer(&Answer::Queued(100 * MS));
    let before = fleet.status().await.tries;
    for content in 0..20u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    assert_eq!(fleet.status().await.tries, before);
}

#[tokio::test(start_paused = true)]
async fn fault_02_who_waits_for_a_silent_worker_is_hedged_though_workers_have_queues() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    let order = fleet.order_of(1.0).await;
    teach(&fleet, 20 * MS).await;
    fleet.all_answer(&Answer::Queued(20 * MS));
    for content in 0..96u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    fleet.worker(&order[0]).answers(Answer::Never);
    let answer = fleet.ask(1.0).await.unwrap();
    let (_, reason, time) = routed(&answer);
    assert_eq!((answer.served.worker, reason), (order[1].clone(), RouteReason::Hedge));
    assert!((200 * MS..250 * MS).contains(&time), "{time:?}");
}

/// Three workers that are known to answer within 20 ms, in the order in which one request is theirs.
async fn with_leave_for_one_extra_try() -> (Fleet, Vec<WorkerId>) {
    let mut config = unbounded();
    (config.retry.budget, config.retry.in_flight_min) = (0.0, 1);
    let fleet = Fleet::start_with(3, config).await;
    teach(&fleet, 20 * MS).await;
    let order = fleet.order_of(1.0).await;
    fleet.all_answer(&Answer::After(20 * MS));
    (fleet, order)
}

/// One that was stuck while others had the budget is hedged when they have given it back.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_was_not_possible_is_made_up_for() {
    let (fleet, order) = with_leave_for_one_extra_try().await;
    fleet.worker(&order[0]).answers(Answer::Never);
    let mut asking = Vec::new();
    for _ in 0..3 {
        asking.push(fleet.start_asking(1.0).await);
    }
    for answer in answers(asking).await {
        let (attempt, reason, time) = routed(&answer.unwrap());
        assert_eq!((attempt, reason), (2, RouteReason::Hedge));
        assert!(time < 200 * MS, "{time:?}");
    }
    let tries = fleet.status().await.tries;
    assert_eq!((tries.hedges_won, tries.budget_exhausted), (3, 2));
}

/// Its worker was killed, and the next one is stopped. There is leave for one extra try, which waits
/// there; it does not count for long.
#[tokio::test(start_paused = true)]
async fn fault_02_a_retry_that_is_stuck_at_a_silent_worker_is_hedged() {
    let (fleet, order) = with_leave_for_one_extra_try().await;
    fleet.worker(&order[0]).answers(Answer::ErrorAfter(20 * MS, unreachable()));
    fleet.worker(&order[1]).answers(Answer::Never);
    let answer = fleet.ask(1.0).await.unwrap();
    let (attempt, reason, time) = routed(&answer);
    assert_eq!((attempt, reason, &answer.served.worker), (3, RouteReason::Hedge, &order[2]));
    assert!(time < 500 * MS, "{time:?}");
    assert_eq!(fleet.status().await.in_flight, 0);
}

/// A try that was outrun is cancelled, so a worker that is a third as fast as the others looks like
/// one that hardly moves. The one try that runs on tells them apart.
#[tokio::test(start_paused = true)]
async fn fault_08_among_hedges_too_a_worker_100_times_slower_is_left_alone_and_not_a_slower_one() {
    for (time, is_left_alone) in [(SECOND, true), (40 * MS, false)] {
        let fleet = Fleet::start_with(3, unbounded()).await;
        teach(&fleet, 10 * MS).await;
        fleet.all_answer(&Answer::After(10 * MS));
        let slow = fleet.workers[1].clone();
        slow.answers(Answer::After(time));
        let mut asking = Vec::new();
        for content in 0..600u16 {
            asking.push(fleet.start_asking(content.into()).await);
            tokio::time::sleep(20 * MS).await;
        }
        answers(asking).await.into_iter().for_each(|answer| _ = answer.unwrap());
        assert!(fleet.status().await.tries.hedges_won > 20, "{time:?}");
        let seen = fleet.endpoint(&slow.id()).await;
        assert_eq!(seen.ejections > 0, is_left_alone, "{time:?}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_tries_that_are_outrun_one_at_a_time_runs_to_its_end() {
    let fleet = Fleet::start_with(3, unbounded()).await;
    teach(&fleet, 10 * MS).await;
    let own = fleet.of_one_order(1.0, 20).await;
    let slow = fleet.worker(&fleet.order_of(1.0).await[0]);
    fleet.all_answer(&Answer::After(10 * MS));
    slow.answers(Answer::Never);
    let hedged = async |contents: &[f32]| {
        for content in contents {
            let answer = fleet.gateway.infer(request("m", *content, 5 * SECOND)).await.unwrap();
            assert_eq!(routed(&answer).1, RouteReason::Hedge);
        }
    };
    hedged(&own[..4]).await;
    assert_eq!(slow.cancelled(), 3, "nobody had been outrun when the first began");
    pass(6 * SECOND).await;
    assert_eq!(slow.cancelled(), 4, "it ends with its request's deadline");
    hedged(&own[4..8]).await;
    assert_eq!(slow.cancelled(), 7);
}
