//! What is said of systems in every state, without running any.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use inferring_backend::ort::library::LibraryError;
use inferring_backend::ort::{Device, StartError};
use inferring_gateway::{BreakerSettings, ProbeConfig};
use inferring_protocol::rest::documents::{
    AllotmentDocument, BreakerDocument, EjectedDocument, EndpointDocument, GatewayStats,
    MembershipDocument,
};
use inferring_types::{
    BackendStatus, BatchStatus, Batching, CacheOutcome, CacheStatus, ContentDigest, DataType,
    DeviceStatus, Dimension, InferResponse, ModelMetadata, ModelStatus, ModelVersion, NamedTensor,
    RequestId, RowAxes, Served, ShapeSpec, Tensor, TensorSpec, WorkerLoad, WorkerStatus,
};

use super::check::{Check, Kind, Verdict};
use super::facts::{
    Configuration, Engine, Facts, GatewayState, NamedBy, Node, Port, Problem, Workers,
};
use super::judge;
use super::report::Report;
use super::system::{Owner, Process};
use super::trial::{Refusal, Trial};
use crate::http::HttpError;

const SECONDS: Duration = Duration::from_secs(2);

#[test]
fn a_system_in_order() {
    let report = Report::new(judge(&in_order()));
    assert!(report.is_healthy());
    insta::assert_snapshot!(report.as_text(false));
}

#[test]
fn a_worker_killed_and_one_stopped() {
    let mut facts = in_order();
    lose(&mut facts, 1, "cannot connect to 127.0.0.1:8002");
    facts.workers.nodes[1].port = Port::Silent;
    facts.workers.nodes[1].state = Err(HttpError::Refused.into());
    lose(&mut facts, 2, "it did not answer its health check within 2s");
    facts.workers.nodes[2].port = listening(103, true);
    facts.workers.nodes[2].state = Err(HttpError::Timeout(SECONDS).into());
    facts.processes.as_mut().unwrap()[2].stopped = true;
    let Trial::Made { workers, .. } = &mut facts.trial else { unreachable!() };
    workers[1] = None;
    workers[2] = None;
    let report = Report::new(judge(&facts));
    assert!(!report.is_healthy());
    insta::assert_snapshot!(report.as_text(false));
}

#[test]
fn a_worker_that_still_loads_is_no_failure_and_lacks_no_model() {
    let mut facts = in_order();
    let loading = facts.workers.nodes[1].state.as_mut().unwrap();
    (loading.ready, loading.loading) = (false, true);
    loading.models.clear();
    let checks = judge(&facts);
    let worker = find(&checks, Kind::Worker, Some("127.0.0.1:8002"));
    assert_eq!(worker.verdict, Verdict::Warn);
    assert_eq!(worker.reason, "worker_2 is still loading its models");
    assert_eq!(find(&checks, Kind::Agreement, Some("models")).verdict, Verdict::Ok);
}

#[test]
fn nothing_at_all() {
    let report = Report::new(judge(&nothing()));
    insta::assert_snapshot!(report.as_text(false));
    insta::assert_snapshot!(report.as_json().unwrap());
}

#[test]
fn a_gateway_with_its_workers_in_one_process() {
    let mut facts = in_order();
    facts.workers = Workers { named_by: NamedBy::Gateway, nodes: Vec::new(), in_process: 3 };
    let Trial::Made { workers, .. } = &mut facts.trial else { unreachable!() };
    workers.clear();
    let checks = judge(&facts);
    assert_eq!(find(&checks, Kind::Worker, None).verdict, Verdict::Skipped);
    assert_eq!(find(&checks, Kind::DirectInference, None).verdict, Verdict::Skipped);
    let end_to_end = find(&checks, Kind::EndToEndInference, None);
    assert_eq!(end_to_end.verdict, Verdict::Ok);
    assert!(end_to_end.reason.contains("no other answer to compare with"), "{end_to_end:?}");
    assert!(Report::new(checks).is_healthy());
}

