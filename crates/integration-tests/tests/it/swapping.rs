//! A version that takes another's place while clients ask without pause: no request fails, every
//! answer is of the version that it says, and once the change has been confirmed the old one
//! answers nothing more.

use std::net::SocketAddr;
use std::time::Instant;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models;
use inferring_integration_tests::scaled;
use inferring_integration_tests::waiting::{LONG, wait_for, wait_until};
use serde_json::json;

use crate::versions::index_of;
use crate::{cluster, serving};

const MODEL: &str = "/v2/models/scale";
const LOAD: &str = "/v2/repository/models/scale/load";

/// Clients that ask for `path`; who answers is the version.
fn ask_all_the_time(address: SocketAddr, path: &'static str) -> Load {
    Load::asking(address, 6, move |client, n| {
        scaled::ask_nth(client, path, n).map(|answered| answered.version)
    })
}

/// Version 1 of `scale` and of `other`, for each of three workers.
fn folders() -> [ModelFolder; 3] {
    let first = scaled::version(1);
    [(); 3].map(|()| ModelFolder::new().with("scale", 1, &first).with("other", 1, &first))
}

fn put(folders: &[ModelFolder], version: u64) {
    folders.iter().for_each(|folder| folder.put("scale", version, &scaled::version(version)));
}

/// State and reason of a version of `scale`.
fn state_of(client: &Client, version: &str) -> Option<(String, String)> {
    let mut index = index_of(client, "scale").into_iter();
    index.find(|(of, _, _)| of == version).map(|(_, state, reason)| (state, reason))
}

fn swap_under_load(address: SocketAddr, folders: &[ModelFolder]) {
    let client = Client::new(address);
    let load = ask_all_the_time(address, MODEL);
    load.wait_for_more(300);
    put(folders, 2);
    // A file alone changes nothing.
    load.wait_for_more(50);
    let ordered = Instant::now();
    client.post_json(LOAD, &json!({})).ok();
    let confirmed = Instant::now();
    load.wait_for_more(300);
    client.post_json("/v2/repository/models/other/unload", &json!({})).ok();
    let unloaded = client.get("/v2/models/other");
    assert_eq!(unloaded.status, 404, "{}", unloaded.text());
    load.wait_for_more(300);

    let report = load.finish();
    report.assert_none_failed();
    assert_eq!(report.nodes().into_iter().collect::<Vec<_>>(), ["1", "2"]);
    let late = report.by("1").filter(|sample| sample.asked > confirmed).count();
    let early = report.by("2").filter(|sample| sample.answered() < ordered).count();
    assert_eq!((late, early), (0, 0), "answers of the old version after, of the new one before");
    assert_eq!(state_of(&client, "2"), Some(("READY".into(), String::new())));
    wait_until("the old version has ended", LONG, || {
        state_of(&client, "1") == Some(("UNAVAILABLE".into(), "unloaded".into()))
    });
}

#[test]
fn fault_30_a_version_takes_the_old_ones_place_in_a_cluster_and_no_request_notices() {
    let folders = folders();
    let cluster = cluster().folders(&folders).start();
    swap_under_load(cluster.gateway().address(), &folders);
    for worker in 1..=3 {
        let served = cluster.worker(worker).client().get(MODEL).ok();
        assert_eq!(served["versions"], json!(["2"]));
    }
    assert_eq!(cluster.client().stats()["failovers"], 0);
    cluster.assert_breakers_closed();
}

#[test]
fn a_version_takes_the_old_ones_place_in_a_lone_process_and_no_request_notices() {
    let [worker, serve, _] = folders();
    let process = serving("worker").arg(worker.path()).start();
    swap_under_load(process.address(), &[worker]);
    drop(process);
    let process = serving("serve").arg(serve.path()).args(["--workers", "2"]).start();
    swap_under_load(process.address(), &[serve]);
}

#[test]
fn who_asks_for_an_alias_stays_with_its_version_until_the_alias_moves() {
    let folders = folders();
    let point = |stable: u64| {
        let config = format!("[aliases]\nstable = {stable}\n");
        folders.iter().for_each(|folder| folder.put_file("scale", "config.toml", &config));
    };
    point(1);
    let cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    let newest = ask_all_the_time(client.address(), MODEL);
    let stable = ask_all_the_time(client.address(), "/v2/models/scale/versions/stable");
    stable.wait_for_more(100);
    put(&folders, 2);
    client.post_json(LOAD, &json!({})).ok();
    let loaded = Instant::now();
    newest.wait_for_more(100);
    stable.wait_for_more(100);
    point(2);
    let ordered = Instant::now();
    client.post_json(LOAD, &json!({})).ok();
    let moved = Instant::now();
    newest.wait_for_more(100);
    stable.wait_for_more(100);

    let (newest, stable) = (newest.finish(), stable.finish());
    newest.assert_none_failed();
    stable.assert_none_failed();
    assert!(newest.by("1").all(|sample| sample.asked < loaded));
    assert!(newest.by("2").any(|sample| sample.answered() < ordered));
    assert!(stable.by("2").all(|sample| sample.answered() > ordered));
    assert!(stable.by("1").all(|sample| sample.asked < moved));
    assert!(stable.by("1").any(|sample| sample.asked > loaded));
    assert_eq!(client.get("/v2/models/scale/versions/1").status, 404);
}

