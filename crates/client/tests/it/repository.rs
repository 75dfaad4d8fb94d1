//! What a remote worker is asked about its models, and what its answers are taken to mean.

use std::time::Duration;

use bytes::Bytes;
use inferring_client::ClientConfig;
use inferring_protocol::rest::repository::IndexDocument;
use inferring_protocol::rest::{ConfigDocument, StatisticsDocument};
use inferring_types::{
    DeviceStatus, ErrorKind, IndexEntry, LoadRequest, ModelConfig, ModelRepository, ModelSelector,
    ModelState, ModelStatistics, ModelVersion, RepositoryFile, VersionPolicy,
};
use serde::Serialize;

use crate::fixture::{FakeWorker, Reply, model, response};

fn ok(document: &impl Serialize) -> Reply {
    Reply::Bytes(response("200 OK", "", &serde_json::to_vec(document).unwrap()))
}

fn paths(worker: &FakeWorker) -> Vec<String> {
    let line = |head: &str| head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    worker.seen_any().iter().map(|seen| line(&seen.head)).collect()
}

#[tokio::test]
async fn what_a_worker_tells_of_its_models_reads_back() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let entry = IndexEntry {
        name: "m".parse().unwrap(),
        version: Some(ModelVersion::first()),
        state: ModelState::Unavailable,
        reason: "the file is truncated".into(),
    };
    let metadata = model();
    let config = ModelConfig {
        name: metadata.name.clone(),
        version_policy: VersionPolicy::All,
        batch_size_max: 8,
        inputs: metadata.inputs.clone(),
        outputs: metadata.outputs.clone(),
        instances: 2,
        device: DeviceStatus { provider: "Fake".into(), fallback_reason: Some("none".into()) },
        delay_max: Duration::from_millis(2),
        preferred_batch_sizes: vec![4, 8],
        allowed_batch_sizes: Vec::new(),
        priority_levels: 3,
        default_priority: 2,
        sequences: None,
        response_cache: true,
        file_name: "model.onnx".into(),
        batching: metadata.batching.clone(),
    };
    let mut statistics = ModelStatistics::new(metadata.name, metadata.version);
    statistics.success.add(Duration::from_nanos(1500));
    statistics.of_batch_size(3).compute_infer.add(Duration::from_nanos(700));
    worker.replies([
        ok(&[IndexDocument::from(&entry)]),
        ok(&ConfigDocument::from(&config)),
        ok(&StatisticsDocument::from(&[statistics.clone()][..])),
        ok(&StatisticsDocument::from(&[statistics.clone()][..])),
    ]);
    let (client, stable) = (&worker.client, ModelSelector::new("m", Some("1")));
    assert_eq!(client.index().await.unwrap(), [entry]);
    assert_eq!(client.config(ModelSelector::named("m")).await.unwrap(), config);
    assert_eq!(client.statistics(Some(stable)).await.unwrap(), [statistics.clone()]);
    assert_eq!(client.statistics(None).await.unwrap(), [statistics]);
    assert_eq!(
        paths(&worker),
        [
            "POST /v2/repository/index",
            "GET /v2/models/m/config",
            "GET /v2/models/m/versions/1/stats",
            "GET /v2/models/stats",
        ],
    );
}

#[tokio::test]
async fn a_load_takes_settings_and_files_along_and_comes_back_with_the_reason() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let refusal = br#"{"error":"the file is truncated"}"#;
    worker.replies([ok(&"fine"), Reply::Bytes(response("400 Bad Request", "", refusal)), ok(&"")]);
    let request = LoadRequest {
        model: "new".parse().unwrap(),
        config: Some("{}".into()),
        files: vec![RepositoryFile {
            path: "1/model.onnx".into(),
            content: Bytes::from_static(b"\x00\xff"),
        }],
    };
    worker.client.load(request.clone()).await.unwrap();
    let error = worker.client.load(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "the file is truncated");
    worker.client.unload("new".parse().unwrap()).await.unwrap();
    let body = &worker.seen_any()[0].body;
    let sent: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(sent["parameters"]["file:1/model.onnx"], "AP8=");
    assert_eq!(paths(&worker)[2], "POST /v2/repository/models/new/unload");
}

#[tokio::test]
async fn a_model_that_the_worker_does_not_serve_is_not_found() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let error = worker.client.config(ModelSelector::named("other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