#[test]
fn everything_not_in_order_comes_with_a_next_step() {
    for facts in [nothing(), everything_wrong()] {
        for check in judge(&facts) {
            if matches!(check.verdict, Verdict::Warn | Verdict::Fail) {
                assert!(check.next_step.is_some_and(|step| !step.is_empty()), "{:?}", check.check);
            }
        }
    }
}

#[test]
fn a_breaker_that_is_not_closed_tells_why_and_when_it_heals() {
    for (state, successes, reachable, reason, next_step) in [
        ("OPEN", 0, true, "OPEN, opened by failures in a row", "in 17 s trial requests go through"),
        (
            "OPEN",
            0,
            false,
            "its probe fails: refused",
            "once a probe (every 1s by these settings) reaches it",
        ),
        ("HALF_OPEN", 1, true, "HALF_OPEN", "1 of 2 trial requests have succeeded"),
    ] {
        let mut facts = in_order();
        if !reachable {
            lose(&mut facts, 1, "refused");
        }
        let breaker = &mut gateway(&mut facts).stats.circuit_breakers[1];
        (breaker.state, breaker.failures, breaker.successes) = (state.to_owned(), 5, successes);
        breaker.opened_by = Some("failures in a row".to_owned());
        breaker.trial_in_seconds = (state == "OPEN").then_some(17.2);
        let checks = judge(&facts);
        let check = find(&checks, Kind::Breaker, Some("worker_2"));
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.reason.contains(reason), "{check:?}");
        assert!(check.next_step.as_ref().unwrap().contains(next_step), "{check:?}");
        assert!(Report::new(checks).is_healthy(), "a breaker that does its work is no failure");
    }
}

#[test]
fn a_worker_that_is_left_alone_is_told_of_and_no_failure() {
    let mut facts = in_order();
    let worker = &mut gateway(&mut facts).stats.workers[1];
    worker.ejections = 2;
    worker.ejected = Some(EjectedDocument {
        reason: "it takes 90 times as long as others".to_owned(),
        returns_in_seconds: 41.7,
    });
    let checks = judge(&facts);
    let check = find(&checks, Kind::Breaker, Some("worker_2"));
    assert_eq!(check.verdict, Verdict::Warn);
    assert!(check.reason.contains("90 times as long as others (for the 2. time)"), "{check:?}");
    assert!(check.next_step.as_ref().unwrap().contains("again in 42 s"), "{check:?}");
    assert!(Report::new(checks).is_healthy());
}

#[test]
fn one_name_for_two_files_is_a_failure_and_a_missing_model_a_warning() {
    let models = |facts: &Facts| find(&judge(facts), Kind::Agreement, Some("models")).clone();

    let mut facts = in_order();
    facts.workers.nodes[2].state.as_mut().unwrap().models[0].metadata = model("iris", b"other");
    let check = models(&facts);
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.reason.contains("at 127.0.0.1:8003"), "{check:?}");

    let mut facts = in_order();
    facts.workers.nodes[2].state.as_mut().unwrap().models.clear();
    let check = models(&facts);
    assert_eq!(check.verdict, Verdict::Warn);
    assert_eq!(check.reason, "`iris` is missing at 127.0.0.1:8003");

    let mut facts = in_order();
    gateway(&mut facts).models = vec![model("magika", b"magika")];
    let check = models(&facts);
    assert_eq!(check.verdict, Verdict::Warn);
    assert_eq!(check.reason, "`iris` is missing at the gateway; `magika` is at the gateway alone");

    let mut facts = in_order();
    gateway(&mut facts).models = vec![model("iris", b"yesterday's")];
    assert_eq!(models(&facts).verdict, Verdict::Fail);
}

