//! Several models in one worker, each asked by its name.

use inferring_integration_tests::models::{self, SETOSA, TRIPLE};
use serde_json::json;

use crate::cluster;

#[test]
fn the_plain_path_asks_the_first_model_and_the_others_are_asked_by_name() {
    let files = [models::named("int64_scale"), models::iris(), models::named("f64_scale")];
    let cluster = cluster().models(files).start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        let answer = client.post_json("/infer", &TRIPLE.body(5)).ok();
        assert_eq!(
            (&answer["model"], &answer["output_data"][0]),
            (&json!("int64_scale"), &json!(15))
        );
        let answer = client.post_json("/models/iris/infer", &json!({ "input_data": SETOSA })).ok();
        assert_eq!(answer["model"], "iris");
        let tenths = json!({ "input_data": [1, 2, 1e300] });
        let answer = client.post_json("/models/f64_scale/infer", &tenths).ok();
        assert_eq!(answer["output_data"], json!([0.1, 0.2, 1e299]));

        let listed = client.get("/v2/models").ok();
        let listed = listed["models"].as_array().unwrap().iter();
        let names: Vec<_> = listed.map(|model| model["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["int64_scale", "iris", "f64_scale"]);
        let iris = client.get("/v2/models/iris").ok();
        assert_eq!(iris["inputs"][0]["datatype"], "FP32");
        assert_eq!(iris["inputs"][0]["shape"], json!([-1, 4]));
        assert_eq!(client.get("/v2/models/iris/ready").status, 200);
    }
}

#[test]
fn equal_numbers_for_different_models_are_different_questions() {
    // Both take three numbers, and give other ones.
    let files = [models::named("f16_scale"), models::named("int64_scale")];
    let cluster = cluster().workers(1).models(files).start();
    let client = cluster.client();
    let body = json!({ "input_data": [1, 2, 3] });
    let doubled = client.post_json("/models/f16_scale/infer", &body).ok();
    let tripled = client.post_json("/models/int64_scale/infer", &body).ok();
    assert_eq!(doubled["output_data"], json!([2.0, 4.0, 6.0]));
    assert_eq!(tripled["output_data"], json!([3, 6, 9]));
    assert_eq!((&doubled["cached"], &tripled["cached"]), (&json!(false), &json!(false)));
}

#[test]
fn a_model_that_only_some_workers_have_is_asked_of_those() {
    let with_both = crate::serving("worker")
        .args([models::iris(), models::named("int64_scale")])
        .args(["--id", "both"])
        .start();
    let with_one = crate::serving("worker").arg(models::iris()).args(["--id", "one"]).start();
    let places = [("one", &with_one), ("both", &with_both)];
    let gateway = crate::serving("gateway")
        .args(places.map(|(id, worker)| format!("{id}={}", worker.address())))
        .start();
    let client = gateway.client();
    for n in 1..=50 {
        let answer = client.post_json(&TRIPLE.path(), &TRIPLE.body(n));
        assert_eq!(TRIPLE.check(n, &answer).as_deref(), Ok("both"));
    }
    assert_eq!(client.stats()["failovers"], 0);
}
