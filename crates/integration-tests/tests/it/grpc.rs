//! gRPC on the port that answers REST, of a worker and of a gateway alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models;
use inferring_integration_tests::process::Process;
use inferring_integration_tests::scaled;
use inferring_integration_tests::waiting::LONG;
use inferring_protocol::grpc::health::HealthCheckRequest;
use inferring_protocol::grpc::health::health_check_response::ServingStatus;
use inferring_protocol::grpc::inference::model_repository_parameter::ParameterChoice;
use inferring_protocol::grpc::inference::{
    ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
    ModelRepositoryParameter, ModelStatisticsRequest, RepositoryIndexRequest,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest, ServerReadyRequest,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Code, Request};

use crate::grpc_client::{
    InferenceClient, health, in_time, inference, is_doubled, raw_scale, scaled_by, slow,
    typed_scale,
};
use crate::serving;

/// A worker, and a gateway over it alone: where a request goes is another matter.
struct Pair {
    worker: Process,
    gateway: Process,
    folder: ModelFolder,
}

impl Pair {
    /// `scale` in two versions, and `slow`, of which every request runs by itself.
    fn start() -> Self {
        Self::with_settings(&[])
    }

    fn with_settings(settings: &[&str]) -> Self {
        let folder = ModelFolder::new()
            .with("scale", 1, &scaled::version(1))
            .with("scale", 2, &scaled::version(2))
            .with_file("scale", "config.toml", "versions = \"all\"\n")
            .with("slow", 1, &std::fs::read(models::named("slow")).unwrap())
            .with_file("slow", "config.toml", "batching.mode = \"alone\"\n");
        let worker = serving("worker").arg(folder.path()).set(settings).start();
        let address = worker.address().to_string();
        let gateway = serving("gateway").arg(address).set(settings).start();
        Self { worker, gateway, folder }
    }

    fn each(&self) -> [&Process; 2] {
        [&self.worker, &self.gateway]
    }

    /// How many runs the worker's models have made.
    fn runs(&self) -> u64 {
        self.worker.client().health()["batch_processor"]["total_batches"].as_u64().unwrap()
    }

    /// How many requests the worker has been asked.
    fn requests(&self) -> u64 {
        self.worker.client().health()["total_requests"].as_u64().unwrap()
    }

    /// Waits until the worker has been asked so many requests in all.
    async fn wait_for_requests(&self, count: u64) {
        wait_until(|| self.requests() >= count).await;
    }

    /// Waits until the worker has nothing in its hands.
    async fn wait_until_idle(&self) {
        wait_until(|| self.worker.client().health()["in_flight"] == 0).await;
    }
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            // The clients share this thread.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Puts these questions to `slow` all at once, on one connection.
fn ask_slow(
    client: &InferenceClient,
    numbers: impl IntoIterator<Item = u16>,
) -> JoinSet<Result<bool, tonic::Status>> {
    let mut asked = JoinSet::new();
    for n in numbers {
        let mut client = client.clone();
        asked.spawn(async move {
            let response = client.model_infer(slow(n)).await?;
            Ok(is_doubled(n, &response.into_inner()))
        });
    }
    asked
}

#[tokio::test]
async fn raw_and_typed_requests_are_answered_in_their_own_form_by_the_version_they_name() {
    let pair = Pair::start();
    for process in pair.each() {
        let mut client = inference(process.address()).await;
        for (version, expected) in [("", 2), ("1", 1), ("2", 2)] {
            let input = [1, -(1 << 60), 7];
            let of_version = |request| ModelInferRequest {
                model_version: version.into(),
                id: "an id".into(),
                ..request
            };
            let input = input.map(|number: i64| number / 1024);
            for (request, outputs_raw) in [(raw_scale(input), 1), (typed_scale(input), 0)] {
                let response = client.model_infer(of_version(request)).await.unwrap().into_inner();
                assert_eq!(scaled_by(input, &response), Ok(expected));
                assert_eq!(response.raw_output_contents.len(), outputs_raw);
                assert_eq!((&*response.model_name, &*response.id), ("scale", "an id"));
                assert_eq!(response.outputs[0].shape, [1, 3]);
            }
        }
        let missing = ModelInferRequest { model_version: "3".into(), ..raw_scale([1, 2, 3]) };
        let error = client.model_infer(missing).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains("served here: 1, 2"), "{error}");
    }
}