#[test]
fn the_gateways_answer_is_held_against_the_workers() {
    let other = [0.2, 0.3, 0.5];
    for (gateway, workers, end_to_end, agreement) in [
        (ANSWER, [ANSWER, ANSWER, ANSWER], Verdict::Ok, Verdict::Ok),
        (ANSWER, [ANSWER, ANSWER, other], Verdict::Ok, Verdict::Fail),
        (other, [ANSWER, ANSWER, ANSWER], Verdict::Fail, Verdict::Ok),
        (ANSWER, [ROUNDED, ROUNDED, ROUNDED], Verdict::Ok, Verdict::Ok),
        (ANSWER, [ANSWER, ROUNDED, ANSWER], Verdict::Ok, Verdict::Warn),
    ] {
        let mut facts = in_order();
        facts.trial = Trial::Made {
            model: model("iris", b"iris"),
            gateway: Some(Ok(answer("worker_1", gateway))),
            workers: workers.map(|values| Some(Ok(answer("worker_1", values)))).into(),
        };
        let checks = judge(&facts);
        let check = find(&checks, Kind::EndToEndInference, None);
        assert_eq!(check.verdict, end_to_end, "{check:?}");
        let check = find(&checks, Kind::Agreement, Some("answers"));
        assert_eq!(check.verdict, agreement, "{check:?}");
    }
}

#[test]
fn an_inference_that_fails_is_told_in_the_servers_words() {
    let mut facts = in_order();
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let refusal = Refusal::Status { status, message: "the model failed".to_owned() };
    facts.trial = Trial::Made {
        model: model("iris", b"iris"),
        gateway: Some(Err(refusal.clone())),
        workers: vec![Some(Err(refusal)), Some(Ok(answer("worker_2", ANSWER))), None],
    };
    let checks = judge(&facts);
    for (kind, subject) in
        [(Kind::DirectInference, Some("127.0.0.1:8001")), (Kind::EndToEndInference, None)]
    {
        let check = find(&checks, kind, subject);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.reason.contains("the model failed"), "{check:?}");
    }
    let skipped = find(&checks, Kind::DirectInference, Some("127.0.0.1:8003"));
    assert_eq!(skipped.verdict, Verdict::Skipped);
}

#[test]
fn a_model_without_a_made_up_input_is_skipped_and_no_failure() {
    let mut facts = in_order();
    facts.trial = Trial::NoInput { reason: "model `iris` takes 2 inputs".to_owned() };
    let checks = judge(&facts);
    for kind in [Kind::DirectInference, Kind::EndToEndInference] {
        let check = find(&checks, kind, None);
        assert_eq!(check.verdict, Verdict::Skipped);
        assert!(check.reason.contains("takes 2 inputs"), "{check:?}");
    }
    assert!(Report::new(checks).is_healthy());
}

#[test]
fn the_library_is_missed_only_where_nobody_serves_without_it() {
    for (mut facts, verdict) in [(in_order(), Verdict::Warn), (nothing(), Verdict::Fail)] {
        facts.engine = Err(no_library());
        let checks = judge(&facts);
        let check = find(&checks, Kind::Library, None);
        assert_eq!(check.verdict, verdict);
        assert!(check.next_step.as_ref().unwrap().contains("pip install onnxruntime"), "{check:?}");
        assert_eq!(find(&checks, Kind::Device, None).verdict, Verdict::Skipped);
    }
}

#[test]
fn a_cpu_is_a_warning_only_beside_an_idle_gpu() {
    let cpu = |reason: Option<&str>| {
        let fallback_reason = reason.map(str::to_owned);
        Ok(DeviceStatus { provider: "CPUExecutionProvider".to_owned(), fallback_reason })
    };
    for (asked, device, has_gpu, verdict) in [
        (Device::Auto, cpu(Some("no CUDA")), false, Verdict::Ok),
        (Device::Auto, cpu(Some("no CUDA")), true, Verdict::Warn),
        (Device::Cpu, cpu(None), true, Verdict::Ok),
        (Device::Cuda(0), Err("no CUDA".to_owned()), false, Verdict::Fail),
    ] {
        let mut facts = in_order();
        facts.engine = Ok(Engine { status: engine().status, asked, device, has_gpu });
        let checks = judge(&facts);
        assert_eq!(find(&checks, Kind::Device, None).verdict, verdict, "{asked} {has_gpu}");
    }
}

