//! Where load goes, and why.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferring_gateway::{Gateway, GatewayConfig};
use inferring_types::{
    InferRequest, InferenceService, NodeStatus, RouteReason, SequenceStep, ServiceError,
    StatusSource, WorkerId, WorkerLoad, WorkerSpec,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fixture::{Answer, Fleet, Presence, SECOND, pass, request};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Each request is one try: what hedges do is tested elsewhere.
fn without_hedges() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.hedge.enabled = false;
    config
}

/// Who answers this content, and why it was asked.
async fn routed(fleet: &Fleet, request: InferRequest) -> (WorkerId, RouteReason) {
    let response = fleet.gateway.infer(request).await.unwrap();
    (response.served.worker, response.routed.unwrap().reason)
}

async fn asked(fleet: &Fleet, content: f32) -> (WorkerId, RouteReason) {
    routed(fleet, request("m", content, 30 * SECOND)).await
}

#[tokio::test(start_paused = true)]
async fn an_idle_fleet_answers_where_content_belongs() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    for _ in 0..2000 {
        assert_eq!(asked(&fleet, 1.0).await, (order[0].clone(), RouteReason::Primary));
    }
    // It is hot by now, and its worker copes.
    assert_eq!(fleet.status().await.hot_keys, 1);
}

#[tokio::test(start_paused = true)]
async fn what_finds_its_worker_at_the_bound_goes_on_in_its_own_order() {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    let order = fleet.order_of(1.0).await;
    let contents = fleet.of_one_order(1.0, 5).await;
    fleet.all_answer(&Answer::After(SECOND));
    let mut asking = Vec::new();
    for content in contents {
        asking.push(fleet.start_asking(content).await);
    }
    let mut answers = HashMap::<_, u32>::new();
    for task in asking {
        let response = task.await.unwrap().0.unwrap();
        *answers.entry((response.served.worker, response.routed.unwrap().reason)).or_default() += 1;
    }
    // Bounds of 1, 1, 2, 2 and 3, as one after the other comes.
    let expected = [
        ((order[0].clone(), RouteReason::Primary), 3),
        ((order[1].clone(), RouteReason::Bound), 2),
    ];
    assert_eq!(answers, HashMap::from(expected));
    assert_eq!(fleet.status().await.workers.iter().map(|worker| worker.in_flight).sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn steps_of_a_sequence_stay_whatever_the_load() {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    let step = |start| {
        let sequence = Some(SequenceStep { id: "7".parse().unwrap(), start, end: false });
        InferRequest { sequence, ..request("m", 0.0, 30 * SECOND) }
    };
    let (home, _) = routed(&fleet, step(true)).await;
    fleet.worker(&home).tells(WorkerLoad { wait: 60 * SECOND, run: SECOND });
    fleet.all_answer(&Answer::After(SECOND));
    let mut steps = JoinSet::new();
    for _ in 0..50 {
        let (gateway, step) = (fleet.gateway.clone(), step(false));
        steps.spawn(async move { gateway.infer(step).await.unwrap() });
    }
    for response in steps.join_all().await {
        let reason = response.routed.unwrap().reason;
        assert_eq!((response.served.worker, reason), (home.clone(), RouteReason::Primary));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_there_is_told_as_the_reason() {
    for presence in [Presence::Refusing, Presence::Draining] {
        let fleet = Fleet::start(3).await;
        let order = fleet.order_of(1.0).await;
        fleet.worker(&order[0]).is(presence);
        pass(SECOND).await;
        assert_eq!(asked(&fleet, 1.0).await, (order[1].clone(), RouteReason::Unreachable));
        // Another one's content is not concerned.
        let other = (2..100_u16).map(f32::from);
        for content in other {
            let (worker, reason) = asked(&fleet, content).await;
            assert_ne!(worker, order[0]);
            assert!(matches!(reason, RouteReason::Primary | RouteReason::Unreachable));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_as_a_retry_and_an_open_breaker_as_such() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    fleet.worker(&order[0]).answers(Answer::Error(ServiceError::failed("a fault")));
    for _ in 0..5 {
        assert_eq!(asked(&fleet, 1.0).await.1, RouteReason::Retry);
    }
    assert_eq!(asked(&fleet, 1.0).await, (order[1].clone(), RouteReason::Breaker));
}

#[tokio::test(start_paused = true)]
async fn where_most_do_badly_all_that_are_there_are_asked() {
    let fleet = Fleet::start(3).await;
    let mut tripped = Vec::new();
    for number in 0..100_u16 {
        let order = fleet.order_of(number.into()).await;
        if tripped.len() == 2 {
            break;
        }
        if tripped.contains(&order[0]) {
            continue;
        }
        fleet.worker(&order[0]).answers(Answer::Error(ServiceError::failed("a fault")));
        for _ in 0..5 {
            fleet.ask(number.into()).await.unwrap();
        }
        fleet.worker(&order[0]).answers(Answer::Echo);
        tripped.push(order[0].clone());
    }
    assert_eq!(tripped.len(), 2);
    assert!(fleet.status().await.panic);
    let mut reasons = HashMap::<_, u32>::new();
    for content in 0..60_u16 {
        let (worker, reason) = asked(&fleet, content.into()).await;
        assert_eq!(reason == RouteReason::Panic, tripped.contains(&worker), "{reason:?}");
        *reasons.entry(reason).or_default() += 1;
    }
    assert!(reasons[&RouteReason::Panic] > 20 && reasons[&RouteReason::Primary] > 5, "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_could_not_answer_in_time_is_passed_over_while_that_is_news() {
    let fleet = Fleet::start(3).await;
    let order = fleet.order_of(1.0).await;
    let (patient, hasty) = (30 * SECOND, SECOND);
    let ask = |timeout| routed(&fleet, request("m", 1.0, timeout));
    fleet.worker(&order[0]).tells(WorkerLoad { wait: SECOND, run: 100 * MILLISECOND });
    assert_eq!(ask(hasty).await.0, order[0], "it has told nothing yet");
    assert_eq!(ask(hasty).await, (order[1].clone(), RouteReason::Backlog));
    assert_eq!(ask(patient).await, (order[0].clone(), RouteReason::Primary));

    // Its queue is empty again, and it has no way to tell but an answer.
    fleet.worker(&order[0]).tells(WorkerLoad::default());
    tokio::time::advance(900 * MILLISECOND).await;
    assert_eq!(ask(hasty).await, (order[1].clone(), RouteReason::Backlog));
    tokio::time::advance(200 * MILLISECOND).await;
    assert_eq!(ask(hasty).await, (order[0].clone(), RouteReason::Primary));
    assert_eq!(ask(hasty).await, (order[0].clone(), RouteReason::Primary));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_could_answer_in_time_the_own_worker_may_try() {
    let fleet = Fleet::start(2).await;
    let order = fleet.order_of(1.0).await;
    for content in 0..20_u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    let long = WorkerLoad { wait: 2 * SECOND, run: SECOND };
    fleet.workers.iter().for_each(|worker| worker.tells(long));
    for content in 0..20_u16 {
        fleet.ask(content.into()).await.unwrap();
    }
    let answer = routed(&fleet, request("m", 1.0, SECOND)).await;
    assert_eq!(answer, (order[0].clone(), RouteReason::Primary));
}

/// Clients that ask again as soon as they are answered.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Asked>>,
}

struct Asked {
    content: u32,
    worker: WorkerId,
    reason: RouteReason,
    at: Instant,
    took: Duration,
}

impl Clients {
    /// So many clients, with what `content` says for a random number from 0 to 1.
    fn start(gateway: &Arc<Gateway>, count: u64, content: fn(f64) -> u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for seed in 0..count {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            tasks.spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut asked = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let content = content(random.f64());
                    let request = request("m", content as f32, 30 * SECOND);
                    let response = gateway.infer(request).await.unwrap();
                    let (worker, took) = (response.served.worker, at.elapsed());
                    let reason = response.routed.unwrap().reason;
                    asked.push(Asked { content, worker, reason, at, took });
                }
                asked
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// How many requests each worker answered.
fn shares<'a>(asked: impl Iterator<Item = &'a Asked>) -> HashMap<WorkerId, f64> {
    let mut counts = HashMap::<_, f64>::new();
    asked.for_each(|asked| *counts.entry(asked.worker.clone()).or_default() += 1.0);
    let all = counts.values().sum::<f64>();
    counts.values_mut().for_each(|count| *count /= all);
    counts
}

#[tokio::test(start_paused = true)]
async fn fault_20_one_key_of_nine_tenths_of_the_traffic_keeps_no_worker_above_its_bound() {
    const CLIENTS: u64 = 60;
    for workers in [3, 5, 10] {
        let fleet = Fleet::start_with(workers, without_hedges()).await;
        let order = fleet.order_of(0.0).await;
        fleet.all_answer(&Answer::After(10 * MILLISECOND));
        let hot = |random| if random < 0.9 { 0 } else { (random * 1e6) as u32 };
        let began = Instant::now();
        let clients = Clients::start(&fleet.gateway, CLIENTS, hot);
        let bound = (1.25 * CLIENTS as f64 / workers as f64).ceil() as u64;
        let mut hot_keys = 0;
        for turn in 0..400 {
            tokio::time::sleep(7 * MILLISECOND).await;
            let status = fleet.status().await;
            for worker in &status.workers {
                let allotment = worker.allotment;
                assert!(allotment.taken <= bound && allotment.bound <= bound + 1, "{allotment:?}");
                // The key's answer is known from the first one on, and all that is asked counts.
                let all_count = worker.in_flight == allotment.taken;
                assert!(all_count || turn < 3, "{} of {allotment:?}", worker.in_flight);
            }
            hot_keys = status.hot_keys;
        }
        let asked = clients.stop().await;
        assert_eq!(hot_keys, 1);
        let shares = shares(asked.iter());
        let largest = shares.values().copied().fold(0.0, f64::max);
        assert!(largest <= 1.02 * bound as f64 / CLIENTS as f64, "{shares:?}");
        // The rest of the traffic is not driven away: most of it is where it belongs.
        let rest = || asked.iter().filter(|asked| asked.content != 0);
        let at_home = rest().filter(|asked| asked.reason == RouteReason::Primary).count();
        assert!(at_home * 2 > rest().count(), "{at_home} of {}", rest().count());
        // The hot key's own worker is not alone, and is told apart from those that help.
        let reasons: Vec<_> = asked.iter().filter(|asked| asked.content == 0).collect();
        assert!(reasons.iter().any(|asked| asked.reason == RouteReason::Replica));
        assert!(reasons.iter().all(|asked| match asked.reason {
            RouteReason::Primary => asked.worker == order[0],
            RouteReason::Replica | RouteReason::Bound => asked.worker != order[0],
            // Until it is answered for the first time.
            RouteReason::Flight => asked.worker == order[0] && asked.at < began + 10 * MILLISECOND,
            _ => false,
        }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_cooled_is_at_its_worker_again() {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    fleet.all_answer(&Answer::After(10 * MILLISECOND));
    let clients = Clients::start(&fleet.gateway, 30, |_| 0);
    pass(3 * SECOND).await;
    clients.stop().await;
    assert_eq!(fleet.status().await.hot_keys, 1);
    let clients = Clients::start(&fleet.gateway, 30, |random| 1 + (random * 1e6) as u32);
    pass(30 * SECOND).await;
    clients.stop().await;
    assert_eq!(fleet.status().await.hot_keys, 0);
}

#[tokio::test(start_paused = true)]
async fn fault_08_a_worker_100_times_slower_holds_up_its_bounded_share_and_no_more() {
    const CLIENTS: u64 = 60;
    let mut config = without_hedges();
    // What the bound does alone.
    config.ejection.share_max = 0.0;
    let fleet = Fleet::start_with(3, config).await;
    fleet.all_answer(&Answer::After(10 * MILLISECOND));
    fleet.workers[0].answers(Answer::After(SECOND));
    let clients = Clients::start(&fleet.gateway, CLIENTS, |random| (random * 1e6) as u32);
    let bound = (1.25 * CLIENTS as f64 / 3.0).ceil() as u64;
    for _ in 0..700 {
        tokio::time::sleep(7 * MILLISECOND).await;
        let status = fleet.status().await;
        assert!(status.workers.iter().all(|worker| worker.in_flight <= bound));
    }
    let asked = clients.stop().await;
    let slow = fleet.workers[0].id();
    let shares = shares(asked.iter());
    // A third of the content belongs to it.
    assert!(shares[&slow] < 0.01, "{shares:?}");
    let mut times: Vec<_> = asked.iter().map(|asked| asked.took).collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < 20 * MILLISECOND, "{p99:?}");
    let moved = asked.iter().filter(|asked| asked.reason == RouteReason::Bound).count();
    assert!(moved * 4 > asked.len(), "{moved} of {}", asked.len());
}

/// A gateway over the first of a fleet's workers, which reaches the others when they join.
fn growing(fleet: &Fleet, first: usize, config: GatewayConfig) -> Arc<Gateway> {
    let workers = fleet.workers.clone();
    let connect = move |address: &str| {
        let found = workers.iter().find(|worker| worker.id().as_str() == address);
        Ok(found.unwrap().clone() as Arc<dyn inferring_gateway::WorkerService>)
    };
    Gateway::from_list(specs(fleet, first), config, Box::new(connect)).unwrap()
}

fn specs(fleet: &Fleet, count: usize) -> Vec<WorkerSpec> {
    let spec = |id: WorkerId| WorkerSpec {
        address: id.to_string(),
        id,
        weight: WorkerSpec::DEFAULT_WEIGHT,
        draining: false,
    };
    fleet.workers[..count].iter().map(|worker| spec(worker.id())).collect()
}

#[tokio::test(start_paused = true)]
async fn fault_16_who_joins_under_load_gets_a_growing_part_of_its_keys() {
    let fleet = Fleet::start(5).await;
    fleet.all_answer(&Answer::After(20 * MILLISECOND));
    let mut config = without_hedges();
    config.slow_start.window = 10 * SECOND;
    let gateway = growing(&fleet, 4, config);
    let _probes = gateway.start_probes().await;
    // The others are no newcomers any more.
    pass(60 * SECOND).await;
    let clients = Clients::start(&gateway, 40, |random| (random * 1e6) as u32);
    pass(SECOND).await;
    gateway.apply(specs(&fleet, 5)).await.unwrap();
    let joined = Instant::now();
    pass(15 * SECOND).await;
    let status = gateway.status().await.unwrap();
    let NodeStatus::Gateway(status) = status else { panic!("it is a gateway") };
    assert!(status.workers.iter().all(|worker| worker.allotment.part == 1.0));
    let asked = clients.stop().await;
    let newcomer = fleet.workers[4].id();
    let share = |from: u32, to: u32| {
        let during = |at| at >= joined + from * SECOND && at < joined + to * SECOND;
        shares(asked.iter().filter(|asked| during(asked.at)))[&newcomer]
    };
    // At the end it is a fifth.
    for (from, to, low, high) in
        [(0, 1, 0.005, 0.07), (3, 4, 0.05, 0.12), (6, 7, 0.1, 0.17), (11, 15, 0.17, 0.24)]
    {
        let share = share(from, to);
        assert!((low..high).contains(&share), "{share} from {from} s to {to} s");
    }
    let held_back = asked.iter().filter(|asked| asked.reason == RouteReason::SlowStart);
    assert!(held_back.clone().count() > 100);
    assert!(held_back.into_iter().all(|asked| asked.at < joined + 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn workers_that_began_together_share_from_the_start() {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    fleet.all_answer(&Answer::After(10 * MILLISECOND));
    let clients = Clients::start(&fleet.gateway, 60, |random| (random * 1e6) as u32);
    pass(SECOND).await;
    let asked = clients.stop().await;
    assert!(asked.iter().all(|asked| asked.reason != RouteReason::SlowStart));
    assert!(shares(asked.iter()).values().all(|share| (0.25..0.42).contains(share)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_its_place_at_the_worker() {
    let fleet = Fleet::start_with(3, without_hedges()).await;
    let order = fleet.order_of(1.0).await;
    let [content, other] = fleet.of_one_order(1.0, 2).await[..] else { panic!("two are two") };
    fleet.worker(&order[0]).answers(Answer::Never);
    let asking = fleet.start_asking(content).await;
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 1);
    assert_eq!(asked(&fleet, other).await, (order[1].clone(), RouteReason::Bound));
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(fleet.endpoint(&order[0]).await.in_flight, 0);
    fleet.worker(&order[0]).answers(Answer::Echo);
    assert_eq!(asked(&fleet, other).await, (order[0].clone(), RouteReason::Primary));
}
