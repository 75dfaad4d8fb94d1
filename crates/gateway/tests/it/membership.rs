//! Workers that join, leave and are drained while requests are under way.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use inferring_gateway::discovery::WatchedFile;
use inferring_gateway::{Connector, Gateway, GatewayConfig, Probes, WorkerService};
use inferring_types::{
    EndpointStatus, ErrorKind, GatewayStatus, InferenceService, NodeAdmin, NodeStatus,
    ServiceError, StatusSource, WorkerChange, WorkerId, WorkerSpec,
};

use crate::fixture::{Answer, FakeWorker, Fleet, Presence, SECOND, pass, request};

/// Requests that are enough to tell shares from accidents.
const CONTENTS: u16 = 400;

/// A gateway whose workers come and go. Those of the fleet are there all the time.
struct Changing {
    fleet: Fleet,
    gateway: Arc<Gateway>,
    _probes: Probes,
}

impl Changing {
    /// A gateway over the first `size` of `all` workers.
    async fn start(all: usize, size: usize) -> Self {
        let fleet = Fleet::start(all).await;
        let workers = (1..=size).map(spec).collect();
        Self::over(fleet, workers).await
    }

    async fn over(fleet: Fleet, workers: Vec<WorkerSpec>) -> Self {
        let mut config = GatewayConfig::default();
        // Whose keys are whose is the question here, not how soon, nor who else might answer.
        config.slow_start.window = Duration::ZERO;
        config.hedge.enabled = false;
        let gateway = Gateway::from_list(workers, config, connector(&fleet)).unwrap();
        let probes = gateway.start_probes().await;
        Self { fleet, gateway, _probes: probes }
    }

    fn worker(&self, number: usize) -> &FakeWorker {
        &self.fleet.workers[number - 1]
    }

    async fn status(&self) -> GatewayStatus {
        match self.gateway.status().await.unwrap() {
            NodeStatus::Gateway(status) => *status,
            NodeStatus::Worker(_) => panic!("a gateway says that it is a worker"),
        }
    }

    async fn endpoint(&self, number: usize) -> EndpointStatus {
        let workers = self.status().await.workers;
        workers.into_iter().find(|worker| worker.id == id(number)).unwrap()
    }

    async fn served_by(&self, content: u16) -> WorkerId {
        let request = request("m", f32::from(content), 30 * SECOND);
        self.gateway.infer(request).await.unwrap().served.worker
    }

    /// Who serves which content.
    async fn places(&self) -> BTreeMap<u16, WorkerId> {
        let mut places = BTreeMap::new();
        for content in 0..CONTENTS {
            places.insert(content, self.served_by(content).await);
        }
        places
    }

    async fn change(&self, number: usize, change: WorkerChange) {
        self.gateway.change_worker(id(number), change).await.unwrap();
    }
}

/// Addresses end with the number of the worker that is behind them.
fn connector(fleet: &Fleet) -> Connector {
    let workers = fleet.workers.clone();
    Box::new(move |address| {
        let number = address.rsplit(':').next().and_then(|port| port.parse::<usize>().ok());
        let worker = number.and_then(|number| workers.get(number - 1));
        let worker = worker.ok_or_else(|| ServiceError::invalid("nobody is there"))?;
        Ok(worker.clone() as Arc<dyn WorkerService>)
    })
}

fn id(number: usize) -> WorkerId {
    WorkerId::from(format!("worker_{number}").as_str())
}

fn spec(number: usize) -> WorkerSpec {
    format!("worker_{number}=host:{number}").parse().unwrap()
}

/// The contents that changed their place, and where they went.
fn moved<'a>(
    before: &BTreeMap<u16, WorkerId>,
    after: &'a BTreeMap<u16, WorkerId>,
) -> Vec<&'a WorkerId> {
    after.iter().filter(|(content, worker)| before[content] != **worker).map(|(_, w)| w).collect()
}

#[tokio::test(start_paused = true)]
async fn fault_16_who_joins_takes_its_part_of_the_keys_and_nobody_elses_move() {
    let changing = Changing::start(4, 3).await;
    let before = changing.places().await;
    changing.gateway.add_worker(spec(4)).await.unwrap();
    let after = changing.places().await;
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|worker| **worker == id(4)), "{moved:?}");
    let share = moved.len() as f64 / f64::from(CONTENTS);
    assert!((0.17..0.33).contains(&share), "{share}");
}

