//! REST beyond single inferences: compressed bodies, raw bodies, versions, the repository, and
//! what is refused on purpose. A worker and a gateway must not be told apart.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::models::{self, SETOSA};
use inferring_integration_tests::v2::{Message, read_binary};
use serde_json::{Value, json};

use crate::cluster;

/// The first worker and the gateway.
fn both(cluster: &Cluster) -> [Client; 2] {
    [cluster.worker(1).client(), cluster.client()]
}

fn compressed(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 0).unwrap(),
        _ => panic!("{coding}"),
    }
}

fn decompressed(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => GzDecoder::new(body).read_to_end(&mut out).unwrap(),
        "deflate" => ZlibDecoder::new(body).read_to_end(&mut out).unwrap(),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut out).unwrap(),
        _ => panic!("{coding}"),
    };
    out
}

const CODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];

/// Many flowers, and how they go over the wire.
fn flowers(count: usize) -> (Vec<u8>, Value) {
    let values: Vec<f32> = (0..count * 4).map(|n| (n % 79) as f32 / 10.0).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = json!({
        "inputs": [{
            "name": "input",
            "datatype": "FP32",
            "shape": [count, 4],
            "parameters": { "binary_data_size": raw.len() },
        }],
        "parameters": { "binary_data_output": true },
    });
    (raw, head)
}

#[test]
fn bodies_may_be_compressed_both_ways_and_lengths_are_those_before_it() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        // Enough that both sides hand the work over to other threads.
        let (raw, head) = flowers(20_000);
        let message = Message::new(&head, raw);
        let ask = |body: &[u8], headers: &[(&str, &str)]| {
            let mut fields = vec![(Message::HEAD_LENGTH, message.head_length.as_str())];
            fields.extend_from_slice(headers);
            client.post("/v2/models/iris/infer", &fields, body)
        };
        let (_, expected) = read_binary(&ask(&message.body, &[]));
        for coding in CODINGS {
            let body = compressed(coding, &message.body);
            assert!(body.len() < message.body.len() / 2, "{coding}: {}", body.len());
            let answer = ask(&body, &[("content-encoding", coding), ("accept-encoding", coding)]);
            assert_eq!(answer.header("content-encoding"), Some(coding));
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            let answer = Answer { body: decompressed(coding, &answer.body), ..answer };
            assert_eq!(read_binary(&answer).1, expected, "{coding}");
        }
        let twice = compressed("zstd", &compressed("gzip", &message.body));
        let (_, got) = read_binary(&ask(&twice, &[("content-encoding", "gzip, zstd")]));
        assert_eq!(got, expected);
    }
}

#[test]
fn small_answers_and_clients_that_do_not_want_it_get_plain_text() {
    let cluster = cluster().workers(1).start();
    let client = cluster.client();
    let body = json!({ "input_data": SETOSA }).to_string();
    let answer = client.post("/infer", &[("accept-encoding", "gzip")], &body);
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    let answer = client
        .send("GET", "/openapi.json", &[("accept-encoding", "gzip;q=0, identity")], b"")
        .unwrap();
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[test]
fn a_bomb_is_too_large_and_an_unknown_coding_is_told_the_known_ones() {
    let cluster = cluster()
        .workers(1)
        .worker_setting("server.body_size_max=1MiB")
        .gateway_setting("server.body_size_max=1MiB")
        .start();
    for client in both(&cluster) {
        let zeros = vec![b' '; 64 << 20];
        for coding in CODINGS {
            let answer =
                client.post("/infer", &[("content-encoding", coding)], compressed(coding, &zeros));
            assert_eq!(answer.status, 413, "{coding}: {}", answer.text());
            let garbage = client.post("/infer", &[("content-encoding", coding)], "not at all");
            assert_eq!(garbage.status, 400, "{coding}: {}", garbage.text());
            assert!(garbage.text().contains(coding), "{}", garbage.text());
        }
        let answer = client.post("/infer", &[("content-encoding", "br")], "x");
        assert_eq!(answer.status, 415);
        assert_eq!(answer.header("accept-encoding"), Some("zstd, gzip, deflate"));
        client.post_json("/infer", &json!({ "input_data": SETOSA })).ok();
    }
}

#[test]
fn a_body_of_raw_bytes_alone_is_the_one_input() {
    let cluster =
        cluster().workers(1).models([models::iris(), models::named("two_inputs")]).start();
    for client in both(&cluster) {
        let raw: Vec<u8> = SETOSA.iter().flat_map(|value| value.to_le_bytes()).collect();
        let alone = [(Message::HEAD_LENGTH, "0")];
        let (head, outputs) = read_binary(&client.post("/v2/models/iris/infer", &alone, &raw));
        assert_eq!(head["outputs"][0]["shape"], json!([1, 3]));
        let (first, _) = outputs[0].split_first_chunk::<4>().unwrap();
        assert!(f32::from_le_bytes(*first) > 0.9);
        let two_rows = [&raw[..], &raw].concat();
        let refused = client.post("/v2/models/iris/infer", &alone, &two_rows);
        assert_eq!(refused.status, 400, "{}", refused.text());
        let refused = client.post("/v2/models/two_inputs/infer", &alone, &raw);
        assert!(refused.text().contains("takes 2 inputs"), "{}", refused.text());
    }
}

#[test]
fn versions_stand_in_paths_and_names_may_be_percent_encoded() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        let body = json!({ "input_data": SETOSA });
        let plain = client.post_json("/models/iris/versions/1/infer", &body).ok();
        assert_eq!(plain["model"], "iris");
        client.post_json("/models/%69ris/infer", &body).ok();
        for action in ["", "/ready", "/config", "/stats"] {
            client.get(&format!("/v2/models/iris/versions/1{action}")).ok();
            let absent = client.get(&format!("/v2/models/iris/versions/9{action}"));
            assert_eq!(absent.status, 404, "{action}: {}", absent.text());
        }
        let absent = client.post_json("/models/iris/versions/9/infer", &body);
        assert_eq!(absent.status, 404, "{}", absent.text());
    }
}