#[test]
fn a_port_is_judged_with_who_listens_and_with_who_answers() {
    let nginx = Owner { pid: 9, name: "nginx".to_owned(), stopped: false };
    let nginx = Port::Listening { owner: Some(nginx), user: 33 };
    let hidden = Port::Listening { owner: None, user: 33 };
    let stranger = || Err(Problem::Stranger("it is no node".to_owned()));
    let answers = || in_order().workers.nodes.remove(0).state;
    for (port, state, verdict, reason) in [
        (nginx.clone(), stranger(), Verdict::Fail, "nginx (process 9) listens"),
        (nginx, answers(), Verdict::Ok, "nginx (process 9) listens"),
        (hidden, stranger(), Verdict::Ok, "a process of user 33 listens"),
        (Port::Silent, answers(), Verdict::Ok, "another network namespace"),
        (Port::Silent, Err(HttpError::Refused.into()), Verdict::Fail, "nobody listens"),
        (Port::Elsewhere, Err(HttpError::Refused.into()), Verdict::Skipped, "another machine"),
    ] {
        let mut facts = in_order();
        (facts.workers.nodes[0].port, facts.workers.nodes[0].state) = (port, state);
        let checks = judge(&facts);
        let check = find(&checks, Kind::Port, Some("127.0.0.1:8001"));
        assert_eq!(check.verdict, verdict, "{check:?}");
        assert!(check.reason.contains(reason), "{check:?}");
    }
}

#[test]
fn who_looks_at_the_wrong_port_is_told_the_right_one() {
    let mut facts = nothing();
    facts.processes = Ok(vec![Process {
        pid: 7,
        command: "inferring serve iris.onnx --listen 127.0.0.1:0".to_owned(),
        stopped: false,
        listens: vec![([127, 0, 0, 1], 46_689).into()],
    }]);
    let checks = judge(&facts);
    let next_step = &find(&checks, Kind::Port, Some("127.0.0.1:8000")).next_step;
    assert_eq!(
        next_step.as_deref(),
        Some(
            "process 7 listens on 127.0.0.1:46689 instead of 127.0.0.1:8000: --gateway 127.0.0.1:46689"
        )
    );
}

#[test]
fn a_reason_of_many_lines_gets_one() {
    let check = Kind::Configuration.at_all().fail("not TOML:\n  |\n1 | x = =\n", "step");
    assert_eq!(check.reason, "not TOML: | 1 | x = =");
}

#[test]
fn colour_is_only_around_the_verdict() {
    let report = Report::new(vec![Kind::Library.at_all().fail("reason", "step")]);
    let coloured = report.as_text(true);
    assert!(coloured.starts_with("\x1b[1;31mfail   \x1b[0m library  reason\n"), "{coloured:?}");
    assert!(!report.as_text(false).contains('\x1b'));
}

fn find<'a>(checks: &'a [Check], kind: Kind, subject: Option<&str>) -> &'a Check {
    checks
        .iter()
        .find(|check| check.check == kind && check.subject.as_deref() == subject)
        .unwrap_or_else(|| panic!("no check {kind:?} of {subject:?} in {checks:#?}"))
}

