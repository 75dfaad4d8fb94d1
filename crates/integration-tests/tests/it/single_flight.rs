//! Any number of equal requests at the same time are one run of the model in the whole cluster.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::ClusterPlan;
use inferring_integration_tests::load::allow_many_connections;
use inferring_integration_tests::models::{self, SLOW_DOUBLE};
use inferring_integration_tests::waiting::{LONG, wait_for};
use serde_json::json;

use crate::cluster;

const CLIENTS: usize = 1000;

fn slow() -> ClusterPlan {
    cluster().models([models::named("slow")])
}

/// The same question from a thousand clients, each on a connection of its own.
fn ask_a_thousand_times(address: SocketAddr) -> Vec<Answer> {
    allow_many_connections();
    let start = Arc::new(Barrier::new(CLIENTS));
    let ask = || {
        let start = start.clone();
        let ask = move || {
            let client = Client::new(address);
            start.wait();
            client.post_json(&SLOW_DOUBLE.path(), &SLOW_DOUBLE.body(17))
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(ask).unwrap()
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| ask()).collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// A worker may have all that is in flight.
const UNBOUNDED: &str = "gateway.load.bound=1000000";

/// A run waits five seconds for others to share it with: it cannot be over before the last client
/// has asked.
const HELD_BACK: [&str; 2] =
    ["worker.batching.dispatch_when_idle=false", "worker.batching.delay_max=5s"];

#[test]
fn fault_26_a_thousand_equal_requests_at_once_run_the_model_once() {
    let cluster = slow().gateway_setting(UNBOUNDED).start();
    let before = cluster.sum("batch_processor/total_batches");
    let answers = ask_a_thousand_times(cluster.gateway().address());
    let mut nodes: Vec<_> =
        answers.iter().map(|answer| SLOW_DOUBLE.check(17, answer).unwrap()).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!(cluster.sum("batch_processor/total_batches") - before, 1);
    assert_eq!(cluster.sum("batch_processor/total_rows"), 1);
    assert_eq!(cluster.sum("total_requests"), CLIENTS as u64);
    assert_eq!(cluster.sum("cache_misses"), 1);
    assert_eq!(cluster.sum("cache_hits") + cluster.sum("cache_joined"), CLIENTS as u64 - 1);
}

/// Whatever a worker may have in flight: who only waits for another one's run does not count.
#[test]
fn fault_26_a_thousand_equal_requests_are_one_run_within_bounds_on_load() {
    let cluster = slow().worker_setting(HELD_BACK[0]).worker_setting(HELD_BACK[1]).start();
    for answer in ask_a_thousand_times(cluster.gateway().address()) {
        SLOW_DOUBLE.check(17, &answer).unwrap();
    }
    assert_eq!(cluster.sum("batch_processor/total_batches"), 1);
    assert_eq!(cluster.sum("total_requests"), CLIENTS as u64);
    assert_eq!((cluster.sum("cache_misses"), cluster.sum("cache_hits")), (1, 0));
    assert_eq!(cluster.sum("cache_joined"), CLIENTS as u64 - 1);
}

/// The worker that all of them wait for is killed: they go to another one together.
#[test]
fn fault_26_a_thousand_equal_requests_whose_worker_is_killed_are_one_run_at_another() {
    let mut cluster = slow().worker_setting(HELD_BACK[0]).worker_setting(HELD_BACK[1]).start();
    let gateway = cluster.client();
    let address = gateway.address();
    let asking = std::thread::spawn(move || ask_a_thousand_times(address));
    let busy = wait_for("a worker has all of them in its hands", LONG, || {
        let stats = gateway.stats();
        let workers = stats["workers"].as_array()?.iter();
        let in_flight = workers.map(|worker| worker["in_flight"].as_u64());
        in_flight.zip(1..).find(|(count, _)| *count == Some(CLIENTS as u64)).map(|(_, n)| n)
    });
    cluster.worker_mut(busy).kill();
    for answer in asking.join().unwrap() {
        SLOW_DOUBLE.check(17, &answer).unwrap();
    }
    let stats = gateway.stats();
    assert_eq!((&stats["failovers"], &stats["retries"]), (&json!(CLIENTS), &json!(1)), "{stats}");
    let runs = [1, 2, 3].map(|number| match number == busy {
        true => 0,
        false => {
            let health = cluster.worker(number).client().health();
            health["batch_processor"]["total_batches"].as_u64().unwrap()
        }
    });
    assert_eq!(runs.iter().sum::<u64>(), 1, "{runs:?}");
}

#[test]
fn equal_requests_at_once_share_a_run_without_any_cache() {
    let cluster = slow()
        .worker_setting("worker.cache.entries=0")
        .worker_setting(HELD_BACK[0])
        .worker_setting(HELD_BACK[1])
        .start();
    let answers = ask_a_thousand_times(cluster.gateway().address());
    for answer in &answers {
        SLOW_DOUBLE.check(17, answer).unwrap();
        assert_eq!(answer.json()["cached"], false);
    }
    assert_eq!(cluster.sum("batch_processor/total_batches"), 1);
    assert_eq!(cluster.sum("cache_joined"), CLIENTS as u64 - 1);
    assert_eq!(cluster.sum("cache_hits"), 0);
}
