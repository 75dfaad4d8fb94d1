//! What a process answers while it loads its models, and what becomes of it.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::held::HeldModel;
use inferring_integration_tests::ports::HeldPort;
use inferring_integration_tests::process::{Launch, Process};
use inferring_integration_tests::scaled;
use inferring_integration_tests::waiting::{LONG, wait_for, wait_until};
use inferring_protocol::grpc::health::HealthCheckRequest;
use inferring_protocol::grpc::health::health_check_response::ServingStatus;
use inferring_protocol::grpc::inference::{
    ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerReadyRequest,
};
use serde_json::json;
use tonic::Code;

use crate::grpc_client::{health, in_time, inference, raw_scale};
use crate::versions::index_of;
use crate::{PROGRAM, serving};

const MODEL: &str = "/v2/models/scale";

/// The last model by its name: where there is one core, the others are loaded before it.
const HELD: &str = "stuck";

/// A process that is held up while it loads the second of its models.
struct Starting {
    process: Process,
    held: HeldModel,
    client: Client,
    _folder: ModelFolder,
    _port: HeldPort,
}

impl Starting {
    fn spawn(command: &str) -> Self {
        Self::spawn_as(command, |launch| launch)
    }

    fn spawn_as(command: &str, with: impl FnOnce(Launch) -> Launch) -> Self {
        let folder = ModelFolder::new().with("scale", 1, &scaled::version(1));
        let held = HeldModel::in_folder(&folder, HELD);
        let port = HeldPort::any();
        let launch = Launch::new(PROGRAM, [command, "--listen", &port.address().to_string()]);
        let process = with(launch.arg(folder.path())).spawn();
        let client = answering(port.address());
        Self { process, held, client, _folder: folder, _port: port }
    }

    fn address(&self) -> SocketAddr {
        self.client.address()
    }
}

/// A client of a process, once it answers that it lives.
#[track_caller]
fn answering(address: SocketAddr) -> Client {
    let client = Client::new(address);
    let live = || client.send("GET", "/v2/health/live", &[], b"").ok();
    assert_eq!(wait_for("the process answers", LONG, live).ok(), json!({ "live": true }));
    client
}

#[track_caller]
fn assert_loading(client: &Client, reason: &str) {
    let ready = client.get("/v2/health/ready");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    let told = ready.json()["reason"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(told.contains(reason), "{told}");
    let health = client.get("/health");
    assert_eq!((health.status, &health.json()["healthy"]), (503, &json!(false)));
    let infer =
        json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [3], "data": [1, 2, 3]}]});
    for answer in [
        client.get(MODEL),
        client.get(&format!("{MODEL}/ready")),
        client.get(&format!("{MODEL}/config")),
        client.get(&format!("{MODEL}/stats")),
        client.post_json(&format!("{MODEL}/infer"), &infer),
        client.post_json("/infer", &json!({"input_data": [1, 2, 3]})),
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains(reason), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
}

#[test]
fn fault_53_a_worker_answers_from_its_start_on_and_says_that_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut starting = Starting::spawn_as("worker", |launch| launch.env("NOTIFY_SOCKET", &path));
    let client = &starting.client;
    assert_loading(client, "the worker is still loading its models");
    assert_eq!(client.health()["loading"], true);
    wait_until("the other model is loaded", LONG, || {
        let loads = client.health()["loads"].clone();
        loads.as_array().unwrap().contains(&json!({"model": "scale", "succeeded": 1, "failed": 0}))
    });
    wait_until("the load has begun", LONG, || index_of(client, HELD)[0].1 == "LOADING");
    assert_eq!(index_of(client, "scale")[0].1, "LOADING", "it is not served by itself");
    assert_loading(client, "the worker is still loading its models");
    // What changes models waits for all of them.
    for path in ["load", "unload"] {
        let answer = client.post_json(&format!("/v2/repository/models/scale/{path}"), &json!({}));
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    assert!(manager.recv(&mut [0; 4096]).is_err(), "nobody is told that it is ready");
    starting.held.let_go();
    starting.process.wait_until_ready();
    assert_eq!(client.get("/v2/health/ready").ok(), json!({ "ready": true }));
    assert_eq!(client.health()["loading"], false);
    assert_eq!(scaled::ask_nth(client, MODEL, 1).unwrap().version, "1");
    assert_eq!(index_of(client, HELD)[0].1, "UNAVAILABLE");
    wait_until("the service manager is told", LONG, || manager.recv(&mut [0; 4096]).is_ok());
}

