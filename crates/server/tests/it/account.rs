//! What an answer tells beside its content, to whom, and how long requests are waited for.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use inferring_protocol::grpc::inference::infer_parameter::ParameterChoice;
use inferring_server::ServerConfig;
use tonic::body::Body;

use crate::fixture::{Connection, Running, echo, within_a_minute};
use crate::node::{FULL, HELD, LOST, ROUTED, STRANGE};

const PLAIN: &str = "infer";
const V2: &str = "v2/models/echo/infer";

/// The ways to ask for an inference.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    Json,
    Binary,
    Grpc,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Json, Way::Binary, Way::Grpc];

/// A request's fields.
type Fields<'a> = &'a [(&'static str, &'a str)];

/// The status and fields of an answer; of an error over gRPC its code.
async fn ask(running: &Running, way: Way, value: f32, fields: Fields<'_>) -> (u16, HeaderMap) {
    let head = |parameters: &str| {
        format!(
            r#"{{"parameters":{{{parameters}}},"inputs":[{{"name":"x","datatype":"FP32","shape":[1,1]"#
        )
    };
    let json = |parameters: &str| format!(r#"{},"data":[{value}]}}]}}"#, head(parameters));
    match way {
        Way::Plain => {
            let body = format!(r#"{{"input_data":[[{value}]]}}"#);
            post(running, PLAIN, fields, body.into_bytes()).await
        }
        Way::Json => post(running, V2, fields, json("").into_bytes()).await,
        Way::Binary => {
            let head = head(r#""binary_data_output":true"#) + "}]}";
            let length = head.len().to_string();
            let body = [head.as_bytes(), &value.to_le_bytes()].concat();
            let fields = [fields, &[("inference-header-content-length", &*length)]].concat();
            post(running, V2, &fields, body).await
        }
        Way::Grpc => {
            let mut request = tonic::Request::new(echo(&[value]));
            for (name, text) in fields {
                request.metadata_mut().insert(*name, text.parse().unwrap());
            }
            match within_a_minute(running.client().await.model_infer(request)).await {
                Ok(answer) => (200, answer.metadata().as_ref().clone()),
                Err(status) => (status.code() as u16, status.metadata().as_ref().clone()),
            }
        }
    }
}

async fn post(
    running: &Running,
    path: &str,
    fields: Fields<'_>,
    body: Vec<u8>,
) -> (u16, HeaderMap) {
    let mut connection = Connection::open(running.address).await;
    let mut request = Request::post(format!("{}{path}", running.origin()));
    for (name, text) in fields {
        request = request.header(*name, *text);
    }
    let request = request.body(Body::new(Full::new(body.into()))).unwrap();
    let answer = within_a_minute(connection.0.send_request(request)).await.unwrap();
    let (head, body) = answer.into_parts();
    within_a_minute(body.collect()).await.unwrap();
    (head.status.as_u16(), head.headers)
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().unwrap())
}

/// The names and milliseconds of an answer's timings.
fn timings(fields: &HeaderMap) -> Vec<(&str, f64)> {
    let metric = |metric: &'_ str| {
        let (name, time) = metric.split_once(";dur=").unwrap();
        // Of the field, which outlives the closure.
        let whole = text(fields, "server-timing").unwrap();
        let start = whole.find(&format!("{name};")).unwrap();
        (&whole[start..start + name.len()], time.parse().unwrap())
    };
    text(fields, "server-timing").unwrap().split(", ").map(metric).collect()
}

#[tokio::test]
async fn every_answer_tells_what_it_took() {
    let running = Running::start(ServerConfig::default());
    for way in WAYS {
        for (value, expected) in [
            (1.0, &[("queue", 0.0), ("compute", 0.003), ("worker", 0.005)][..]),
            (ROUTED, &[("queue", 0.0), ("compute", 0.003), ("worker", 0.005), ("gateway", 0.02)]),
            (LOST, &[("gateway", 0.025)]),
            (FULL, &[]),
        ] {
            let (_, fields) = ask(&running, way, value, &[]).await;
            let mut told = timings(&fields);
            let (name, total) = told.pop().unwrap();
            assert!(name == "total" && total > 0.0 && total < 60_000.0, "{fields:?}");
            assert_eq!(told, expected, "{way:?} {value}");
        }
    }
    // One that was never handed on, too.
    let (status, fields) = post(&running, V2, &[], b"{".to_vec()).await;
    assert_eq!(status, 400);
    assert_eq!(timings(&fields)[0].0, "total");
}

#[tokio::test]
async fn whoever_asks_is_told_why_and_nobody_else() {
    let running = Running::start(ServerConfig::default());
    let of_worker =
        "worker=\"echo_1\", cache=computed, batch=1, queue_us=0, compute_us=3, worker_us=5";
    let of_gateway = "worker=\"echo_1\", attempt=2, reason=retry, cache=computed, batch=1, \
                      queue_us=0, compute_us=3, worker_us=5, gateway_us=20";
    let of_error = "worker=\"echo_2\", attempt=2, reason=retry, gateway_us=25";
    for way in WAYS {
        for (value, expected) in [
            (1.0, Some(of_worker)),
            (ROUTED, Some(of_gateway)),
            (LOST, Some(of_error)),
            (FULL, None),
        ] {
            for (asked, expected) in [("1", expected), ("true", expected), ("0", None)] {
                let fields = [("x-inferring-explain", asked)];
                let (_, told) = ask(&running, way, value, &fields).await;
                assert_eq!(text(&told, "x-inferring-explain"), expected, "{way:?} {value}");
            }
            let (_, told) = ask(&running, way, value, &[]).await;
            assert_eq!(text(&told, "x-inferring-explain"), None, "{way:?} {value}");
        }
    }
}

#[tokio::test]
async fn answers_in_a_stream_are_explained_one_by_one() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    for (asked, values) in [(true, [1.0, ROUTED, LOST]), (false, [1.0, ROUTED, LOST])] {
        let requests = values.map(|value| echo(&[value]));
        let mut request = tonic::Request::new(stream_of(requests));
        if asked {
            request.metadata_mut().insert("x-inferring-explain", "1".parse().unwrap());
        }
        let mut answers = client.model_stream_infer(request).await.unwrap().into_inner();
        for reason in [None, Some("reason=retry"), Some("reason=retry")] {
            let answer = within_a_minute(answers.message()).await.unwrap().unwrap();
            let parameters = answer.infer_response.unwrap().parameters;
            let told = parameters.get("x-inferring-explain").map(|parameter| {
                let choice = parameter.parameter_choice.clone();
                let Some(ParameterChoice::StringParam(text)) = choice else { panic!("{choice:?}") };
                text
            });
            assert_eq!(told.is_some(), asked);
            if let (Some(told), Some(reason)) = (told, reason) {
                assert!(told.contains(reason), "{told}");
            }
        }
    }
}

