//! Requests share runs, and nobody suffers from its neighbours.

use std::sync::{Arc, Barrier};

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::{Cluster, ClusterPlan};
use inferring_integration_tests::models;
use serde_json::{Value, json};

use crate::cluster;

/// Workers that hold requests back until 32 rows are together or the time is over, so that
/// requests sent together run together.
fn patient() -> ClusterPlan {
    cluster()
        .worker_setting("worker.batching.dispatch_when_idle=false")
        .worker_setting("worker.batching.delay_max=1s")
}

/// Sends all bodies to the first worker at the same time, each on a connection of its own.
fn send_together(cluster: &Cluster, path: &'static str, bodies: Vec<Value>) -> Vec<Answer> {
    let address = cluster.worker(1).address();
    let start = Arc::new(Barrier::new(bodies.len()));
    let clients: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let start = start.clone();
            std::thread::spawn(move || {
                let client = Client::new(address);
                start.wait();
                client.post_json(path, &body)
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

#[test]
fn inputs_of_a_wrong_length_are_refused_and_their_neighbours_answered_rightly() {
    let cluster = patient().workers(1).models([models::named("int64_scale")]).start();
    let widths = [3, 2, 3, 4, 3, 0, 3, 1000];
    let input = |n: usize| -> Vec<usize> { (0..widths[n % 8]).map(|i| 100 * n + i).collect() };
    let bodies = (0..48).map(|n| json!({ "input_data": input(n) })).collect();
    let answers = send_together(&cluster, "/infer", bodies);
    let mut largest_batch = 0;
    for (n, answer) in answers.iter().enumerate() {
        if input(n).len() == 3 {
            let document = answer.ok();
            let tripled: Vec<_> = input(n).iter().map(|value| 3 * value).collect();
            assert_eq!(document["output_data"], json!(tripled), "question {n}");
            largest_batch = largest_batch.max(document["batch_size"].as_u64().unwrap());
        } else {
            assert_eq!(answer.status, 400, "question {n}");
            let text = answer.text();
            assert!(text.contains("INT64 of shape [N,3]"), "{text}");
        }
    }
    assert!(largest_batch > 1, "the good ones ran together");
    assert_eq!(cluster.sum("batch_processor/total_rows"), 24);
}

#[test]
fn a_row_that_the_model_cannot_run_fails_alone() {
    let cluster = patient().workers(1).models([models::named("poison_row")]).start();
    // The table of the model has ten rows: 0 to 9. Row n is [2n, 2n + 1].
    let index = |n: i64| if n % 5 == 2 { 100 + n } else { n % 10 };
    let bodies = (0..30).map(|n| json!({ "input_data": [index(n)] })).collect();
    let answers = send_together(&cluster, "/infer", bodies);
    for (n, answer) in (0..).zip(&answers) {
        let index = index(n);
        if index < 10 {
            let row = [2 * index, 2 * index + 1].map(|value| value as f64);
            assert_eq!(answer.ok()["output_data"], json!(row));
        } else {
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains("the model cannot run this input"), "{}", answer.text());
        }
    }
}

#[test]
fn rows_that_depend_on_each_other_never_share_a_run() {
    // Both have a dynamic first dimension, and for both it would be wrong to join requests.
    let models = ["time_major_cumsum", "batch_norm_like"];
    let cluster = patient().workers(1).models(models.map(models::named)).start();
    for (path, expected) in [
        ("/models/time_major_cumsum/infer", json!([1, 2, 3, 4])),
        ("/models/batch_norm_like/infer", json!([0, 0, 0, 0])),
    ] {
        // Different requests, so that none is another's answer from the cache.
        let bodies = (0..12).map(|n| json!({ "input_data": [n, 2 * n, 3 * n, 4 * n] })).collect();
        let answers = send_together(&cluster, path, bodies);
        for (n, answer) in answers.iter().enumerate() {
            let document = answer.ok();
            let output = document["output_data"].as_array().unwrap();
            let expected = expected.as_array().unwrap();
            for (got, one) in output.iter().zip(expected) {
                assert_eq!(got.as_f64().unwrap(), one.as_f64().unwrap() * n as f64, "{document}");
            }
            assert_eq!(document["batch_size"], 1);
        }
    }
}
