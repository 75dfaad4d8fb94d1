//! Every method, by a generated client.

use std::sync::atomic::Ordering;

use bytesize::ByteSize;
use http_body_util::{BodyExt, Full};
use inferring_protocol::grpc::health::health_check_response::ServingStatus;
use inferring_protocol::grpc::health::{HealthCheckRequest, HealthListRequest};
use inferring_protocol::grpc::inference::infer_parameter::ParameterChoice;
use inferring_protocol::grpc::inference::model_repository_parameter::ParameterChoice as LoadChoice;
use inferring_protocol::grpc::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest,
    ModelMetadataRequest, ModelReadyRequest, ModelRepositoryParameter, ModelStatisticsRequest,
    RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
};
use inferring_server::ServerConfig;
use inferring_types::{InferenceService, ModelSelector};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

use crate::fixture::{Connection, Running, echo, echoed, within_a_minute};
use crate::node::{FULL, HELD};

#[tokio::test]
async fn a_server_tells_of_itself_and_its_models() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "inferring");
    assert!(server.extensions.contains(&"binary_tensor_data".to_owned()));
    for (version, versions) in [("", "1 2"), ("stable", "1")] {
        let asked = ModelMetadataRequest { name: "echo".into(), version: version.into() };
        let model = client.model_metadata(asked).await.unwrap().into_inner();
        assert_eq!((&*model.platform, &*model.versions.join(" ")), ("onnxruntime_onnx", versions));
        assert_eq!((&*model.inputs[0].name, &model.inputs[0].shape[..]), ("x", &[-1, -1][..]));
    }
    let asked = ModelConfigRequest { name: "echo".into(), version: String::new() };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.max_batch_size, &config.input[0].dims[..]), (0, &[-1, -1][..]));
    let asked = ModelStatisticsRequest::default();
    let statistics = client.model_statistics(asked).await.unwrap().into_inner().model_stats;
    assert_eq!(statistics[0].inference_stats.unwrap().success.unwrap().ns, 7);
}

#[tokio::test]
async fn readiness_is_told_for_models_and_for_what_is_none() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    for (ready, name, version, expected) in [
        (true, "echo", "", true),
        (true, "echo", "2", true),
        (true, "echo", "9", false),
        (true, "other", "", false),
        (false, "echo", "", false),
    ] {
        running.node.is_ready.store(ready, Ordering::SeqCst);
        let asked = ModelReadyRequest { name: name.into(), version: version.into() };
        let told = client.model_ready(asked).await.unwrap().into_inner().ready;
        assert_eq!(told, expected, "{name} {version}");
    }
}

#[tokio::test]
async fn a_repository_is_listed_and_changed() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    for (ready, expected) in [(true, &["1"][..]), (false, &["1", "3"])] {
        let asked = RepositoryIndexRequest { ready, ..RepositoryIndexRequest::default() };
        let models = client.repository_index(asked).await.unwrap().into_inner().models;
        assert_eq!(models.iter().map(|model| &*model.version).collect::<Vec<_>>(), expected);
    }
    let mut load = RepositoryModelLoadRequest { model_name: "echo".into(), ..Default::default() };
    client.repository_model_load(load.clone()).await.unwrap();
    let choice = Some(LoadChoice::StringParam("{}".into()));
    let parameter = ModelRepositoryParameter { parameter_choice: choice };
    load.parameters.insert("config".into(), parameter);
    let error = client.repository_model_load(load).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "cannot use `{}`"));
    for (name, code) in
        [("echo", Code::Ok), ("other", Code::NotFound), ("no name", Code::InvalidArgument)]
    {
        let unload = RepositoryModelUnloadRequest { model_name: name.into(), ..Default::default() };
        let outcome = client.repository_model_unload(unload).await;
        assert_eq!(outcome.map_or_else(|error| error.code(), |_| Code::Ok), code, "{name}");
    }
}

