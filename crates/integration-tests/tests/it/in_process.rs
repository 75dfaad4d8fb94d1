//! `inferring serve`: a gateway and its workers in one process answer as separate ones do.

use std::collections::BTreeSet;

use inferring_integration_tests::load::ask_together;
use inferring_integration_tests::models::{self, SETOSA, SLOW_DOUBLE, TRIPLE};
use inferring_integration_tests::process::Process;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::serving;

#[test]
fn a_process_with_three_workers_answers_as_three_processes_do() {
    let served = serving("serve").arg(models::iris()).args(["--workers", "3"]).start();
    let client = served.client();
    let cases = models::cases();
    let iris = cases.iter().find(|case| case.model == "iris").unwrap();
    let [output] = &iris.outputs[..] else { panic!("iris has one output") };
    let (rows, answers) = (iris.inputs[0].data.chunks(4), output.data.chunks(3));
    for (row, expected) in rows.zip(answers) {
        let body = json!({ "input_data": row });
        let (first, second) =
            (client.post_json("/infer", &body), client.post_json("/infer", &body));
        let (first, second) = (first.ok(), second.ok());
        for (got, want) in first["output_data"].as_array().unwrap().iter().zip(expected) {
            assert!((got.as_f64().unwrap() - want.as_f64().unwrap()).abs() < 1e-5, "{first}");
        }
        assert_eq!((&first["cached"], &second["cached"]), (&json!(false), &json!(true)));
        assert_eq!(first["node_id"], second["node_id"]);
        assert_eq!(first["output_data"], second["output_data"]);
    }
    let stats = client.stats();
    assert_eq!((&stats["total_workers"], &stats["reachable_workers"]), (&json!(3), &json!(3)));
}

#[test]
fn different_requests_spread_over_the_workers_of_one_process() {
    let model = models::named("int64_scale");
    let served = serving("serve").arg(model).args(["--workers", "3"]).start();
    let client = served.client();
    let answered_by = |n| TRIPLE.check(n, &client.post_json(&TRIPLE.path(), &TRIPLE.body(n)));
    let nodes: Result<BTreeSet<_>, _> = (1..=100).map(answered_by).collect();
    let nodes = nodes.unwrap();
    assert_eq!(
        nodes.iter().map(String::as_str).collect::<Vec<_>>(),
        ["worker_1", "worker_2", "worker_3"]
    );
}

#[test]
fn a_process_that_is_told_to_stop_answers_what_it_has_accepted() {
    for stop in [Process::terminate, Process::interrupt] {
        let model = models::named("slow");
        let mut served = serving("serve").arg(model).args(["--workers", "3"]).start();
        let address = served.address();
        let clients = std::thread::spawn(move || ask_together(address, SLOW_DOUBLE, 1..=30));
        let client = served.client();
        wait_until("all requests were accepted", LONG, || {
            let stats = client.stats();
            stats["total_requests"] == 30 && stats["in_flight"].as_u64() > Some(0)
        });
        stop(&served);
        let ended = served.wait_for_end(LONG);
        clients.join().unwrap().assert_none_failed();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[test]
fn one_process_serves_without_being_told_how_many_workers() {
    let served = serving("serve").arg(models::iris()).start();
    let answer = served.client().post_json("/infer", &json!({ "input_data": SETOSA })).ok();
    assert_eq!(answer["node_id"], "worker_1");
}