/// A gateway over three workers on this machine; the doctor's request was answered by the first.
fn in_order() -> Facts {
    let ports = 1..=3;
    let process = |number: u32, command: String, port: u16| Process {
        pid: 100 + number,
        command,
        stopped: false,
        listens: vec![([127, 0, 0, 1], port).into()],
    };
    let mut processes: Vec<_> = ports
        .clone()
        .map(|n| process(n, format!("inferring worker iris.onnx --id worker_{n}"), 8000 + n as u16))
        .collect();
    processes.push(process(4, "inferring gateway ..".to_owned(), 8000));
    let nodes = ports.clone().map(|number| Node {
        address: format!("127.0.0.1:{}", 8000 + number).parse().unwrap(),
        known_as: Some(format!("worker_{number}")),
        port: listening(100 + number, false),
        state: Ok(worker(number)),
    });
    let state = GatewayState {
        ready: true,
        stats: GatewayStats {
            total_workers: 3,
            reachable_workers: 3,
            uptime_seconds: 60.0,
            total_requests: 12,
            in_flight: 0,
            errors: 1,
            failovers: 0,
            retries: 0,
            hedges: 0,
            hedges_won: 0,
            retry_budget_exhausted: 0,
            admission_limit: 2048,
            admission_refused: 0,
            membership: MembershipDocument::default(),
            panic: false,
            hot_keys: 0,
            circuit_breakers: ports.clone().map(closed_breaker).collect(),
            workers: ports.map(endpoint).collect(),
            models: vec!["iris".to_owned()],
        },
        models: vec![model("iris", b"iris")],
    };
    Facts {
        engine: Ok(engine()),
        configuration: configuration(),
        processes: Ok(processes),
        gateway: Node {
            address: "127.0.0.1:8000".parse().unwrap(),
            known_as: None,
            port: listening(104, false),
            state: Ok(state),
        },
        workers: Workers { named_by: NamedBy::Gateway, nodes: nodes.collect(), in_process: 0 },
        trial: Trial::Made {
            model: model("iris", b"iris"),
            gateway: Some(Ok(answer("worker_1", ANSWER))),
            workers: (1..=3)
                .map(|number| Some(Ok(answer(&format!("worker_{number}"), ANSWER))))
                .collect(),
        },
    }
}

/// A machine on which nothing was installed or started.
fn nothing() -> Facts {
    let gateway = Node {
        address: "127.0.0.1:8000".parse().unwrap(),
        known_as: None,
        port: Port::Silent,
        state: Err(HttpError::Refused.into()),
    };
    Facts {
        engine: Err(no_library()),
        configuration: configuration(),
        processes: Ok(Vec::new()),
        gateway,
        workers: Workers { named_by: NamedBy::Nobody, nodes: Vec::new(), in_process: 0 },
        trial: Trial::NoModel,
    }
}

/// As many troubles as fit into one system.
fn everything_wrong() -> Facts {
    let mut facts = in_order();
    facts.configuration.problem = Some("unknown setting `x`".to_owned());
    facts.engine = Ok(Engine { device: Err("no CUDA".to_owned()), ..engine() });
    facts.processes.as_mut().unwrap()[0].stopped = true;
    lose(&mut facts, 0, "refused");
    let state = gateway(&mut facts);
    (state.ready, state.stats.reachable_workers) = (false, 0);
    state.stats.circuit_breakers[0].state = "OPEN".to_owned();
    let nodes = &mut facts.workers.nodes;
    nodes[0].state = Err(Problem::Stranger("it is a gateway".to_owned()));
    nodes[1].state.as_mut().unwrap().ready = false;
    nodes[2].port = Port::Unknown("no such name".to_owned());
    nodes[2].state = Err(HttpError::Unconnected("no route to host".to_owned()).into());
    let refusals = [
        Refusal::Http(HttpError::Timeout(SECONDS)),
        Refusal::Status { status: StatusCode::BAD_REQUEST, message: "no".to_owned() },
        Refusal::Malformed("cut off".to_owned()),
    ];
    facts.trial = Trial::Made {
        model: model("iris", b"iris"),
        gateway: Some(Err(Refusal::Status {
            status: StatusCode::GATEWAY_TIMEOUT,
            message: "too late".to_owned(),
        })),
        workers: refusals.map(|refusal| Some(Err(refusal))).into(),
    };
    facts
}

fn gateway(facts: &mut Facts) -> &mut GatewayState {
    facts.gateway.state.as_mut().unwrap()
}

/// Lets the gateway lose a worker.
fn lose(facts: &mut Facts, index: usize, error: &str) {
    let stats = &mut gateway(facts).stats;
    stats.workers[index].reachable = false;
    stats.workers[index].last_probe_error = Some(error.to_owned());
    stats.reachable_workers -= 1;
}

fn listening(pid: u32, stopped: bool) -> Port {
    let owner = Owner { pid, name: "inferring".to_owned(), stopped };
    Port::Listening { owner: Some(owner), user: 1000 }
}

