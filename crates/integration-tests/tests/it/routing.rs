//! Equal work meets at one worker, and different work spreads over all.

use std::collections::BTreeMap;

use inferring_integration_tests::models::{self, SETOSA, TRIPLE};
use inferring_integration_tests::v2::{self, Message};
use serde_json::json;

use crate::cluster;

#[test]
fn an_equal_request_is_answered_from_the_same_workers_cache() {
    let cluster = cluster().start();
    let client = cluster.client();
    for n in 0..20_u8 {
        let flower = SETOSA.map(|size| size + f32::from(n));
        let ask = |id: &str| {
            let body = json!({"request_id": format!("{id}{n}"), "input_data": flower});
            client.post_json("/infer", &body).ok()
        };
        let (first, second) = (ask("first"), ask("second"));
        assert_eq!((&first["cached"], &second["cached"]), (&json!(false), &json!(true)));
        assert_eq!(first["node_id"], second["node_id"]);
        assert_eq!(first["output_data"], second["output_data"]);
        assert_eq!(second["request_id"], json!(format!("second{n}")));
    }
    assert_eq!(cluster.sum("cache_hits"), 20);
    assert_eq!(cluster.sum("batch_processor/total_batches"), 20);
}

#[test]
fn an_equal_request_meets_its_equals_in_whatever_form_it_comes() {
    let cluster = cluster().start();
    let client = cluster.client();
    let iris = models::cases().into_iter().find(|case| case.model == "iris").unwrap();
    let [input] = &iris.inputs[..] else { panic!("iris has one input") };
    let rows: Vec<_> = input.data.chunks(4).collect();
    let nested = json!({ "input_data": rows });
    let flat = json!({"input_data": input.data, "shape": input.shape});
    let first = client.post_json("/infer", &nested).ok();
    assert_eq!(first["cached"], false);
    for (path, body) in [("/infer", &flat), ("/models/iris/infer", &nested)] {
        let again = client.post_json(path, body).ok();
        assert_eq!((&again["cached"], &again["node_id"]), (&json!(true), &first["node_id"]));
    }
    let path = "/v2/models/iris/infer";
    let in_json = client.post_json(path, &v2::json_request(&iris)).ok();
    let message = v2::binary_request(&iris);
    let head_length = (Message::HEAD_LENGTH, message.head_length.as_str());
    let (in_binary, _) = v2::read_binary(&client.post(path, &[head_length], &message.body));
    for served in [&in_json["parameters"], &in_binary["parameters"]] {
        assert_eq!((&served["cached"], &served["node_id"]), (&json!(true), &first["node_id"]));
    }
}

#[test]
fn fault_29_an_input_that_differs_anywhere_is_another_question() {
    let cluster = cluster().models([models::named("uint8_sum")]).start();
    let client = cluster.client();
    let mut row = vec![0_u8; 4096];
    let ask = |row: &[u8], shape: [usize; 2]| {
        client.post_json("/infer", &json!({"input_data": row, "shape": shape})).ok()
    };
    assert_eq!(ask(&row, [1, 4096])["output_data"], json!([0.0]));
    for position in [0, 1, 7, 63, 64, 127, 1000, 1023, 2048, 3333, 4094, 4095] {
        row[position] = 1;
        let answer = ask(&row, [1, 4096]);
        assert_eq!((&answer["output_data"], &answer["cached"]), (&json!([1.0]), &json!(false)));
        row[position] = 0;
    }
    // Nor are equal bytes in another shape the same question.
    let answer = ask(&row, [2, 2048]);
    assert_eq!((&answer["output_data"], &answer["cached"]), (&json!([0.0, 0.0]), &json!(false)));
}

#[test]
fn different_requests_spread_over_all_workers() {
    // Each request is one try, wherever this machine makes one of them slow.
    let cluster = cluster().models([models::named("int64_scale")]);
    let cluster = cluster.gateway_setting("gateway.hedge.enabled=false").start();
    let client = cluster.client();
    let mut count_by_node = BTreeMap::<String, u32>::new();
    for n in 1..=600 {
        let answer = client.post_json(&TRIPLE.path(), &TRIPLE.body(n));
        *count_by_node.entry(TRIPLE.check(n, &answer).unwrap()).or_default() += 1;
    }
    // A worker's part of a ring with 512 points each is within a tenth of a third, and that of
    // 600 keys within three standard deviations (35) of it.
    assert_eq!(count_by_node.len(), 3, "{count_by_node:?}");
    assert!(count_by_node.values().all(|count| (145..=255).contains(count)), "{count_by_node:?}");
    let stats = client.stats();
    for worker in stats["workers"].as_array().unwrap() {
        let requests = worker["requests"].as_u64().unwrap();
        assert_eq!(u64::from(count_by_node[worker["node"].as_str().unwrap()]), requests);
        let share = worker["share"].as_f64().unwrap();
        assert!((share - requests as f64 / 600.0).abs() < 1e-9, "{worker}");
        assert_eq!((&worker["in_flight"], &worker["failures"]), (&json!(0), &json!(0)));
    }
    assert_eq!(stats["total_requests"], 600);
    assert_eq!(stats["total_workers"], 3);
}

#[test]
fn fault_19_two_gateways_with_the_workers_in_another_order_agree() {
    let cluster = cluster().start();
    let places = (1..=3).rev().map(|n| format!("worker_{n}={}", cluster.worker(n).address()));
    let second = crate::serving("gateway").args(places).start();
    for n in 0..50_u8 {
        let body = json!({ "input_data": SETOSA.map(|size| size - f32::from(n)) });
        let first = cluster.client().post_json("/infer", &body).ok();
        let other = second.client().post_json("/infer", &body).ok();
        assert_eq!(first["node_id"], other["node_id"]);
        assert_eq!(other["cached"], true);
    }
}