#[tokio::test]
async fn an_inference_is_answered_in_its_own_form_and_under_its_id() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let mut raw = echo(&[1.0, 2.5]);
    raw.id = "r1".into();
    let response = client.model_infer(raw).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "r1");
    let response = response.into_inner();
    assert_eq!(
        (&*response.id, &*response.model_name, &*response.model_version),
        ("r1", "echo", "2")
    );
    assert_eq!(echoed(&response), [1.0, 2.5]);
    assert_eq!((&*response.outputs[0].name, &response.outputs[0].shape[..]), ("y", &[1, 2][..]));
    let served = response.parameters["node_id"].parameter_choice.clone();
    assert_eq!(served, Some(ParameterChoice::StringParam("echo_1".into())));

    let mut typed = echo(&[]);
    typed.model_version = "stable".into();
    typed.raw_input_contents.clear();
    typed.inputs[0].shape = vec![1, 2];
    let fp32_contents = vec![1.0, f32::NAN];
    typed.inputs[0].contents = Some(InferTensorContents { fp32_contents, ..Default::default() });
    let mut request = Request::new(typed);
    request.metadata_mut().insert("x-request-id", "from-the-head".parse().unwrap());
    let response = client.model_infer(request).await.unwrap().into_inner();
    assert_eq!((&*response.id, &*response.model_version), ("from-the-head", "1"));
    assert_eq!(response.raw_output_contents.len(), 0);
    let values = &response.outputs[0].contents.as_ref().unwrap().fp32_contents;
    assert!(values[0] == 1.0 && values[1].is_nan());
}

#[tokio::test]
async fn errors_have_their_codes_and_the_texts_of_rest() {
    let config = ServerConfig { body_size_max: ByteSize::kib(64), ..ServerConfig::default() };
    let running = Running::start(config);
    let mut client = running.client().await;
    let of = |change: fn(&mut ModelInferRequest)| {
        let mut request = echo(&[1.0]);
        change(&mut request);
        request
    };
    let missing = |name, version| {
        running.node.model(ModelSelector::new(name, version)).unwrap_err().to_string()
    };
    for (request, code, message) in [
        (of(|r| r.model_name = "o".into()), Code::NotFound, &*missing("o", None)),
        (of(|r| r.model_version = "9".into()), Code::NotFound, &*missing("echo", Some("9"))),
        (
            of(|r| r.inputs[0].datatype = "INT32".into()),
            Code::InvalidArgument,
            "input `x` of model `echo`: expected FP32 [?,?], got INT32 [1,1]",
        ),
        (
            of(|r| r.inputs[0].shape = vec![1, -1]),
            Code::InvalidArgument,
            "tensor `x`: shape [1,-1] has a negative dimension",
        ),
        (
            echo(&[0.0; 16 * 1024]),
            Code::ResourceExhausted,
            "the message is larger than the limit of 65536 bytes",
        ),
    ] {
        let error = client.model_infer(request).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, message));
    }
    let mut request = echo(&[1.0]);
    request.id = "r7".into();
    request.model_name.clear();
    let error = client.model_infer(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.metadata().get("x-request-id").unwrap(), "r7");
}

#[tokio::test]
async fn whoever_is_refused_learns_when_to_come_again() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let error = client.model_infer(echo(&[FULL])).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, "the queue is full"));
    assert_eq!(error.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
    let mistaken = client.model_infer(ModelInferRequest::default()).await;
    assert!(mistaken.unwrap_err().metadata().get("grpc-retry-pushback-ms").is_none());

    let mut connection = Connection::open(running.address).await;
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[-3]}]}"#;
    let request = http::Request::post(format!("{}v2/models/echo/infer", running.origin()));
    let request = request.body(tonic::body::Body::new(Full::from(body))).unwrap();
    let refused = connection.0.send_request(request).await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(refused.headers()["retry-after"], "2");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_clients_mistake() {
    let running = Running::start(ServerConfig::default());
    let mut connection = Connection::open(running.address).await;
    let mut wrong = vec![0, 0, 0, 0, 3];
    wrong.extend_from_slice(b"\xff\xff\xff");
    let request = http::Request::post(format!(
        "{}inference.GRPCInferenceService/ModelInfer",
        running.origin()
    ))
    .header("content-type", "application/grpc")
    .body(tonic::body::Body::new(Full::new(bytes::Bytes::from(wrong))))
    .unwrap();
    let response = connection.0.send_request(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "3");
}

