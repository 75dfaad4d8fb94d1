//! Any number of equal requests at the same time are one run of the model at each worker that they
//! come to: at one, unless they are too many for it.

use std::sync::{Arc, Barrier};

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::{Cluster, ClusterPlan};
use inferring_integration_tests::load::allow_many_connections;
use inferring_integration_tests::models::{self, SLOW_DOUBLE};

use crate::cluster;

const CLIENTS: usize = 1000;

fn slow() -> ClusterPlan {
    cluster().models([models::named("slow")])
}

/// The same question from a thousand clients, each on a connection of its own.
fn ask_a_thousand_times(cluster: &Cluster) -> Vec<Answer> {
    allow_many_connections();
    let start = Arc::new(Barrier::new(CLIENTS));
    let address = cluster.gateway().address();
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

#[test]
fn fault_26_a_thousand_equal_requests_at_once_run_the_model_once() {
    let cluster = slow().gateway_setting(UNBOUNDED).start();
    let before = cluster.sum("batch_processor/total_batches");
    let answers = ask_a_thousand_times(&cluster);
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

/// No worker may have all of them in flight, so several answer; none runs the model twice.
#[test]
fn fault_26_within_bounds_on_load_each_worker_runs_the_model_once_at_most() {
    let cluster = slow().start();
    for answer in ask_a_thousand_times(&cluster) {
        SLOW_DOUBLE.check(17, &answer).unwrap();
    }
    let runs = |number| {
        let health = cluster.worker(number).client().health();
        health
            .pointer("/batch_processor/total_batches")
            .and_then(serde_json::Value::as_u64)
            .unwrap()
    };
    let runs = [1, 2, 3].map(runs);
    assert!(runs.iter().all(|&runs| runs <= 1), "{runs:?}");
    assert_eq!(cluster.sum("cache_misses"), runs.iter().sum::<u64>());
    assert_eq!(cluster.sum("total_requests"), CLIENTS as u64);
}

#[test]
fn equal_requests_at_once_share_a_run_without_any_cache() {
    // Held back for five seconds, the one run cannot be over before the last client has asked.
    let cluster = slow()
        .gateway_setting(UNBOUNDED)
        .worker_setting("worker.cache.entries=0")
        .worker_setting("worker.batching.dispatch_when_idle=false")
        .worker_setting("worker.batching.delay_max=5s")
        .start();
    let answers = ask_a_thousand_times(&cluster);
    for answer in &answers {
        SLOW_DOUBLE.check(17, answer).unwrap();
        assert_eq!(answer.json()["cached"], false);
    }
    assert_eq!(cluster.sum("batch_processor/total_batches"), 1);
    assert_eq!(cluster.sum("cache_joined"), CLIENTS as u64 - 1);
    assert_eq!(cluster.sum("cache_hits"), 0);
}
