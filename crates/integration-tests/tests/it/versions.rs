//! A folder of models is served as its configurations say: which versions, under which names,
//! and how.

use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, SETOSA};
use inferring_integration_tests::scaled::{self, Form};
use serde_json::{Value, json};

use crate::{cluster, serving, ways};

/// A folder whose model `name` has versions 1 to 3 and this configuration.
fn with_three_versions(folder: ModelFolder, name: &str, config: &str) -> ModelFolder {
    let folder =
        (1..=3).fold(folder, |f, version| f.with(name, version, &scaled::version(version)));
    if config.is_empty() { folder } else { folder.with_file(name, "config.toml", config) }
}

/// The versions that a model's metadata lists.
#[track_caller]
fn listed(client: &Client, model: &str) -> Vec<String> {
    let document = client.get(&format!("/v2/models/{model}")).ok();
    let versions = document["versions"].as_array().unwrap().iter();
    versions.map(|version| version.as_str().unwrap().to_owned()).collect()
}

/// The version that answers under a path.
#[track_caller]
fn answering(client: &Client, path: &str) -> String {
    scaled::ask(client, path, Form::Json, [1, 2, 3])
        .unwrap_or_else(|e| panic!("{path}: {e}"))
        .version
}

/// State and reason of each version of a model in the index.
pub(crate) fn index_of(client: &Client, model: &str) -> Vec<(String, String, String)> {
    let index = client.post("/v2/repository/index", &[], "").ok();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let entries = index.as_array().unwrap().iter().filter(|entry| entry["name"] == model);
    entries.map(|e| (text(e, "version"), text(e, "state"), text(e, "reason"))).collect()
}