#[tokio::test]
async fn a_worker_that_loads_says_so_over_grpc() {
    let mut starting = Starting::spawn("worker");
    let (mut client, mut checks) =
        (inference(starting.address()).await, health(starting.address()).await);
    let mut status_of = async |service: &str| {
        let asked = HealthCheckRequest { service: service.to_owned() };
        in_time(checks.check(asked)).await.map(|told| told.into_inner().status())
    };
    let scale = || ("scale".to_owned(), String::new());
    let ready = |(name, version)| ModelReadyRequest { name, version };
    let metadata = |(name, version)| ModelMetadataRequest { name, version };
    assert!(in_time(client.server_live(ServerLiveRequest {})).await.unwrap().into_inner().live);
    let told = in_time(client.server_ready(ServerReadyRequest {})).await.unwrap();
    assert!(!told.into_inner().ready);
    assert!(!in_time(client.model_ready(ready(scale()))).await.unwrap().into_inner().ready);
    for service in ["", "scale"] {
        assert_eq!(status_of(service).await.unwrap(), ServingStatus::NotServing, "{service}");
    }
    let refusals = [
        in_time(client.model_infer(raw_scale([1, 2, 3]))).await.map(drop),
        in_time(client.model_metadata(metadata(scale()))).await.map(drop),
    ];
    for refusal in refusals.map(Result::unwrap_err) {
        assert_eq!(refusal.code(), Code::Unavailable);
        assert_eq!(refusal.message(), "the worker is still loading its models");
    }
    starting.held.let_go();
    starting.process.wait_until_ready();
    assert!(in_time(client.model_ready(ready(scale()))).await.unwrap().into_inner().ready);
    for service in ["", "scale"] {
        assert_eq!(status_of(service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(status_of(HELD).await.unwrap_err().code(), Code::NotFound);
    in_time(client.model_infer(raw_scale([1, 2, 3]))).await.unwrap();
}

#[test]
fn fault_53_a_gateway_takes_a_worker_in_when_it_has_loaded() {
    let mut starting = Starting::spawn("worker");
    let worker = format!("worker_1={}", starting.address());
    let gateway = serving("gateway").arg(worker).start();
    let client = gateway.client();
    let state = || client.stats()["workers"][0].clone();
    assert_eq!(state()["reachable"], false);
    assert_eq!(state()["last_probe_error"], "it is still loading its models");
    assert_loading(&client, "worker_1: it is still loading its models");
    starting.held.let_go();
    starting.process.wait_until_ready();
    wait_until("the gateway knows", LONG, || state()["reachable"] == true);
    assert_eq!(scaled::ask_nth(&client, MODEL, 1).unwrap().version, "1");
    let stats = client.stats();
    let worker = &stats["workers"][0];
    assert_eq!((&worker["requests"], &worker["failures"]), (&json!(1), &json!(0)));
    assert_eq!(stats["circuit_breakers"][0]["state"], "CLOSED");
    assert_eq!(starting.client.health()["errors"], 0, "it was asked nothing before");
}

#[test]
fn a_process_with_workers_of_its_own_answers_from_its_start_on() {
    let mut starting = Starting::spawn("serve");
    let client = &starting.client;
    assert_loading(client, "worker_1: it is still loading its models");
    starting.held.let_go();
    starting.process.wait_until_ready();
    assert_eq!(client.get("/v2/health/ready").ok(), json!({ "ready": true }));
    assert_eq!(scaled::ask_nth(client, MODEL, 1).unwrap().version, "1");
}

#[test]
fn a_process_that_must_load_what_it_cannot_ends_as_if_nobody_had_asked_it() {
    for command in ["worker", "serve"] {
        let mut starting = Starting::spawn_as(command, |launch| launch.set(["worker.strict=true"]));
        let reason = "still loading its models";
        assert_loading(&starting.client, reason);
        starting.held.let_go();
        let ended = starting.process.wait_for_end(LONG);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{}", ended.stderr);
        let error = ended.stderr.lines().last().unwrap();
        assert!(error.starts_with("error: cannot load version 1 of model `stuck`"), "{error}");
    }
}

/// Often, for some are inside ONNX Runtime then: nothing of it may be taken down under its threads.
#[test]
fn fault_53_a_process_that_is_told_to_stop_while_it_loads_ends_at_once_and_well() {
    for (stop, command) in [
        (Process::terminate as fn(&Process), "worker"),
        (Process::interrupt, "worker"),
        (Process::terminate, "serve"),
    ] {
        for _ in 0..5 {
            let mut starting = Starting::spawn(command);
            stop(&starting.process);
            let ended = starting.process.wait_for_end(LONG);
            assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
            assert!(ended.stderr.contains("stopping"), "{}", ended.stderr);
        }
    }
}