#[tokio::test]
async fn both_times_bound_a_request() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let long = || {
        let choice = Some(ParameterChoice::Int64Param(60_000_000));
        [("timeout".to_owned(), InferParameter { parameter_choice: choice })].into()
    };
    let short = || {
        let choice = Some(ParameterChoice::Int64Param(20_000));
        [("timeout".to_owned(), InferParameter { parameter_choice: choice })].into()
    };
    for (parameters, header) in [(short(), None), (short(), Some("60S")), (long(), Some("20m"))] {
        let mut request = Request::new(ModelInferRequest { parameters, ..echo(&[HELD]) });
        if let Some(header) = header {
            request.metadata_mut().insert("grpc-timeout", header.parse().unwrap());
        }
        let error = within_a_minute(client.model_infer(request)).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{header:?}");
    }
    let mut request = Request::new(echo(&[1.0]));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let error = client.model_infer(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_request_that_its_client_cancels_is_given_up() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let mut other = client.clone();
    let call = tokio::spawn(async move { other.model_infer(echo(&[HELD])).await });
    within_a_minute(running.node.until_in_flight(1)).await;
    call.abort();
    within_a_minute(running.node.until_in_flight(0)).await;
    // The connection is as good as before.
    assert_eq!(echoed(client.model_infer(echo(&[3.0])).await.unwrap().get_ref()), [3.0]);
}

#[tokio::test]
async fn compressed_requests_are_read_and_answered_compressed() {
    let running = Running::start(ServerConfig::default());
    let values = vec![0.5; 10_000];
    for encoding in
        [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd]
    {
        let mut client =
            running.client().await.send_compressed(encoding).accept_compressed(encoding);
        let response = client.model_infer(echo(&values)).await.unwrap();
        let told = response.metadata().get("grpc-encoding").unwrap();
        assert_eq!(told.to_str().unwrap(), encoding.to_string());
        assert_eq!(echoed(response.get_ref()), values);
    }
    let mut plain = running.client().await.accept_compressed(CompressionEncoding::Gzip);
    let response = plain.model_infer(echo(&values)).await.unwrap();
    assert!(response.metadata().get("grpc-encoding").is_none());
    assert_eq!(echoed(response.get_ref()), values);
}

#[tokio::test]
async fn a_small_message_that_becomes_a_large_one_is_refused() {
    let config = ServerConfig { body_size_max: ByteSize::kib(64), ..ServerConfig::default() };
    let running = Running::start(config);
    let mut client = running.client().await.send_compressed(CompressionEncoding::Gzip);
    let error = client.model_infer(echo(&[0.0; 1024 * 1024])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn the_standard_health_service_tells_of_server_and_models() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.health().await;
    let check = |service: &str| HealthCheckRequest { service: service.into() };
    for service in ["", "echo", "inference.GRPCInferenceService"] {
        let told = client.check(check(service)).await.unwrap().into_inner();
        assert_eq!(told.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(client.check(check("other")).await.unwrap_err().code(), Code::NotFound);
    let statuses = client.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["", "echo"]);
    let mut changes = client.watch(check("echo")).await.unwrap().into_inner();
    let mut next = async || within_a_minute(changes.message()).await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    running.node.is_ready.store(false, Ordering::SeqCst);
    assert_eq!(next().await, ServingStatus::NotServing);
    let mut unknown = client.watch(check("other")).await.unwrap().into_inner();
    let told = within_a_minute(unknown.message()).await.unwrap().unwrap().status();
    assert_eq!(told, ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn what_is_not_there_is_answered_by_name() {
    let running = Running::start(ServerConfig::default());
    let mut connection = Connection::open(running.address).await;
    for (path, message) in [
        ("inference.GRPCInferenceService/LogSettings", "`LogSettings`: logging cannot be set"),
        ("other.Service/Get", "there is no service `other.Service` here"),
    ] {
        let request = http::Request::post(format!("{}{path}", running.origin()))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .unwrap();
        let response = connection.0.send_request(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12");
        let told = response.headers()["grpc-message"].to_str().unwrap().replace("%20", " ");
        let told = told.replace("%60", "`");
        assert!(told.starts_with(message), "{told}");
    }
}

#[tokio::test]
async fn rest_is_answered_over_the_same_connection() {
    let running = Running::start(ServerConfig::default());
    let mut connection = Connection::open(running.address).await;
    let request = http::Request::get(format!("{}v2/health/live", running.origin()))
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = connection.0.send_request(request).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"live\":true"), "{body:?}");
}

#[tokio::test]
async fn a_second_address_serves_the_same() {
    let running = Running::start(ServerConfig::default());
    let connection = Connection::open(running.further[0]).await;
    let mut client = inferring_protocol::grpc::inference::grpc_inference_service_client::
        GrpcInferenceServiceClient::with_origin(connection, running.origin());
    let response = within_a_minute(client.model_infer(echo(&[4.0]))).await.unwrap();
    assert_eq!(echoed(response.get_ref()), [4.0]);
}