#[test]
fn the_versions_are_served_that_the_policy_names_and_under_their_aliases() {
    let folder = with_three_versions(ModelFolder::new(), "latest", "");
    let folder = with_three_versions(folder, "two", "versions = { latest = 2 }");
    let folder = with_three_versions(folder, "all", "versions = \"all\"");
    let folder = with_three_versions(folder, "some", "versions = [1, 3]");
    let folder = with_three_versions(folder, "named", "[aliases]\nstable = 1\ncanary = 3");
    let folder = (1..=3).fold(folder, |f, v| f.with("triton", v, &scaled::version(v))).with_file(
        "triton",
        "config.pbtxt",
        "platform: \"onnxruntime_onnx\"\nversion_policy: { specific: { versions: [ 2 ] } }\n",
    );
    for way in ways::all(&folder) {
        for (model, served) in [
            ("latest", &["3"][..]),
            ("two", &["2", "3"]),
            ("all", &["1", "2", "3"]),
            ("some", &["1", "3"]),
            ("named", &["1", "3"]),
            ("triton", &["2"]),
        ] {
            let (way_name, client) = (way.name, &way.client);
            assert_eq!(listed(client, model), served, "{model} of the {way_name}");
            let path = format!("/v2/models/{model}");
            assert_eq!(answering(client, &path), *served.last().unwrap());
            for version in ["1", "2", "3", "4", "stable"] {
                let path = format!("{path}/versions/{version}");
                let asked = client.post_json(&format!("{path}/infer"), &json!({"inputs": []}));
                let statuses = ["", "/ready", "/config", "/stats"]
                    .map(|action| client.get(&format!("{path}{action}")).status);
                if served.contains(&version) || (model, version) == ("named", "stable") {
                    let expected = if version == "stable" { "1" } else { version };
                    assert_eq!(answering(client, &path), expected, "{path} of the {way_name}");
                    assert_eq!(client.get(&path).ok()["version"], expected);
                    assert_eq!((statuses, asked.status), ([200; 4], 400), "{path}: {way_name}");
                } else {
                    assert_eq!(statuses[..1], [404], "{path} of the {way_name}");
                    assert_eq!(statuses[2..], [404; 2], "{path} of the {way_name}");
                    assert_ne!(statuses[1], 200, "{path} of the {way_name}");
                    assert_eq!(asked.status, 404, "{path} of the {way_name}");
                    let text = asked.text();
                    let all = served.join(", ");
                    assert!(text.contains(version) && text.contains(&all), "{text} in {way_name}");
                }
            }
        }
        let missing = way.client.get("/v2/models/missing");
        assert_eq!(missing.status, 404, "{}", way.name);
        assert!(missing.text().contains("`missing`"), "{}", missing.text());
        assert_eq!(answering(&way.client, "/v2/models/named/versions/canary"), "3");
    }
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_in_the_index_and_keeps_no_other_from_being_served() {
    let corrupt = std::fs::read(models::named("corrupt")).unwrap();
    let folder = ModelFolder::new()
        .with("broken", 1, &corrupt)
        .with("good", 1, &scaled::version(1))
        .with("misspelt", 1, &scaled::version(1))
        .with_file("misspelt", "config.toml", "instancs = 2");
    std::fs::copy(models::iris(), folder.path().join("iris.onnx")).unwrap();
    for way in ways::all(&folder) {
        let client = &way.client;
        assert_eq!(answering(client, "/v2/models/good"), "1");
        client.post_json("/models/iris/infer", &json!({ "input_data": SETOSA })).ok();
        assert_eq!(listed(client, "iris"), ["1"]);
        for (model, words) in [
            ("broken", &["not a model that can be loaded"][..]),
            ("misspelt", &["config.toml", "`instancs`", "`instances`"]),
        ] {
            let index = index_of(client, model);
            let [(_, state, reason)] = &index[..] else { panic!("{index:?} of the {}", way.name) };
            assert_eq!(state, "UNAVAILABLE", "{model} of the {}", way.name);
            assert!(words.iter().all(|word| reason.contains(word)), "{reason} of the {}", way.name);
            assert_eq!(client.get(&format!("/v2/models/{model}")).status, 404, "{}", way.name);
            let asked = scaled::ask(client, &format!("/v2/models/{model}"), Form::Json, [1, 2, 3]);
            assert!(asked.unwrap_err().starts_with("status 404"), "{model} of the {}", way.name);
        }
        let good = index_of(client, "good");
        assert_eq!(good, [("1".to_owned(), "READY".to_owned(), String::new())], "{}", way.name);
        assert_eq!(client.get("/v2/health/ready").status, 200, "{}", way.name);
    }
}

#[test]
fn a_request_shares_a_run_or_not_as_its_models_configuration_says() {
    // A batch that is full leaves at once. One that is not is waited for, longer than the test.
    let joins = "[batching]\nsize_max = 4\ndelay_max = \"50s\"\ndispatch_when_idle = false\n";
    let triton = "max_batch_size: 4\n\
         dynamic_batching { max_queue_delay_microseconds: 50000000 }\n";
    let folder = ModelFolder::new()
        .with("joins", 1, &scaled::version(1))
        .with_file("joins", "config.toml", joins)
        .with("triton_joins", 1, &scaled::version(1))
        .with_file("triton_joins", "config.pbtxt", triton)
        .with("alone", 1, &scaled::version(1))
        .with_file("alone", "config.toml", &format!("{joins}mode = \"alone\"\n"))
        .with("triton_alone", 1, &scaled::version(1))
        .with_file("triton_alone", "config.pbtxt", "max_batch_size: 0\n");
    // One worker each: which worker a request goes to is another matter.
    let worker = serving("worker").arg(folder.path()).start();
    let serve = serving("serve").arg(folder.path()).start();
    let gateway = serving("gateway").arg(worker.address().to_string()).start();
    // Equal requests for models that are equal in all that matters share their answer.
    let mut different = 0..;
    for process in [&worker, &serve, &gateway] {
        for (model, rows_max, rows) in
            [("joins", 4, 4), ("triton_joins", 4, 4), ("alone", 0, 1), ("triton_alone", 0, 1)]
        {
            let path = format!("/v2/models/{model}");
            let config = process.client().get(&format!("{path}/config")).ok();
            assert_eq!(config["max_batch_size"], rows_max, "{model}: {config}");
            let asked: Vec<_> = (1..=4)
                .map(|_| {
                    let (client, path) = (process.client(), path.clone());
                    let input = [different.next().unwrap(), 5, 6];
                    std::thread::spawn(move || scaled::ask(&client, &path, Form::Binary, input))
                })
                .collect();
            for answered in asked {
                let answered = answered.join().unwrap().unwrap();
                assert_eq!(answered.batch_size, rows, "{model}: {answered:?}");
            }
        }
    }
}

#[test]
fn a_repeated_request_is_computed_again_where_the_models_configuration_says_so() {
    let scaled = scaled::version(1);
    let folder = ModelFolder::new()
        .with("kept", 1, &scaled)
        .with("computed", 1, &scaled)
        .with_file("computed", "config.toml", "cache = false\n")
        .with("triton_computed", 1, &scaled)
        .with_file("triton_computed", "config.pbtxt", "response_cache { enable: false }\n");
    for way in ways::all(&folder) {
        for (model, second) in
            [("kept", "hit"), ("computed", "computed"), ("triton_computed", "computed")]
        {
            let path = format!("/v2/models/{model}");
            let ask = |form| scaled::ask(&way.client, &path, form, [4, 5, 6]).unwrap().cache;
            assert_eq!(ask(Form::Json), "computed", "{model} of the {}", way.name);
            assert_eq!(ask(Form::Binary), second, "{model} of the {}", way.name);
            assert_eq!(ask(Form::Json), second, "{model} of the {}", way.name);
        }
    }
}

#[test]
fn a_version_or_a_model_that_only_one_worker_has_is_asked_of_that_one() {
    let folders = [
        ModelFolder::new().with("scale", 1, &scaled::version(1)),
        ModelFolder::new().with("scale", 2, &scaled::version(2)),
        ModelFolder::new().with("only", 5, &scaled::version(5)),
    ];
    let mut cluster = cluster().folders(&folders).start();
    let client = cluster.client();
    assert_eq!(listed(&client, "scale"), ["1", "2"]);
    assert_eq!(listed(&client, "only"), ["5"]);
    for (path, version, node) in [
        ("/v2/models/scale/versions/1", "1", "worker_1"),
        ("/v2/models/scale/versions/2", "2", "worker_2"),
        ("/v2/models/only", "5", "worker_3"),
        ("/v2/models/only/versions/5", "5", "worker_3"),
    ] {
        for n in 0..20 {
            let answered = scaled::ask_nth(&client, path, n).unwrap();
            assert_eq!((&*answered.version, &*answered.node), (version, node), "{path}");
        }
    }
    // Without a version either may answer, and says which it is.
    let load = Load::asking(client.address(), 2, |client, n| {
        scaled::ask_nth(client, "/v2/models/scale", n).map(|answered| answered.version)
    });
    load.wait_for_more(50);
    load.finish().assert_none_failed();
    assert_eq!(client.stats()["failovers"], 0);
    cluster.assert_breakers_closed();

    // What only a dead worker has is known and cannot be had; all else can.
    cluster.worker_mut(3).kill();
    cluster.wait_until_reachable(2);
    for path in ["/v2/models/only", "/v2/models/only/versions/5"] {
        let error = scaled::ask_nth(&client, path, 1).unwrap_err();
        assert!(error.starts_with("status 503") && error.contains("worker_3"), "{error}");
        assert_eq!(client.get(path).status, 200);
        assert_ne!(client.get(&format!("{path}/ready")).status, 200);
    }
    for version in ["1", "2"] {
        assert_eq!(answering(&client, &format!("/v2/models/scale/versions/{version}")), version);
    }
    cluster.spawn_worker(3);
    cluster.wait_until_reachable(3);
    assert_eq!(answering(&client, "/v2/models/only"), "5");
}
