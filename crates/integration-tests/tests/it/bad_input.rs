//! What every wrong request is told, word by word: the status, and a message that says what was
//! expected.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::{Cluster, ClusterPlan};
use inferring_integration_tests::faults::{read_answer, send_raw};
use inferring_integration_tests::models::{self, SETOSA};
use inferring_integration_tests::v2::Message;
use inferring_integration_tests::waiting::LONG;
use serde_json::{Value, json};

use crate::cluster;

/// One worker suffices to be refused by.
fn small_cluster() -> ClusterPlan {
    let models = ["poison_row", "two_inputs", "two_outputs", "uint8_sum", "fixed_batch3"];
    cluster().workers(1).models(std::iter::once(models::iris()).chain(models.map(models::named)))
}

/// What the worker and the gateway say to the same requests, for a snapshot. Where both say the
/// same it is shown once.
struct Transcript<'a> {
    cluster: &'a Cluster,
    text: String,
}

impl<'a> Transcript<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, text: String::new() }
    }

    fn ask(&mut self, what: &str, question: impl Fn(&Client) -> Answer) {
        let worker = shown(&question(&self.cluster.worker(1).client()));
        let gateway = shown(&question(&self.cluster.client()));
        if worker == gateway {
            writeln!(self.text, "{what}\n  {worker}").unwrap();
        } else {
            writeln!(self.text, "{what}\n  worker:  {worker}\n  gateway: {gateway}").unwrap();
        }
    }

    /// The transcript, once it is seen that worker and gateway are as well as before.
    fn finish(self) -> String {
        for client in [self.cluster.worker(1).client(), self.cluster.client()] {
            assert_eq!(client.health()["healthy"], true);
            client.post_json("/infer", &json!({ "input_data": SETOSA })).ok();
        }
        self.cluster.assert_breakers_closed();
        self.text
    }
}

fn shown(answer: &Answer) -> String {
    let mut shown = answer.status.to_string();
    for name in ["allow", "retry-after"] {
        if let Some(value) = answer.header(name) {
            write!(shown, " {name}={value}").unwrap();
        }
    }
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    write!(shown, " {}", document["error"].as_str().unwrap_or("no error")).unwrap();
    shown
}