#[tokio::test(start_paused = true)]
async fn fault_17_who_leaves_gives_up_its_keys_alone_and_finishes_what_it_was_sent() {
    let changing = Changing::start(4, 4).await;
    let before = changing.places().await;
    let (&content, _) = before.iter().find(|(_, worker)| **worker == id(2)).unwrap();
    changing.worker(2).answers(Answer::After(5 * SECOND));
    let gateway = changing.gateway.clone();
    let asking =
        tokio::spawn(
            async move { gateway.infer(request("m", f32::from(content), 30 * SECOND)).await },
        );
    tokio::task::yield_now().await;
    changing.gateway.remove_worker(id(2)).await.unwrap();
    changing.fleet.take_journal();
    let after = changing.places().await;
    for (content, worker) in &before {
        let stayed = after[content] == *worker;
        assert_eq!(stayed, *worker != id(2), "{content} of {worker}");
    }
    assert!(!changing.fleet.take_journal().contains(&id(2)), "asked after it had left");
    let served = asking.await.unwrap().unwrap().served;
    assert_eq!(served.worker, id(2));
}

#[tokio::test(start_paused = true)]
async fn requests_to_who_has_left_are_still_handed_over_when_it_falls_silent() {
    let changing = Changing::start(2, 2).await;
    let content = 7;
    let owner = changing.served_by(content).await;
    let number = if owner == id(1) { 1 } else { 2 };
    changing.worker(number).answers(Answer::Never);
    let gateway = changing.gateway.clone();
    let began = tokio::time::Instant::now();
    let asking =
        tokio::spawn(
            async move { gateway.infer(request("m", f32::from(content), 30 * SECOND)).await },
        );
    tokio::task::yield_now().await;
    changing.gateway.remove_worker(owner.clone()).await.unwrap();
    changing.worker(number).is(Presence::Silent);
    let served = asking.await.unwrap().unwrap().served;
    assert_ne!(served.worker, owner);
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_finishes_what_it_has_and_gets_its_keys_back() {
    let changing = Changing::start(3, 3).await;
    let before = changing.places().await;
    changing.change(1, WorkerChange::Draining(true)).await;
    changing.fleet.take_journal();
    let during = changing.places().await;
    assert!(during.values().all(|worker| *worker != id(1)));
    assert!(moved(&before, &during).len() < usize::from(CONTENTS) / 2, "others' keys stay");
    assert!(!changing.fleet.take_journal().contains(&id(1)));
    let drained = changing.endpoint(1).await;
    assert!(drained.draining && drained.reachable, "it is still probed");
    changing.change(1, WorkerChange::Draining(false)).await;
    assert_eq!(changing.places().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_is_not_asked_though_all_others_are_gone() {
    let changing = Changing::start(2, 2).await;
    changing.change(1, WorkerChange::Draining(true)).await;
    changing.worker(2).dies();
    pass(SECOND).await;
    changing.fleet.take_journal();
    let error = changing.gateway.infer(request("m", 1.0, SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("worker_1: it is being drained"), "{error}");
    assert_eq!(changing.fleet.take_journal(), []);
    assert!(!changing.status().await.ready);
}

#[tokio::test(start_paused = true)]
async fn who_stays_keeps_all_that_is_known_of_it() {
    let changing = Changing::start(3, 2).await;
    changing.places().await;
    let before = changing.endpoint(1).await;
    changing.gateway.apply(vec![spec(3), spec(1), spec(2)]).await.unwrap();
    let after = changing.endpoint(1).await;
    assert!(before.requests > 0);
    assert_eq!((before.requests, before.process), (after.requests, after.process));
    // The same id elsewhere is another process, of which nothing is known.
    let elsewhere = WorkerSpec { address: "elsewhere:1".into(), ..spec(1) };
    changing.gateway.apply(vec![elsewhere, spec(2)]).await.unwrap();
    assert_eq!(changing.endpoint(1).await.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn who_joins_and_is_not_there_is_waited_for_and_costs_nobody_anything() {
    let changing = Changing::start(3, 2).await;
    changing.worker(3).dies();
    changing.gateway.add_worker(spec(3)).await.unwrap();
    let joined = changing.endpoint(3).await;
    assert_eq!(joined.last_probe_error.as_deref(), Some("connection refused"));
    changing.fleet.take_journal();
    changing.places().await;
    assert!(!changing.fleet.take_journal().contains(&id(3)));
    changing.worker(3).recovers();
    pass(SECOND).await;
    assert!(changing.endpoint(3).await.reachable, "its probes go on");
    assert!(changing.places().await.values().any(|worker| *worker == id(3)));
}

/// However two gateways came by their workers.
#[tokio::test(start_paused = true)]
async fn fault_19_two_gateways_that_agree_on_the_workers_agree_on_every_key() {
    let one = Changing::start(4, 2).await;
    one.gateway.add_worker(spec(4)).await.unwrap();
    one.gateway.remove_worker(id(1)).await.unwrap();
    one.gateway.add_worker(spec(3)).await.unwrap();
    one.gateway.add_worker(spec(1)).await.unwrap();
    one.change(3, WorkerChange::Weight(2.5)).await;
    one.change(4, WorkerChange::Draining(true)).await;
    let shuffled = vec![
        WorkerSpec { weight: 2.5, ..spec(3) },
        spec(2),
        WorkerSpec { draining: true, ..spec(4) },
        spec(1),
    ];
    let other = Changing::over(Fleet::start(4).await, shuffled).await;
    assert_eq!(one.places().await, other.places().await);
    let of = |status: GatewayStatus| status.membership.fingerprint;
    assert_eq!(of(one.status().await), of(other.status().await));
    one.change(4, WorkerChange::Draining(false)).await;
    assert_ne!(of(one.status().await), of(other.status().await));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_in_force_changes_nothing() {
    let changing = Changing::start(2, 2).await;
    let before = changing.status().await.membership;
    for list in [
        Vec::new(),
        vec![spec(1), spec(1)],
        vec![WorkerSpec { weight: -1.0, ..spec(1) }],
        vec![WorkerSpec { weight: f64::NAN, ..spec(1) }],
        vec![spec(1), spec(9)],
    ] {
        changing.gateway.apply(list.clone()).await.unwrap_err();
        let now = changing.status().await;
        assert_eq!(now.membership.version, before.version, "{list:?}");
        assert_eq!(now.workers.len(), 2);
    }
    let refused = changing.gateway.change_worker(id(1), WorkerChange::Weight(0.0)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let refused = changing.gateway.add_worker(spec(9)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    // What was refused is not waiting to be carried out with the next change.
    changing.change(1, WorkerChange::Weight(2.0)).await;
    assert_eq!(changing.endpoint(1).await.weight, 2.0);
    assert_eq!(changing.status().await.workers.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn fault_37_a_file_that_is_empty_broken_or_gone_leaves_the_last_list_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workers.toml");
    fs::write(&file, "workers = [\"worker_1=host:1\", \"worker_2=host:2\"]").unwrap();
    let changing = Changing::start(3, 2).await;
    let source = WatchedFile::new(file.clone(), SECOND);
    let _following = changing.gateway.follow(Box::new(source)).await;
    pass(5 * SECOND).await;
    let healthy = changing.status().await.membership;
    assert_eq!((healthy.version, healthy.error), (1, None), "it says what was known");
    for (failures, content, words) in [
        (1, Some("workers = []"), "no worker to route to"),
        (2, Some("workers = [\"worker_1=host:1\""), "is no list of workers"),
        (3, Some("workers = [\"worker_1=host\"]"), "the port is missing"),
        (4, Some("workers = [\"a=host:1\", \"a=host:2\"]"), "do not make a ring"),
        (5, None, "cannot be read"),
    ] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        pass(5 * SECOND).await;
        let status = changing.status().await;
        let error = status.membership.error.unwrap();
        assert!(error.contains(words), "{error}");
        assert_eq!((status.membership.failures, status.membership.version), (failures, 1));
        assert_eq!(status.workers.len(), 2);
        changing.served_by(1).await;
    }
    fs::write(&file, "workers = [\"worker_1=host:1\", \"worker_3=host:3\"]").unwrap();
    pass(5 * SECOND).await;
    let status = changing.status().await;
    assert_eq!((status.membership.version, status.membership.error), (2, None));
    assert!(changing.places().await.values().any(|worker| *worker == id(3)));
    // Whoever edits the file decides; operators drain.
    let refused = changing.gateway.remove_worker(id(3)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    changing.change(3, WorkerChange::Draining(true)).await;
    assert!(changing.endpoint(3).await.draining);
}