fn no_library() -> StartError {
    let looked_in = vec!["`/usr/local/lib`".to_owned(), "`/usr/lib`".to_owned()];
    StartError::Library(LibraryError::NotFound { looked_in })
}

fn configuration() -> Configuration {
    Configuration {
        file: None,
        problem: None,
        breaker: BreakerSettings::default(),
        probe: ProbeConfig::default(),
    }
}

fn engine() -> Engine {
    Engine {
        status: BackendStatus {
            name: "onnxruntime".to_owned(),
            version: "1.32.0".to_owned(),
            library: Some("/usr/lib/libonnxruntime.so".to_owned()),
            found_by: Some("in a system library folder".to_owned()),
        },
        asked: Device::Auto,
        device: Ok(DeviceStatus {
            provider: "CPUExecutionProvider".to_owned(),
            fallback_reason: Some("CUDA is not part of this build".to_owned()),
        }),
        has_gpu: false,
    }
}

fn model(name: &str, file: &[u8]) -> Arc<ModelMetadata> {
    let spec = |name: &str, width| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(width)]),
    };
    Arc::new(ModelMetadata {
        name: name.parse().unwrap(),
        version: ModelVersion::first(),
        aliases: Vec::new(),
        digest: ContentDigest::of(file),
        size_bytes: 1234,
        inputs: vec![spec("input", 4)],
        outputs: vec![spec("probabilities", 3)],
        batching: Batching::Rows { reason: "proved".into(), axes: RowAxes::first(1, 1) },
        batch_size_max: 32,
    })
}

fn worker(number: u32) -> WorkerStatus {
    WorkerStatus {
        id: format!("worker_{number}").as_str().into(),
        incarnation: 7,
        ready: true,
        loading: false,
        uptime: Duration::from_millis(61_500),
        requests: 4,
        in_flight: 0,
        errors: 0,
        cache: CacheStatus { hits: 2, joined: 1, misses: 9, ..CacheStatus::default() },
        batches: BatchStatus::default(),
        models: vec![ModelStatus {
            metadata: model("iris", b"iris"),
            device: DeviceStatus {
                provider: "CPUExecutionProvider".to_owned(),
                fallback_reason: None,
            },
            batches: BatchStatus::default(),
        }],
        backend: engine().status,
        loads: Vec::new(),
        resident_memory_bytes: Some(48 << 20),
    }
}

fn closed_breaker(number: u32) -> BreakerDocument {
    BreakerDocument {
        node: format!("worker_{number}"),
        state: "CLOSED".to_owned(),
        failures: 0,
        successes: 0,
        opened_by: None,
        trial_in_seconds: None,
    }
}

fn endpoint(number: u32) -> EndpointDocument {
    EndpointDocument {
        node: format!("worker_{number}"),
        address: format!("127.0.0.1:{}", 8000 + number),
        node_id: Some(format!("worker_{number}")),
        process: Some(format!("{number:016x}")),
        weight: 1.0,
        draining: false,
        reachable: true,
        last_probe_error: None,
        ejected: None,
        ejections: 0,
        requests: 4,
        failures: 0,
        in_flight: 0,
        allotment: AllotmentDocument::default(),
        share: 1.0 / 3.0,
    }
}

const ANSWER: [f32; 3] = [0.5, 0.25, 0.25];
const ROUNDED: [f32; 3] = [0.5, 0.250_000_1, 0.25];

fn answer(worker: &str, values: [f32; 3]) -> InferResponse {
    let tensor = Tensor::from_f32([1, 3].into(), &values).unwrap();
    InferResponse {
        id: RequestId::generate(),
        model: "iris".parse().unwrap(),
        version: ModelVersion::first(),
        outputs: [NamedTensor::new("probabilities".into(), tensor)].into(),
        served: Served {
            worker: worker.into(),
            cache: CacheOutcome::Computed,
            inference_time: Duration::from_micros(250),
            queue_time: Duration::ZERO,
            execution_time: Duration::from_micros(200),
            batch_size: 1,
            load: WorkerLoad::default(),
        },
        routed: None,
    }
}