#[test]
fn fault_52_wrong_plain_requests_are_told_what_was_expected() {
    let cluster = small_cluster().start();
    let mut transcript = Transcript::of(&cluster);
    for body in [
        "",
        "   ",
        "{",
        "nonsense",
        "[5.1, 3.5, 1.4, 0.2]",
        "{}",
        r#"{"inputs": [5.1, 3.5, 1.4, 0.2]}"#,
        r#"{"input_data": null}"#,
        r#"{"input_data": "5.1,3.5,1.4,0.2"}"#,
        r#"{"input_data": {"0": 5.1}}"#,
        r#"{"input_data": [5.1, "3.5", 1.4, 0.2]}"#,
        r#"{"input_data": [5.1, null, 1.4, 0.2]}"#,
        r#"{"input_data": [5.1, true, 1.4, 0.2]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, NaN]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, -Infinity]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 1e39]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0x10]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0.2,]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0.2]} and more"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0.2]"#,
        r#"{"input_data": []}"#,
        r#"{"input_data": [5.1]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0.2, 9.9]}"#,
        r#"{"input_data": [5.1, 3.5, 1.4, 0.2, 5.1, 3.5, 1.4, 0.2]}"#,
        r#"{"input_data": [[5.1, 3.5], [1.4, 0.2]]}"#,
        r#"{"input_data": [[5.1, 3.5, 1.4, 0.2], [1.4, 0.2]]}"#,
        r#"{"input_data": [[[5.1, 3.5, 1.4, 0.2]]]}"#,
        r#"{"input_data": [], "shape": [0, 4]}"#,
        r#"{"input_data": [1, 2, 3, 4], "shape": [2, 4]}"#,
        r#"{"input_data": [1, 2, 3, 4], "shape": [4, 1]}"#,
        r#"{"input_data": [1, 2, 3, 4], "shape": [-1, 4]}"#,
        r#"{"input_data": [1, 2, 3, 4], "shape": [18446744073709551615, 18446744073709551615]}"#,
        r#"{"input_data": [1, 2, 3, 4], "request_id": 7}"#,
        r#"{"input_data": [1, 2, 3, 4], "request_id": ""}"#,
        r#"{"input_data": [1, 2, 3, 4], "request_id": "a\nb"}"#,
    ] {
        transcript.ask(body, |client| client.post("/infer", &[], body));
    }
    for (model, body) in [
        ("absent", r#"{"input_data": [1, 2, 3, 4]}"#),
        ("two_inputs", r#"{"input_data": [1, 2]}"#),
        ("uint8_sum", r#"{"input_data": [[1, 256]]}"#),
        ("uint8_sum", r#"{"input_data": [[1, -1]]}"#),
        ("uint8_sum", r#"{"input_data": [[1, 1.5]]}"#),
        ("uint8_sum", r#"{"input_data": [1, 2, 3]}"#),
        ("fixed_batch3", r#"{"input_data": [1, 2]}"#),
        ("poison_row", r#"{"input_data": [10]}"#),
    ] {
        let path = format!("/models/{model}/infer");
        transcript.ask(&format!("{model} {body}"), |client| client.post(&path, &[], body));
    }
    insta::assert_snapshot!(transcript.finish());
}

#[test]
fn wrong_paths_methods_and_header_fields_are_told_what_was_expected() {
    let cluster = small_cluster().start();
    let mut transcript = Transcript::of(&cluster);
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/infer"),
        ("DELETE", "/infer"),
        ("PUT", "/models/iris/infer"),
        ("POST", "/infer/"),
        ("POST", "/health"),
        ("PATCH", "/stats"),
        ("POST", "/v2/models/iris"),
        ("GET", "/v2/models/iris/infer"),
        ("GET", "/v2/models/absent"),
        ("GET", "/v2/models/absent/ready"),
        ("GET", "/v2/models/%2e%2e/ready"),
        ("GET", "/models/../../etc/passwd"),
    ] {
        transcript.ask(&format!("{method} {path}"), |client| {
            client.send(method, path, &[], b"").unwrap()
        });
    }
    let long = "x".repeat(1000);
    for (name, value) in [
        ("x-request-id", ""),
        ("x-request-id", "two words"),
        ("x-request-id", "a\ttab"),
        ("x-request-id", &long),
        ("x-request-timeout-ms", ""),
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "-5"),
        ("x-request-timeout-ms", "1.5"),
        ("x-request-timeout-ms", "2s"),
        ("x-request-timeout-ms", "99999999999999999999"),
        ("x-request-timeout-ms", "0"),
        ("inference-header-content-length", "x"),
        ("inference-header-content-length", "-1"),
        ("inference-header-content-length", "40"),
    ] {
        let what = format!("{name}: {}", if value.len() > 100 { "x 1000 times" } else { value });
        transcript.ask(&what, |client| {
            client.post("/infer", &[(name, value)], r#"{"input_data": [5.1, 3.5, 1.4, 0.2]}"#)
        });
    }
    insta::assert_snapshot!(transcript.finish());
}

/// A tensor for `input` of the iris classifier, with some members other than they should be.
fn iris_with(members: &Value) -> Value {
    let mut tensor =
        json!({"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]});
    for (name, value) in members.as_object().unwrap() {
        match value {
            Value::Null => tensor.as_object_mut().unwrap().remove(name),
            value => tensor.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    json!({ "inputs": [tensor] })
}

#[test]
fn wrong_requests_of_open_inference_protocol_are_told_what_was_expected() {
    let cluster = small_cluster().start();
    let mut transcript = Transcript::of(&cluster);
    let good = iris_with(&json!({}));
    for body in [
        json!([]),
        json!({}),
        json!({ "inputs": {} }),
        json!({ "inputs": [] }),
        json!({ "inputs": [{}] }),
        json!({ "inputs": [5] }),
        json!({ "inputs": [good["inputs"][0], good["inputs"][0]] }),
        iris_with(&json!({ "name": null })),
        iris_with(&json!({ "name": "x" })),
        iris_with(&json!({ "datatype": null })),
        iris_with(&json!({ "datatype": "FLOAT" })),
        iris_with(&json!({ "datatype": "FP64" })),
        iris_with(&json!({ "datatype": "BYTES", "data": ["a", "b", "c", "d"] })),
        iris_with(&json!({ "shape": null })),
        iris_with(&json!({ "shape": [4] })),
        iris_with(&json!({ "shape": [1, 5] })),
        iris_with(&json!({ "shape": [1, 5], "data": [1, 2, 3, 4, 5] })),
        iris_with(&json!({ "shape": [-1, 4] })),
        iris_with(&json!({ "shape": [4294967296_u64, 4294967296_u64] })),
        iris_with(&json!({ "data": null })),
        iris_with(&json!({ "data": "AAAA" })),
        iris_with(&json!({ "data": [1, 2, 3] })),
        iris_with(&json!({ "data": [1, 2, 3, "4"] })),
        json!({ "inputs": good["inputs"], "outputs": [{ "name": "x" }] }),
        json!({ "inputs": good["inputs"], "outputs": ["probabilities"] }),
        json!({ "inputs": good["inputs"], "parameters": { "timeout": "soon" } }),
        json!({ "inputs": good["inputs"], "id": 7 }),
    ] {
        transcript
            .ask(&body.to_string(), |client| client.post_json("/v2/models/iris/infer", &body));
    }
    let path = "/v2/models/two_inputs/infer";
    let a = json!({"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]});
    let b = json!({"name": "b", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]});
    for inputs in [json!([a]), json!([a, a]), json!([a, b])] {
        let body = json!({ "inputs": inputs });
        transcript.ask(&format!("two_inputs {body}"), |client| client.post_json(path, &body));
    }
    let path = "/v2/models/absent/infer";
    transcript.ask("model `absent`", |client| client.post_json(path, &good));
    insta::assert_snapshot!(transcript.finish());
}

#[test]
fn lengths_that_lie_are_told_what_does_not_add_up() {
    let cluster = small_cluster().start();
    let mut transcript = Transcript::of(&cluster);
    let head = |size: Value| iris_with(&json!({ "data": null, "parameters": size }));
    let raw = |count: usize| vec![0_u8; count];
    for (what, message) in [
        ("15 bytes announced", Message::new(&head(json!({"binary_data_size": 15})), raw(15))),
        ("16 announced, 12 sent", Message::new(&head(json!({"binary_data_size": 16})), raw(12))),
        ("16 announced, 20 sent", Message::new(&head(json!({"binary_data_size": 16})), raw(20))),
        ("20 announced and sent", Message::new(&head(json!({"binary_data_size": 20})), raw(20))),
        ("-1 announced", Message::new(&head(json!({"binary_data_size": -1})), raw(16))),
        ("2^63 announced", Message::new(&head(json!({"binary_data_size": 1_u64 << 63})), raw(16))),
        ("nothing announced, 12 sent", Message::new(&head(json!({})), raw(12))),
        (
            "data and raw bytes",
            Message::new(&iris_with(&json!({"parameters": {"binary_data_size": 16}})), raw(16)),
        ),
        (
            "a head cut in the middle",
            Message { head_length: "10".into(), ..Message::new(&head(json!({})), raw(16)) },
        ),
        (
            "a head longer than the body",
            Message { head_length: "9999".into(), ..Message::new(&head(json!({})), raw(16)) },
        ),
    ] {
        transcript.ask(what, |client| {
            let headers = [(Message::HEAD_LENGTH, message.head_length.as_str())];
            client.post("/v2/models/iris/infer", &headers, &message.body)
        });
    }
    insta::assert_snapshot!(transcript.finish());
}

#[test]
fn fault_39_a_body_is_taken_up_to_the_limit_and_refused_one_byte_over_it() {
    let cluster = cluster()
        .workers(1)
        .worker_setting("server.body_size_max=1KiB")
        .gateway_setting("server.body_size_max=1KiB")
        .start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        let question = json!({ "input_data": SETOSA }).to_string();
        let padded = |length: usize| format!("{question:length$}");
        client.post("/infer", &[], padded(1024)).ok();
        let refused = client.post("/infer", &[], padded(1025));
        assert_eq!(refused.status, 413);
        assert!(refused.text().contains("larger than the limit of 1024 bytes"));

        let chunked = |length: usize| {
            let head = "POST /infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            let body = padded(length);
            let (first, second) = body.split_at(1000);
            let chunks = [first, second].map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
            let request = format!("{head}{}0\r\n\r\n", chunks.concat());
            send_raw(client.address(), request.as_bytes(), Duration::from_secs(10))
        };
        assert_eq!(chunked(1024).status(), Some(200));
        assert_eq!(chunked(1025).status(), Some(413));
        // A client that lies about its chunks gains nothing: it is refused once it is over.
        let lie = "POST /infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   fffffffffffffff\r\n";
        let lie = format!("{lie}{}", "x".repeat(2000));
        let answer = send_raw(client.address(), lie.as_bytes(), Duration::from_secs(10));
        assert_eq!(answer.status(), Some(413), "{answer:?}");
        client.post("/infer", &[], &question).ok();
    }
}

#[test]
fn by_default_a_body_of_more_than_64_mebibytes_is_refused_before_it_is_sent() {
    let cluster = cluster().workers(1).start();
    for address in [cluster.worker(1).address(), cluster.gateway().address()] {
        let head = |length: u64| {
            format!("POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
        };
        let over = head((64 << 20) + 1);
        let answer = send_raw(address, over.as_bytes(), Duration::from_secs(10));
        assert_eq!(answer.status(), Some(413), "{answer:?}");
        assert!(answer.text.contains("67108864 bytes"), "{answer:?}");
        // One byte less is waited for.
        let under = send_raw(address, head(64 << 20).as_bytes(), Duration::from_millis(200));
        assert_eq!((under.status(), under.closed), (None, false), "{under:?}");
    }
}

#[test]
fn a_client_that_sends_all_of_a_body_over_the_limit_still_reads_why_it_is_refused() {
    let limit = "server.body_size_max=1MiB";
    let cluster = cluster().workers(1).worker_setting(limit).gateway_setting(limit).start();
    let body = vec![b' '; 16 << 20];
    for client in [cluster.worker(1).client(), cluster.client()] {
        for path in ["/infer", "/no/such/path"] {
            // A client that reads nothing before it has sent everything.
            let mut stream = TcpStream::connect(client.address()).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            let length = body.len();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = if path == "/infer" { 413 } else { 404 };
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
            assert!(answer.ends_with("}"), "cut: {answer}");
        }
    }
}

#[test]
fn a_refused_client_keeps_its_connection_where_its_request_was_small() {
    let cluster = cluster().workers(1).start();
    let question = json!({ "input_data": SETOSA }).to_string();
    for address in [cluster.worker(1).address(), cluster.gateway().address()] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        for n in 0..200 {
            let (path, field, status) = match n % 4 {
                0 => ("/no/such/path", "", 404),
                1 => ("/health", "", 405),
                2 => ("/infer", "X-Request-Timeout-Ms: soon\r\n", 400),
                _ => ("/infer", "", 200),
            };
            // The body in a packet of its own, as most clients send it.
            let length = question.len();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: x\r\n{field}Content-Length: {length}");
            stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
            stream.write_all(question.as_bytes()).unwrap();
            let answer = read_answer(&mut stream).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
        }
    }
}