#[test]
fn fault_51_a_load_that_fails_says_why_and_the_old_version_serves_on() {
    let folders = folders();
    let mut cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    let load = ask_all_the_time(client.address(), MODEL);
    load.wait_for_more(100);
    let corrupt = std::fs::read(models::named("corrupt")).unwrap();
    folders.iter().for_each(|folder| folder.put("scale", 2, &corrupt));
    for _ in 0..2 {
        let refused = client.post_json(LOAD, &json!({}));
        assert_eq!(refused.status, 400, "{}", refused.text());
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        let words = ["`scale`", "version 2", "not a model that can be loaded"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        load.wait_for_more(100);
    }
    assert_eq!(state_of(&client, "1"), Some(("READY".into(), String::new())));
    let (state, reason) = state_of(&client, "2").expect("the index says what failed");
    assert_eq!(state, "UNAVAILABLE");
    assert!(reason.contains("not a model that can be loaded"), "{reason}");
    let report = load.finish();
    report.assert_none_failed();
    assert_eq!(report.nodes().into_iter().collect::<Vec<_>>(), ["1"]);

    // What is repaired is served, and the reason is gone.
    folders.iter().for_each(|folder| folder.remove("scale", 2));
    put(&folders, 2);
    client.post_json(LOAD, &json!({})).ok();
    assert_eq!(state_of(&client, "2"), Some(("READY".into(), String::new())));
    assert_eq!(scaled::ask_nth(&client, MODEL, 1).unwrap().version, "2");

    cluster.worker(1).terminate();
    let log = cluster.worker_mut(1).wait_for_end(LONG).stderr;
    let told = |line: &&str| line.contains("could not be loaded") && line.contains("scale");
    assert_eq!(log.lines().filter(told).count(), 2, "{log}");
}

#[test]
fn a_load_that_fails_on_one_worker_names_it_and_no_request_fails() {
    let folders = folders();
    let cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    let load = ask_all_the_time(client.address(), MODEL);
    load.wait_for_more(100);
    let corrupt = std::fs::read(models::named("corrupt")).unwrap();
    folders[1].put("scale", 2, &corrupt);
    put(&folders[..1], 2);
    put(&folders[2..], 2);
    let refused = client.post_json(LOAD, &json!({}));
    let text = refused.text();
    assert_eq!(refused.status, 400, "{text}");
    assert!(text.contains("worker_2") && !text.contains("worker_1"), "{text}");
    // Those that could load it serve it, and the index says who could not, and why.
    let (state, reason) = state_of(&client, "2").unwrap();
    assert_eq!(state, "READY");
    assert!(reason.starts_with("worker_2: ") && reason.contains("be loaded"), "{reason}");
    load.wait_for_more(100);

    folders[1].remove("scale", 2);
    put(&folders[1..2], 2);
    client.post_json(LOAD, &json!({})).ok();
    let agreed = Instant::now();
    load.wait_for_more(200);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.by("1").all(|sample| sample.asked < agreed));
}

#[test]
fn a_worker_that_was_away_during_a_load_agrees_with_the_others_when_it_is_back() {
    let folders = folders();
    let mut cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    let load = ask_all_the_time(client.address(), MODEL);
    load.wait_for_more(100);
    cluster.worker_mut(2).kill();
    cluster.wait_until_reachable(2);
    put(&folders, 2);
    client.post_json(LOAD, &json!({})).ok();
    let loaded = Instant::now();
    load.wait_for_more(200);
    come_back(&mut cluster, 2);
    load.wait_for_more(200);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.by("1").all(|sample| sample.asked < loaded));
}

/// The worker is frozen, so that the load surely has begun and not ended there when it dies.
#[test]
fn a_worker_that_dies_during_a_load_fails_the_load_and_no_request() {
    let folders = folders();
    let mut cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    let load = ask_all_the_time(client.address(), MODEL);
    load.wait_for_more(100);
    put(&folders, 2);
    cluster.worker(2).freeze();
    let ordering = client.clone();
    let ordered = std::thread::spawn(move || ordering.post_json(LOAD, &json!({})));
    for worker in [1, 3] {
        let client = cluster.worker(worker).client();
        wait_until("the others have loaded it", LONG, || {
            state_of(&client, "2") == Some(("READY".into(), String::new()))
        });
    }
    assert!(!ordered.is_finished(), "the load is confirmed before every worker has it");
    cluster.worker_mut(2).kill();
    let refused = ordered.join().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("worker_2"), "{}", refused.text());
    load.wait_for_more(200);
    come_back(&mut cluster, 2);
    let agreed = Instant::now();
    load.wait_for_more(200);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.by("1").all(|sample| sample.asked < agreed));
}

/// Starts a worker again, and sees that all serve version 2 alone.
fn come_back(cluster: &mut Cluster, worker: usize) {
    cluster.spawn_worker(worker);
    cluster.worker_mut(worker).wait_until_ready();
    cluster.wait_until_reachable(3);
    let expected = json!(["2"]);
    for worker in 1..=3 {
        assert_eq!(cluster.worker(worker).client().get(MODEL).ok()["versions"], expected);
    }
    let client = cluster.client();
    wait_for("the gateway has learnt of it", LONG, || {
        (client.get(MODEL).ok()["versions"] == expected).then_some(())
    });
}