#[test]
fn documents_about_models_have_the_form_that_clients_know() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        client.post_json("/infer", &json!({ "input_data": SETOSA })).ok();
        let config = client.get("/v2/models/iris/config").ok();
        assert_eq!(config["platform"], "onnxruntime_onnx");
        assert_eq!(
            config["input"],
            json!([{"name": "input", "data_type": "TYPE_FP32", "dims": [4]}]),
        );
        assert!(config["max_batch_size"].as_u64().unwrap() > 0);
        let one = client.get("/v2/models/iris/stats").ok();
        let statistics = &one["model_stats"][0];
        assert_eq!((&statistics["name"], &statistics["version"]), (&json!("iris"), &json!("1")));
        assert!(statistics["inference_stats"]["success"]["count"].as_u64().unwrap() > 0);
        assert_eq!(client.get("/v2/models/stats").ok()["model_stats"].as_array().unwrap().len(), 1);
        let index = client.post("/v2/repository/index", &[], "").ok();
        assert_eq!(
            index,
            json!([{"name": "iris", "version": "1", "state": "READY", "reason": ""}]),
        );
        let server = client.get("/v2").ok();
        assert!(server["extensions"].as_array().unwrap().contains(&json!("model_repository")));
    }
}

#[test]
fn a_model_is_unloaded_and_loaded_again() {
    let cluster = cluster().workers(1).start();
    let client = cluster.worker(1).client();
    let empty = json!({});
    let unloaded = client.post_json("/v2/repository/models/iris/unload", &empty).ok();
    assert_eq!(unloaded, json!({"name": "iris", "unload": true}));
    assert_eq!(client.get("/v2/models/iris/ready").status, 404);
    let ready = client.post_json("/v2/repository/index", &json!({ "ready": true })).ok();
    assert_eq!(ready, json!([]));
    let loaded = client.post_json("/v2/repository/models/iris/load", &empty).ok();
    assert_eq!(loaded, json!({"name": "iris", "load": true}));
    client.post_json("/models/iris/infer", &json!({ "input_data": SETOSA })).ok();
    for name in ["absent", "%2e%2e", "a%20b"] {
        let refused = client.post_json(&format!("/v2/repository/models/{name}/load"), &empty);
        assert_eq!(refused.status, 404, "{name}: {}", refused.text());
    }
}

#[test]
fn nan_goes_in_as_many_programs_write_it_and_out_where_it_is_asked_for() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        let tensor = r#"{"name": "input", "datatype": "FP32", "shape": [1, 4],
            "data": [NaN, 1, -Infinity, Infinity]}"#;
        let body =
            |parameters: &str| format!(r#"{{"inputs": [{tensor}], "parameters": {parameters}}}"#);
        let path = "/v2/models/iris/infer";
        let refused = client.post(path, &[], body("{}"));
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains("allow_nan"), "{}", refused.text());
        let allowed = client.post(path, &[], body(r#"{"allow_nan": true}"#));
        assert!(allowed.text().contains(r#""data":[NaN,NaN,NaN]"#), "{}", allowed.text());
        let (_, outputs) =
            read_binary(&client.post(path, &[], body(r#"{"binary_data_output": true}"#)));
        let (values, _) = outputs[0].as_chunks::<4>();
        assert!(values.iter().all(|&value| f32::from_le_bytes(value).is_nan()));
        let plain = r#"{"input_data": [NaN, 1, 2, 3], "allow_nan": true}"#;
        assert!(client.post("/infer", &[], plain).text().contains("[NaN,NaN,NaN]"));
    }
}

#[test]
fn what_other_servers_offer_and_this_one_does_not_is_told() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        for (method, path, what) in [
            ("GET", "/v2/systemsharedmemory/status", "shared memory"),
            ("POST", "/v2/cudasharedmemory/region/r/register", "shared memory"),
            ("GET", "/v2/trace/setting", "traces"),
            ("POST", "/v2/models/iris/generate", "generating"),
            ("GET", "/v2/logging", "log"),
        ] {
            let answer = client.send(method, path, &[], b"").unwrap();
            assert_eq!(answer.status, 400, "{path}: {}", answer.text());
            assert!(answer.text().contains(what), "{path}: {}", answer.text());
        }
    }
}

#[test]
fn methods_are_told_and_heads_have_no_body() {
    let cluster = cluster().workers(1).start();
    for client in both(&cluster) {
        let answer = client.send("OPTIONS", "/v2/models", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
        let answer = client.send("HEAD", "/v2/models/iris", &[], b"").unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        let long = format!("/{}", "x".repeat(5000));
        let answer = client.get(&long);
        assert_eq!(answer.status, 404);
        assert!(answer.body.len() < 1500, "{}", answer.text());
        assert_eq!(client.get("/v2/health/live").ok(), json!({ "live": true }));
    }
}

#[test]
fn the_committed_description_is_what_is_served() {
    let cluster = cluster().workers(1).start();
    let committed = std::fs::read(models::repository().join("docs/reference/openapi.json"));
    let committed: Value = serde_json::from_slice(&committed.unwrap()).unwrap();
    for client in both(&cluster) {
        assert_eq!(client.get("/openapi.json").ok(), committed);
    }
}
