//! What must hold once nothing goes wrong any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use inferring_policy::{HashRing, RingMember};
use inferring_types::{ModelName, ModelState, RoutingKey, WorkerId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::clients::{Client, Due, End, id};
use crate::content::Content;
use crate::fleet::Fleet;
use crate::host::Host;
use crate::models::Models;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// How long a fleet may take to recover.
const RECOVERY: Duration = Duration::from_secs(60);

/// How long it must be well before it is called so: breakers and ejection look ten seconds back,
/// and may hold against a worker then what it did before.
const WELL: Duration = Duration::from_secs(11);

/// Nobody waits this long in a calm fleet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers of contents that nobody asks for while things go wrong.
const FRESH: u32 = 10_000;

/// Asks for new things until every gateway has all its workers back.
pub(crate) async fn recover(fleet: &Arc<Fleet>, scenario: &Scenario) {
    let limit = Instant::now() + RECOVERY;
    let mut ill = Instant::now();
    for turn in 0.. {
        let mut lack = None;
        for gateway in 0..fleet.fronts.len() {
            lack = lack.or(fleet.lack(gateway).await);
            let content = Content(FRESH + turn);
            let name = format!("recovery-{turn}-{gateway}");
            let client = client(fleet, gateway, name, content, Due::of(scenario));
            // Some leave: a breaker's trial may be one of theirs.
            let leaves = (turn % 3 != 0).then_some(Duration::from_millis(3));
            Client { leaves, ..client }.ask().await;
        }
        match lack {
            None if ill.elapsed() > WELL => break,
            None => {}
            Some(lack) => {
                fleet.trace.note(&lack);
                ill = Instant::now();
                if ill > limit {
                    fleet.trace.violation(format_args!("the fleet does not recover: {lack}"));
                    break;
                }
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
    fleet.trace.note("the fleet is well");
    fleet.journal.is_calm_now();
}

/// Every gateway asks the worker that the ring names, and what is known is not computed again.
pub(crate) async fn agree(fleet: &Arc<Fleet>, scenario: &Scenario) {
    let ids: Vec<_> = fleet.hosts.iter().map(|host| host.id.clone()).collect();
    let places: Vec<_> = ids.iter().map(|id| RingMember { id: id.clone(), weight: 1.0 }).collect();
    let ring = HashRing::build(&places, scenario.gateway.ring.points_per_worker);
    let ring = ring.expect("the gateways made one of them too");
    for number in 0..8 {
        let content = Content(2 * FRESH + number);
        let primary = &ids[ring.primary(key(content)).expect("there are workers")];
        let mut asked = Vec::new();
        for turn in 0..2 {
            for gateway in 0..fleet.fronts.len() {
                let name = format!("agreement-{number}-{turn}-{gateway}");
                client(fleet, gateway, name.clone(), content, Due::ANSWERS).ask().await;
                let workers = fleet.journal.asked(&name);
                fleet.trace.check(workers.first() == Some(primary), || {
                    format!("{name} belongs to {primary} and goes to {workers:?}")
                });
                asked.extend(workers);
            }
        }
        check_computed(fleet, content, &asked);
    }
}

/// Equal requests at one moment share a run: whatever the bounds on load, each gateway asks one
/// worker for all of its, and all gateways the same one.
pub(crate) async fn share(fleet: &Arc<Fleet>) {
    let content = Content(3 * FRESH);
    let name = |number: usize| format!("sharing-{number}");
    let mut clients = JoinSet::new();
    for number in 0..20 {
        let gateway = number % fleet.fronts.len();
        clients.spawn(client(fleet, gateway, name(number), content, Due::ANSWERS).ask());
    }
    let ends = clients.join_all().await;
    let answers = ends.iter().filter(|end| **end == End::Answer).count();
    fleet.trace.check(answers == 20, || format!("of 20 equal requests {answers} are answered"));
    let asked: Vec<_> = (0..20).map(|number| fleet.journal.asked(&name(number))).collect();
    let firsts: BTreeSet<_> = asked.iter().filter_map(|workers| workers.first()).collect();
    fleet.trace.check(firsts.len() == 1, || format!("equal requests go to {firsts:?}"));
    // Where none was hedged, no other one has been asked: it was one run.
    check_computed(fleet, content, &asked.concat());
}

/// However many ask for different things at a moment, no worker has more than its part of it.
pub(crate) async fn crowd(fleet: &Arc<Fleet>) {
    let mut clients = JoinSet::new();
    for number in 0..30 {
        let (gateway, name) = (number % fleet.fronts.len(), format!("crowd-{number}"));
        let content = Content(4 * FRESH + number as u32);
        // Queues may be short.
        clients.spawn(client(fleet, gateway, name, content, Due::ROOM_OR_NOT).ask());
    }
    clients.join_all().await;
}

/// Each worker that was asked has computed it once; a hedge that was called off need not have.
fn check_computed(fleet: &Fleet, content: Content, asked: &[WorkerId]) {
    let counts = fleet.computed(content);
    let total: u32 = counts.iter().sum();
    let mut workers = asked.to_vec();
    workers.sort();
    workers.dedup();
    let is_once = counts.iter().all(|count| *count <= 1) && total as usize <= workers.len();
    fleet.trace.check(is_once && total > 0, || {
        format!("{content:?} was asked of {workers:?}, and computed: {counts:?}")
    });
}

/// Nobody has anything in hand when nobody waits any more.
pub(crate) async fn rest(fleet: &Arc<Fleet>) {
    // What was given up is ended by then: it is interrupted, or over its limit.
    sleep(Duration::from_secs(5)).await;
    let Fleet { trace, journal, .. } = &**fleet;
    journal.close();
    for (gateway, front) in fleet.fronts.iter().enumerate() {
        let process = front.process();
        trace.check(process.is_some(), || format!("gateway {gateway} is not there"));
        let Some(process) = process else { continue };
        let status = process.status().await;
        trace.check(status.in_flight == 0, || {
            format!("gateway {gateway} has {} requests of nobody", status.in_flight)
        });
        for worker in &status.workers {
            trace.check(worker.in_flight == 0, || {
                format!("gateway {gateway} has {} tries at {}", worker.in_flight, worker.id)
            });
        }
    }
    for host in &fleet.hosts {
        let status = Fleet::worker_status(host).await;
        trace.check(status.is_some(), || format!("{} is not there", host.id));
        let Some(status) = status else { continue };
        trace.check(status.in_flight == 0 && status.batches.queued == 0, || {
            format!("{} has work of nobody: {status:?}", host.id)
        });
        for models in host.models() {
            check_versions(trace, host, models).await;
        }
    }
}

/// What was replaced is not loaded any more, as soon as its last run has ended.
async fn check_versions(trace: &Trace, host: &Host, models: &Models) {
    const PAUSE: Duration = Duration::from_secs(1);
    let Some(process) = host.process() else { return };
    let (name, present) = (models.name(), vec![models.present()]);
    let served = process.versions(name);
    trace.check(served == present, || {
        format!("{} serves {served:?} of {name}, and has {present:?}", host.id)
    });
    // A run that heeds nobody lasts twenty seconds at most.
    for _ in 0..20 {
        if process.machine.loaded(name) == present {
            break;
        }
        sleep(PAUSE).await;
    }
    let loaded = process.machine.loaded(name);
    trace.check(loaded == present, || {
        format!("{} has versions {loaded:?} of {name} loaded, and serves {present:?}", host.id)
    });
    let states = process.states(name).await;
    trace.check(states == [ModelState::Ready], || format!("{} has {name} {states:?}", host.id));
}

fn key(content: Content) -> RoutingKey {
    let model: ModelName = Content::MODEL.parse().expect("a name");
    RoutingKey::of(&model, &Content::inputs(&[content]))
}

fn client(fleet: &Arc<Fleet>, gateway: usize, name: String, content: Content, due: Due) -> Client {
    Client {
        fleet: fleet.clone(),
        gateway,
        id: id(name),
        contents: vec![content],
        priority: None,
        timeout: PATIENCE,
        leaves: None,
        due,
    }
}
