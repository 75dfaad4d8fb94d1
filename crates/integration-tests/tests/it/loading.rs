//! A model that a load request brings along: served by every worker, and gone from every worker
//! when it is unloaded.

use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::models;
use inferring_integration_tests::scaled::{self, Form};
use inferring_integration_tests::v2::load_request;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::{Value, json};

use crate::versions::index_of;
use crate::{cluster, ways};

const BROUGHT: &str = "/v2/models/brought";
const LOAD: &str = "/v2/repository/models/brought/load";
const UNLOAD: &str = "/v2/repository/models/brought/unload";

/// A folder with something else in it: a worker serves something from its start.
fn other() -> ModelFolder {
    ModelFolder::new().with("other", 1, &scaled::version(1))
}

#[test]
fn what_a_request_brings_is_served_and_when_it_is_unloaded_nothing_is_left_of_it() {
    let folder = other();
    for way in ways::all(&folder) {
        let (name, client) = (way.name, &way.client);
        for version in [3, 4] {
            let config = json!({"backend": "onnxruntime", "max_batch_size": 8});
            let content = scaled::version(version);
            let path = format!("{version}/model.onnx");
            client.post_json(LOAD, &load_request(&config, &[(&path, &content)])).ok();
            for form in [Form::Json, Form::Binary] {
                let answered = scaled::ask(client, BROUGHT, form, [1, -2, 3]).unwrap();
                assert_eq!(answered.version, version.to_string(), "{name}");
            }
            assert_eq!(client.get(&format!("{BROUGHT}/config")).ok()["max_batch_size"], 8);
        }
        client.post_json(UNLOAD, &json!({})).ok();
        assert_eq!(client.get(BROUGHT).status, 404, "{name}");
        assert!(scaled::ask(client, BROUGHT, Form::Json, [1, -2, 3]).unwrap_err().contains("404"));
        wait_until("the index knows nothing of it", LONG, || {
            index_of(client, "brought").is_empty()
        });
        let again = client.post_json(UNLOAD, &json!({}));
        assert_eq!(again.status, 404, "{name}: {}", again.text());
        assert_eq!(scaled::ask_nth(client, "/v2/models/other", 1).unwrap().version, "1");
    }
}

#[test]
fn every_worker_has_what_the_gateway_was_asked_to_load_and_none_what_it_was_asked_to_unload() {
    let folder = other();
    let cluster = cluster().folders([&folder; 3]).start();
    let client = cluster.client();
    let content = scaled::version(1);
    client.post_json(LOAD, &load_request(&json!({}), &[("1/model.onnx", &content)])).ok();
    for worker in 1..=3 {
        let answered = scaled::ask_nth(&cluster.worker(worker).client(), BROUGHT, 1).unwrap();
        assert_eq!(answered.node, format!("worker_{worker}"));
    }
    client.post_json(UNLOAD, &json!({})).ok();
    for worker in 1..=3 {
        let client = cluster.worker(worker).client();
        assert_eq!(client.get(BROUGHT).status, 404);
        wait_until("the worker knows nothing of it", LONG, || {
            index_of(&client, "brought").is_empty()
        });
    }
}

#[test]
fn a_request_may_bring_another_configuration_for_the_folders_files() {
    let folder = other();
    for way in ways::all(&folder) {
        let client = &way.client;
        let load = "/v2/repository/models/other/load";
        let cache =
            |input| scaled::ask(client, "/v2/models/other", Form::Json, input).unwrap().cache;
        assert_eq!([cache([1, 1, 1]), cache([1, 1, 1])], ["computed", "hit"], "{}", way.name);
        let config = json!({ "response_cache": { "enable": false } });
        client.post_json(load, &load_request(&config, &[])).ok();
        assert_eq!([cache([1, 1, 1]), cache([1, 1, 1])], ["computed"; 2], "{}", way.name);
        client.post_json(load, &json!({})).ok();
        assert_eq!([cache([1, 1, 1]), cache([1, 1, 1])], ["computed", "hit"], "{}", way.name);
    }
}

#[test]
fn what_cannot_be_loaded_is_refused_in_words_and_changes_nothing() {
    let folder = other();
    let good = scaled::version(1);
    let corrupt = std::fs::read(models::named("corrupt")).unwrap();
    let model = |path: &str, content: &[u8]| load_request(&json!({}), &[(path, content)]);
    let without_config = |mut request: Value| {
        request["parameters"].as_object_mut().unwrap().remove("config");
        request
    };
    let requests = [
        (json!({}), 404, "`brought`"),
        (model("1/model.onnx", &corrupt), 400, "not a model that can be loaded"),
        (model("../model.onnx", &good), 400, "`../model.onnx`"),
        (model("/1/model.onnx", &good), 400, "`/1/model.onnx`"),
        (without_config(model("1/model.onnx", &good)), 400, "`config`"),
        (load_request(&json!({"backend": "python"}), &[("1/model.onnx", &good)]), 400, "python"),
        (json!({"parameters": {"config": "{}", "file:1/model.onnx": "?"}}), 400, "Base64"),
    ];
    for way in ways::all(&folder) {
        for (request, status, word) in &requests {
            let refused = way.client.post_json(LOAD, request);
            assert_eq!(refused.status, *status, "{}: {}", way.name, refused.text());
            let error = refused.json()["error"].as_str().unwrap().to_owned();
            assert!(error.contains(word), "{}: no {word} in {error}", way.name);
            assert_nothing_changed(&way.client);
        }
    }
}

#[track_caller]
fn assert_nothing_changed(client: &Client) {
    assert_eq!(client.get(BROUGHT).status, 404);
    assert_eq!(scaled::ask_nth(client, "/v2/models/other", 1).unwrap().version, "1");
}
