//! A model that is unloaded answers what it was asked before, takes nothing more, and gives its
//! memory back.

#[path = "../../../backend/tests/it/onnx.rs"]
#[expect(dead_code, reason = "shared with tests that write more kinds of models")]
mod onnx;

use std::time::Instant;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::load::ask_together;
use inferring_integration_tests::models::{self, SLOW_DOUBLE};
use inferring_integration_tests::process::Process;
use inferring_integration_tests::scaled;
use inferring_integration_tests::waiting::{LONG, wait_until};
use inferring_types::DataType;
use onnx::Size;
use serde_json::json;

use crate::versions::index_of;
use crate::{cluster, serving};

const MIB: u64 = 1 << 20;

/// A model that takes its time, one request after the other.
fn slow_folder() -> ModelFolder {
    ModelFolder::new()
        .with("slow", 1, &std::fs::read(models::named("slow")).unwrap())
        .with_file("slow", "config.toml", "batching.mode = \"alone\"\n")
        .with("other", 1, &scaled::version(1))
}

/// Unloads `slow` while it has many requests in its hands.
fn unload_in_the_middle(client: &Client, arrived: impl Fn() -> u64) {
    const REQUESTS: u64 = 36;
    let address = client.address();
    let asked = std::thread::spawn(move || ask_together(address, SLOW_DOUBLE, 1..=REQUESTS));
    wait_until("all requests have arrived", LONG, || arrived() == REQUESTS);
    client.post_json("/v2/repository/models/slow/unload", &json!({})).ok();
    let unloaded = Instant::now();
    let refused = client.post_json(&SLOW_DOUBLE.path(), &SLOW_DOUBLE.body(1));
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert!(refused.text().contains("`slow`"), "{}", refused.text());
    let report = asked.join().unwrap();
    report.assert_none_failed();
    let late = report.samples().iter().filter(|sample| sample.answered() > unloaded).count();
    assert!(late > 0, "all were answered before: the model was not unloaded in the middle");
    wait_until("the model has ended", LONG, || {
        index_of(client, "slow") == [("1".into(), "UNAVAILABLE".into(), "unloaded".into())]
    });
}

#[test]
fn requests_in_flight_are_answered_by_a_model_that_is_unloaded_and_no_new_ones() {
    let folder = slow_folder();
    let cluster = cluster().folders([&folder; 3]).start();
    unload_in_the_middle(&cluster.client(), || cluster.sum("total_requests"));
    for command in ["worker", "serve"] {
        let process = serving(command).arg(folder.path()).start();
        let client = process.client();
        unload_in_the_middle(&client, || {
            let told = if command == "worker" { client.health() } else { client.stats() };
            told["total_requests"].as_u64().unwrap()
        });
        // What is loaded again is asked again.
        client.post_json("/v2/repository/models/slow/load", &json!({})).ok();
        let answer = client.post_json(&SLOW_DOUBLE.path(), &SLOW_DOUBLE.body(1));
        SLOW_DOUBLE.check(1, &answer).unwrap();
    }
}

/// A model with 32 MiB of weights: `input` FP32 `[N,1024]` times a matrix of zeros, `output`
/// `[N,8192]`, e to the power of that.
fn large_model() -> Vec<u8> {
    let float = onnx::element(DataType::Fp32);
    let weights = vec![0_u8; 32 << 20];
    onnx::model_with_weights(
        &[
            onnx::node("MatMul", &["input", "w"], &["product"]),
            onnx::node("Exp", &["product"], &["output"]),
        ],
        &[("input", onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(1024)]))],
        &[("output", onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(8192)]))],
        &[onnx::constant(float, &[1024, 8192], &weights).text(8, "w")],
    )
}

/// Loads `large`, asks it and unloads it; the memory in use before and after that.
fn cycle(process: &Process) -> (u64, u64) {
    let client = process.client();
    client.post_json("/v2/repository/models/large/load", &json!({})).ok();
    for n in 0..20 {
        let mut row = vec![0.0; 1024];
        row[0] = f64::from(n);
        let body = json!({ "input_data": row });
        let answer = client.post_json("/models/large/infer", &body).ok();
        assert_eq!(answer["output_data"][8191], 1.0);
    }
    let loaded = process.resident_bytes();
    client.post_json("/v2/repository/models/large/unload", &json!({})).ok();
    wait_until("the model has ended", LONG, || {
        index_of(&client, "large").iter().all(|(_, state, _)| state == "UNAVAILABLE")
    });
    (loaded, process.resident_bytes())
}

#[test]
fn the_memory_of_a_model_comes_back_each_time_it_is_unloaded() {
    const CYCLES: u64 = 6;
    let folder = ModelFolder::new().with("large", 1, &large_model());
    let process = serving("worker").arg(folder.path()).start();
    // The first cycle starts threads, and touches code and data of the engine.
    let (loaded, first) = cycle(&process);
    assert!(loaded > first + 32 * MIB, "{loaded} bytes with the model, {first} without");
    for number in 2..=CYCLES {
        let (_, after) = cycle(&process);
        let (after, first) = (after / MIB, first / MIB);
        assert!(after < first + 24, "{after} MiB after {number} cycles, {first} after the first");
    }
}