fn stream_of<T: Send + 'static>(
    items: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::iter(items)
}

#[tokio::test]
async fn a_worker_tells_a_gateway_its_load_and_a_gateway_tells_nobody() {
    let running = Running::start(ServerConfig::default());
    let asks = [("x-inferring-load", "1")];
    for (value, expected) in [
        (1.0, Some("wait_us=120, run_us=45")),
        (FULL, Some("wait_us=120, run_us=45")),
        (ROUTED, None),
        (LOST, None),
    ] {
        for way in WAYS {
            let (_, told) = ask(&running, way, value, &asks).await;
            assert_eq!(text(&told, "x-inferring-load"), expected, "{way:?} {value}");
            // Who knows the load reckons for itself, and all others are told.
            assert_eq!(told.contains_key("server-timing"), expected.is_none());
            let (_, told) = ask(&running, way, value, &[]).await;
            assert_eq!(text(&told, "x-inferring-load"), None, "{way:?} {value}");
        }
    }
}

#[tokio::test]
async fn a_node_that_drains_tells_a_gateway_with_each_answer_and_nobody_else() {
    let running = Running::start(ServerConfig::default());
    let asks = [("x-inferring-load", "1")];
    for (is_ready, expected) in [(true, None), (false, Some("1")), (true, None)] {
        running.node.is_ready.store(is_ready, Ordering::SeqCst);
        for value in [1.0, FULL] {
            let (_, told) = ask(&running, Way::Binary, value, &asks).await;
            assert_eq!(text(&told, "x-inferring-draining"), expected, "{value}");
            let (_, told) = ask(&running, Way::Binary, value, &[]).await;
            assert_eq!(text(&told, "x-inferring-draining"), None, "{value}");
        }
    }
}

