//! Every answer says which request it belongs to.

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::models::SETOSA;
use serde_json::{Value, json};

use crate::cluster;

const NONE: &[(&str, &str)] = &[];
const IN_HEAD: &[(&str, &str)] = &[("x-request-id", "from-the-head")];

fn ask(client: &Client, headers: &[(&str, &str)], id: Option<&str>, input: &Value) -> Answer {
    let mut body = json!({ "input_data": input });
    if let Some(id) = id {
        body["request_id"] = json!(id);
    }
    client.post("/infer", headers, body.to_string())
}

#[test]
fn a_request_id_is_echoed_in_body_and_head() {
    let cluster = cluster().workers(1).start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        for (headers, id, expected) in [
            (NONE, Some("from-the-body"), "from-the-body"),
            (IN_HEAD, None, "from-the-head"),
            (IN_HEAD, Some("from-the-body"), "from-the-body"),
        ] {
            let answer = ask(&client, headers, id, &json!(SETOSA));
            assert_eq!(answer.ok()["request_id"], expected);
            assert_eq!(answer.header("x-request-id"), Some(expected));
        }
    }
}

#[test]
fn a_request_without_an_id_is_given_one_of_its_own() {
    let cluster = cluster().workers(1).start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        let ids = [(), ()].map(|()| {
            let answer = ask(&client, NONE, None, &json!(SETOSA));
            let id = answer.ok()["request_id"].as_str().unwrap().to_owned();
            assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
            id
        });
        assert!(!ids[0].is_empty());
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn errors_say_which_request_they_belong_to() {
    let cluster = cluster().workers(1).start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        for (headers, id, input, expected) in [
            (IN_HEAD, None, json!([1, 2, 3]), "from-the-head"),
            (IN_HEAD, None, json!("nonsense"), "from-the-head"),
        ] {
            let answer = ask(&client, headers, id, &input);
            assert_eq!(answer.status, 400);
            assert_eq!(answer.json()["request_id"], expected);
            assert_eq!(answer.header("x-request-id"), Some(expected));
        }
        let late = [("x-request-timeout-ms", "0")];
        let answer = ask(&client, &late, Some("from-the-body"), &json!(SETOSA));
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert_eq!(answer.json()["request_id"], "from-the-body");
        assert_eq!(answer.header("x-request-id"), Some("from-the-body"));
    }
}

#[test]
fn a_request_id_in_open_inference_protocol_is_echoed_too() {
    let cluster = cluster().workers(1).start();
    let input = json!({"name": "input", "datatype": "FP32", "shape": [1, 4], "data": SETOSA});
    let with_id = json!({"id": "from-the-body", "inputs": [input]});
    let without = json!({"inputs": [input]});
    for client in [cluster.worker(1).client(), cluster.client()] {
        let path = "/v2/models/iris/infer";
        let answer = client.post(path, IN_HEAD, with_id.to_string());
        assert_eq!(answer.ok()["id"], "from-the-body");
        assert_eq!(answer.header("x-request-id"), Some("from-the-body"));
        let answer = client.post(path, IN_HEAD, without.to_string());
        assert_eq!(answer.ok()["id"], "from-the-head");
        let answer = client.post(path, NONE, without.to_string());
        let made = answer.ok()["id"].as_str().unwrap().to_owned();
        assert!(!made.is_empty());
        assert_eq!(answer.header("x-request-id"), Some(made.as_str()));
    }
}