#[tokio::test]
async fn a_model_is_described_loaded_and_unloaded() {
    let folder = ModelFolder::new().with("other", 1, &scaled::version(1));
    let worker = serving("worker").arg(folder.path()).start();
    let gateway = serving("gateway").arg(worker.address().to_string()).start();
    for process in [&worker, &gateway] {
        let mut client = inference(process.address()).await;
        assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let config = ParameterChoice::StringParam(r#"{"max_batch_size": 8}"#.into());
        let file = ParameterChoice::BytesParam(scaled::version(4).into());
        let parameters = [("config", config), ("file:4/model.onnx", file)]
            .map(|(name, choice)| {
                let choice = ModelRepositoryParameter { parameter_choice: Some(choice) };
                (name.to_owned(), choice)
            })
            .into_iter()
            .collect::<BTreeMap<_, _>>();
        let model_name = "scale".to_owned();
        let load = RepositoryModelLoadRequest { model_name, parameters, ..Default::default() };
        client.repository_model_load(load).await.unwrap();

        let response = client.model_infer(raw_scale([1, 2, 3])).await.unwrap().into_inner();
        assert_eq!(scaled_by([1, 2, 3], &response), Ok(4));
        let (name, version) = ("scale".to_owned(), String::new());
        let asked = ModelMetadataRequest { name: name.clone(), version: version.clone() };
        let metadata = client.model_metadata(asked).await.unwrap().into_inner();
        assert_eq!(
            (&metadata.versions[..], &metadata.inputs[0].shape[..]),
            (&["4".to_owned()][..], &[-1, 3][..],)
        );
        let asked = ModelConfigRequest { name: name.clone(), version: version.clone() };
        let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
        assert_eq!(config.max_batch_size, 8);
        let asked = ModelStatisticsRequest { name: name.clone(), version: version.clone() };
        let statistics = client.model_statistics(asked).await.unwrap().into_inner().model_stats;
        assert_eq!((statistics[0].inference_count, statistics[0].execution_count), (1, 1));
        let ready = ModelReadyRequest { name: name.clone(), version };
        assert!(client.model_ready(ready.clone()).await.unwrap().into_inner().ready);
        let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap();
        let index = index.into_inner().models.into_iter().map(|m| (m.name, m.version, m.state));
        let index: Vec<_> = index.filter(|(of, _, _)| *of == name).collect();
        assert_eq!(index, [(name.clone(), "4".into(), "READY".into())]);

        let unload = RepositoryModelUnloadRequest { model_name: name, ..Default::default() };
        client.repository_model_unload(unload.clone()).await.unwrap();
        assert!(!client.model_ready(ready).await.unwrap().into_inner().ready);
        let error = client.model_infer(raw_scale([1, 2, 3])).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_stream_answers_in_order_and_one_bad_request_in_the_middle_fails_alone() {
    let pair = Pair::start();
    for process in pair.each() {
        let mut client = inference(process.address()).await;
        let input = |n: i64| [n, -n, 7];
        let requests = (0..100).map(move |n| {
            let mut request = if n % 2 == 0 { raw_scale(input(n)) } else { typed_scale(input(n)) };
            request.id = format!("number {n}");
            if n == 50 {
                request.inputs[0].shape = vec![1, 2];
            }
            request
        });
        let stream = client.model_stream_infer(futures_util::stream::iter(requests)).await;
        let mut stream = stream.unwrap().into_inner();
        for n in 0..100 {
            let answer = in_time(stream.message()).await.unwrap().expect("an answer for each");
            let response = answer.infer_response.expect("every answer carries its id");
            assert_eq!(response.id, format!("number {n}"));
            if n == 50 {
                assert!(answer.error_message.contains("`input`"), "{}", answer.error_message);
            } else {
                assert_eq!(answer.error_message, "");
                assert_eq!(scaled_by(input(n), &response), Ok(2));
            }
        }
        assert!(in_time(stream.message()).await.unwrap().is_none(), "nothing after the last");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_request_in_time_and_the_others_are_answered() {
    const DEADLINE: Duration = Duration::from_millis(50);
    const BEFORE: u16 = 24;
    let pair = Pair::start();
    for (process, first) in pair.each().into_iter().zip([0, 100]) {
        let mut client = inference(process.address()).await;
        // A second of work for the model, so the last in the queue does not come to its turn.
        let asked_before = pair.requests();
        let before = ask_slow(&client, first..first + BEFORE);
        pair.wait_for_requests(asked_before + u64::from(BEFORE)).await;
        let mut request = Request::new(slow(first + 50));
        request.set_timeout(DEADLINE);
        let asked = Instant::now();
        let error = in_time(client.model_infer(request)).await.unwrap_err();
        let elapsed = asked.elapsed();
        // It may be told sooner, as soon as it is known that it cannot be done in time; and where that
        // was known when it came, that the model is busy.
        let is_late = matches!(error.code(), Code::DeadlineExceeded | Code::ResourceExhausted);
        assert!(is_late, "{error}");
        assert!(elapsed < DEADLINE + Duration::from_secs(1), "{elapsed:?}");
        let answers = in_time(before.join_all()).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(true))), "{answers:?}");
    }
}

#[tokio::test]
async fn what_a_client_cancels_is_not_computed() {
    // Several seconds of work, of which nearly all is cancelled.
    const ASKED: u16 = 100;
    let pair = Pair::start();
    for (process, first) in pair.each().into_iter().zip([0, 200]) {
        let client = inference(process.address()).await;
        let (asked_before, runs_before) = (pair.requests(), pair.runs());
        let mut asked = ask_slow(&client, first..first + ASKED);
        pair.wait_for_requests(asked_before + u64::from(ASKED)).await;
        asked.abort_all();
        while asked.join_next().await.is_some() {}
        pair.wait_until_idle().await;
        // The connection goes on, and what is asked now waits for what is left of the others.
        let answers = in_time(ask_slow(&client, [first + ASKED]).join_all()).await;
        assert!(matches!(answers[..], [Ok(true)]), "{answers:?}");
        let runs = pair.runs() - runs_before;
        assert!(runs < u64::from(ASKED) / 2, "{runs} runs for {ASKED} requests, all cancelled");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_connection_serves_on() {
    let pair = Pair::with_settings(&["server.body_size_max=100KiB"]);
    for process in pair.each() {
        let mut client = inference(process.address()).await;
        let mut large = raw_scale([1, 2, 3]);
        large.inputs[0].shape = vec![20_000, 3];
        large.raw_input_contents = vec![Bytes::from(vec![0; 20_000 * 3 * 8])];
        let error = in_time(client.model_infer(large)).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert!(error.message().contains("102400"), "{error}");
        let response = client.model_infer(raw_scale([1, 2, 3])).await.unwrap().into_inner();
        assert_eq!(scaled_by([1, 2, 3], &response), Ok(2));
    }
}

/// The order to stop comes while a stream is open and has requests in flight.
#[tokio::test]
async fn who_is_told_to_stop_says_so_in_its_health_and_gives_the_answers_that_are_due() {
    const ASKED: u16 = 8;
    for index in 0..2 {
        let mut pair = Pair::start();
        let address = pair.each()[index].address();
        let mut checks = health(address).await;
        let of = |service: &str| HealthCheckRequest { service: service.into() };
        for service in ["", "slow", "inference.GRPCInferenceService"] {
            let status = checks.check(of(service)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service}");
        }
        let error = checks.check(of("nobody")).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
        let mut watch = checks.watch(of("")).await.unwrap().into_inner();
        let status = in_time(watch.message()).await.unwrap().expect("how it is now").status();
        assert_eq!(status, ServingStatus::Serving);

        let mut client = inference(address).await;
        // The client does not end its side: the server does.
        let requests = futures_util::stream::iter((0..ASKED).map(slow));
        let requests = futures_util::StreamExt::chain(requests, futures_util::stream::pending());
        let mut stream = client.model_stream_infer(requests).await.unwrap().into_inner();
        pair.wait_for_requests(ASKED.into()).await;
        pair.each()[index].terminate();

        let status = in_time(watch.message()).await.unwrap().expect("the change").status();
        assert_eq!(status, ServingStatus::NotServing);
        assert_eq!(in_time(watch.message()).await.unwrap_err().code(), Code::Unavailable);
        for n in 0..ASKED {
            let answer = in_time(stream.message()).await.unwrap().expect("it is due");
            assert_eq!(answer.error_message, "");
            assert!(is_doubled(n, &answer.infer_response.expect("an answer")), "{n}");
        }
        assert_eq!(in_time(stream.message()).await.unwrap_err().code(), Code::Unavailable);
        let process = if index == 0 { &mut pair.worker } else { &mut pair.gateway };
        let ended = process.wait_for_end(LONG);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_model_that_is_unloaded_and_loaded_is_watched() {
    let pair = Pair::start();
    // The gateway first: what happens to a worker behind its back, it learns a moment later.
    for process in pair.each().into_iter().rev() {
        let mut checks = health(process.address()).await;
        let of = |service: &str| HealthCheckRequest { service: service.into() };
        let mut watch = checks.watch(of("slow")).await.unwrap().into_inner();
        let client = process.client();
        for (action, status) in [
            ("", ServingStatus::Serving),
            ("unload", ServingStatus::ServiceUnknown),
            ("load", ServingStatus::Serving),
        ] {
            if !action.is_empty() {
                change(&client, action).await;
            }
            let told = in_time(watch.message()).await.unwrap().expect("the change").status();
            assert_eq!(told, status, "after {action}");
        }
    }
}

/// Loads or unloads `slow` over REST, beside the runtime that the clients of gRPC need.
async fn change(client: &Client, action: &str) {
    let (client, path) = (client.clone(), format!("/v2/repository/models/slow/{action}"));
    let answer = tokio::task::spawn_blocking(move || client.post(&path, &[], ""));
    answer.await.unwrap().ok();
}

#[tokio::test]
async fn a_version_takes_the_old_ones_place_under_streams_and_every_answer_is_of_the_one_it_says() {
    const STREAMS: i64 = 4;
    for index in 0..2 {
        let pair = Pair::start();
        let address = pair.each()[index].address();
        let stopped = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let mut streams = JoinSet::new();
        for number in 0..STREAMS {
            let (stopped, answered) = (stopped.clone(), answered.clone());
            streams.spawn(async move {
                let mut client = inference(address).await;
                // Half of the questions come back again and again.
                let input = move |n: i64| if n % 2 == 0 { [n, number, 7] } else { [n % 16, 1, 7] };
                // A few on their way at a time: else thousands wait in the connection.
                let ahead = Arc::new(Semaphore::new(16));
                let asks = futures_util::stream::unfold(0, {
                    let ahead = ahead.clone();
                    move |n| {
                        let (ahead, stopped) = (ahead.clone(), stopped.clone());
                        async move {
                            ahead.acquire().await.expect("never closed").forget();
                            let goes_on = !stopped.load(Ordering::SeqCst);
                            goes_on.then(|| (raw_scale(input(n)), n + 1))
                        }
                    }
                });
                let stream = client.model_stream_infer(asks).await?;
                let mut stream = stream.into_inner();
                let mut versions = Vec::new();
                while let Some(answer) = stream.message().await? {
                    assert_eq!(answer.error_message, "");
                    let input = input(versions.len() as i64);
                    let response = answer.infer_response.expect("an answer");
                    versions.push(scaled_by(input, &response).unwrap());
                    answered.fetch_add(1, Ordering::SeqCst);
                    ahead.add_permits(1);
                }
                Ok::<_, tonic::Status>(versions)
            });
        }
        let more = async |count| {
            let enough = answered.load(Ordering::SeqCst) + count;
            wait_until(|| answered.load(Ordering::SeqCst) >= enough).await;
        };
        more(200).await;
        pair.folder.put("scale", 3, &scaled::version(3));
        let mut client = inference(address).await;
        let model_name = "scale".to_owned();
        let load = RepositoryModelLoadRequest { model_name, ..Default::default() };
        client.repository_model_load(load).await.unwrap();
        let response = client.model_infer(raw_scale([1, 1, 7])).await.unwrap().into_inner();
        assert_eq!(scaled_by([1, 1, 7], &response), Ok(3));
        more(200).await;
        stopped.store(true, Ordering::SeqCst);
        for versions in in_time(streams.join_all()).await {
            let versions = versions.unwrap();
            assert_eq!((versions.first(), versions.last()), (Some(&2), Some(&3)));
            // Several requests of a stream are worked on at once.
            let last_old = versions.iter().rposition(|&version| version == 2).unwrap();
            let first_new = versions.iter().position(|&version| version == 3).unwrap();
            assert!(last_old < first_new + 16, "{first_new}, then {last_old}");
        }
    }
}

#[tokio::test]
async fn one_port_answers_both_protocols_at_the_same_time() {
    let pair = Pair::start();
    for process in pair.each() {
        let load = Load::asking(process.address(), 3, |client, n| {
            scaled::ask_nth(client, "/v2/models/scale", n).map(|answered| answered.version)
        });
        let mut asked = JoinSet::new();
        for connection in 0..3 {
            let address = process.address();
            asked.spawn(async move {
                let mut client = inference(address).await;
                for n in 0..200 {
                    let input = [n, connection, -n];
                    let request = if n % 2 == 0 { raw_scale(input) } else { typed_scale(input) };
                    let response = client.model_infer(request).await?.into_inner();
                    assert_eq!(scaled_by(input, &response), Ok(2));
                }
                Ok::<_, tonic::Status>(())
            });
        }
        for outcome in in_time(asked.join_all()).await {
            outcome.unwrap();
        }
        let report = tokio::task::spawn_blocking(move || {
            load.wait_for_more(100);
            load.finish()
        });
        report.await.unwrap().assert_none_failed();
    }
}