#[tokio::test]
async fn a_gateway_is_told_what_another_worker_may_know_and_nobody_else() {
    let running = Running::start(ServerConfig::default());
    let asks = [("x-inferring-load", "1")];
    for (value, status, expected) in
        [(1.0, 200, None), (FULL, 429, None), (STRANGE, 400, Some("1"))]
    {
        let (told_status, told) = ask(&running, Way::Binary, value, &asks).await;
        assert_eq!((told_status, text(&told, "x-inferring-elsewhere")), (status, expected));
        let (told_status, told) = ask(&running, Way::Binary, value, &[]).await;
        assert_eq!((told_status, text(&told, "x-inferring-elsewhere")), (status, None));
    }
}

/// What only a server or a proxy that it trusts may say means nothing when a client says it.
#[tokio::test]
async fn fault_46_fields_that_are_not_a_clients_to_send_are_neither_believed_nor_repeated() {
    let running = Running::start(ServerConfig::default());
    let spoofed = [
        ("x-forwarded-for", "10.6.6.6"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("forwarded", "for=10.6.6.6;host=evil.example"),
        ("x-real-ip", "10.6.6.6"),
        ("via", "1.1 evil.example"),
        ("server-timing", "total;dur=666"),
        ("x-inferring-load", "wait_us=0, run_us=0"),
        ("x-inferring-explain", "worker=\"evil\", attempt=1, reason=primary"),
        ("retry-after", "666"),
    ];
    for way in WAYS {
        for value in [1.0, ROUTED, LOST, FULL] {
            let (status, plain) = ask(&running, way, value, &[]).await;
            let (spoofed_status, told) = ask(&running, way, value, &spoofed).await;
            assert_eq!(spoofed_status, status, "{way:?} {value}");
            let names = |fields: &HeaderMap| {
                let mut names: Vec<_> = fields.keys().map(ToString::to_string).collect();
                names.sort();
                names
            };
            assert_eq!(names(&told), names(&plain), "{way:?} {value}");
            for (name, value) in &told {
                let value = String::from_utf8_lossy(value.as_bytes());
                assert!(!value.contains("evil") && !value.contains("666"), "{name}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn the_shortest_of_all_times_bounds_a_request() {
    let running = Running::start(ServerConfig::default());
    let (soon, late) = ("20", "60000");
    for fields in [
        &[("x-request-timeout-ms", soon)][..],
        &[("x-envoy-expected-rq-timeout-ms", soon)],
        &[("grpc-timeout", "20m")],
        &[("x-request-timeout-ms", late), ("x-envoy-expected-rq-timeout-ms", soon)],
        &[("x-request-timeout-ms", soon), ("x-envoy-expected-rq-timeout-ms", late)],
        &[("x-request-timeout-ms", late), ("grpc-timeout", "20m")],
    ] {
        for way in WAYS {
            let (status, _) = ask(&running, way, HELD, fields).await;
            let expected = match way {
                Way::Grpc => tonic::Code::DeadlineExceeded as u16,
                Way::Plain | Way::Json | Way::Binary => 504,
            };
            assert_eq!(status, expected, "{way:?} {fields:?}");
        }
    }
    // The body's own is in microseconds, and does not lengthen what a field says.
    for (in_body, field) in [(20_000, late), (60_000_000, soon)] {
        let body = format!(
            r#"{{"parameters":{{"timeout":{in_body}}},"inputs":[{{"name":"x","datatype":"FP32","shape":[1,1],"data":[{HELD}]}}]}}"#
        );
        let fields = [("x-request-timeout-ms", field)];
        let (status, _) = post(&running, V2, &fields, body.into_bytes()).await;
        assert_eq!(status, 504, "{in_body} {field}");
    }
}
