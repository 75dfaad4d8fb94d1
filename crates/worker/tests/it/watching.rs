//! Models that follow their files.
//!
//! The folder is looked at every few milliseconds, and what is waited for is what the index
//! says; where nothing may happen, a later change that must be followed shows that the worker
//! has looked.

use std::time::Duration;

use inferring_types::InferenceService as _;
use inferring_worker::WorkerConfig;

use crate::folder::Served;

fn watching(files: &[(&str, &str)]) -> Served {
    let watch = Some(Duration::from_millis(10));
    Served::with(files, &WorkerConfig { watch, ..WorkerConfig::default() })
}

fn has(index: &[String], entry: &str) -> bool {
    index.iter().any(|other| other == entry)
}

#[tokio::test]
async fn versions_and_models_come_and_go_with_their_files() {
    let served = watching(&[("m/1/model.onnx", "100")]);
    served.folder.write("m/2/model.onnx", "200");
    served.index_until(|index| has(index, "m/2 READY")).await;
    assert_eq!(served.number("m", None).await, 200.0);

    served.folder.write("n/1/model.onnx", "50");
    served.index_until(|index| has(index, "n/1 READY")).await;
    assert_eq!(served.number("n", None).await, 50.0);

    served.folder.write("m/2/model.onnx", "201.5");
    let mut last = served.number("m", None).await;
    while last != 201.5 {
        assert_eq!(last, 200.0);
        tokio::task::yield_now().await;
        last = served.number("m", None).await;
    }

    served.folder.remove("m/2");
    served.index_until(|index| has(index, "m/1 READY")).await;
    assert_eq!(served.number("m", None).await, 100.0);

    served.folder.remove("n");
    served.index_until(|index| index.iter().all(|entry| !entry.starts_with('n'))).await;
    let models: Vec<_> = served.worker.models().iter().map(|m| m.name.to_string()).collect();
    assert_eq!(models, ["m"]);
}

#[tokio::test]
async fn a_change_that_cannot_be_loaded_is_told_and_the_old_model_serves_on() {
    let served = watching(&[("m/1/model.onnx", "100")]);
    served.folder.write("m/1/model.onnx", "no number any more");
    let told = |index: &[String]| index[0].starts_with("m/1 READY: ");
    let index = served.index_until(told).await;
    assert!(index[0].contains("no number"), "{index:?}");
    assert_eq!(served.number("m", None).await, 100.0);
    served.folder.write("m/1/model.onnx", "300.25");
    served.index_until(|index| has(index, "m/1 READY")).await;
    assert_eq!(served.number("m", None).await, 300.25);
}

#[tokio::test]
async fn changed_settings_are_followed_as_well() {
    let served = watching(&[("m/1/model.onnx", "100"), ("m/2/model.onnx", "200")]);
    served.folder.write("m/config.toml", "versions = \"all\"\n[aliases]\nstable = 1");
    served.index_until(|index| has(index, "m/1 READY") && has(index, "m/2 READY")).await;
    assert_eq!(served.number("m", Some("stable")).await, 100.0);
}

#[tokio::test]
async fn a_model_that_was_unloaded_by_request_is_not_brought_back_by_its_files() {
    let served = watching(&[("m/1/model.onnx", "100"), ("n/1/model.onnx", "1")]);
    served.unload("m").await.unwrap();
    served.folder.write("m/2/model.onnx", "200");
    // Both changes are seen in the same look at the earliest, m's before n's.
    served.folder.write("n/2/model.onnx", "2");
    let index = served.index_until(|index| has(index, "n/2 READY")).await;
    assert!(!has(&index, "m/2 READY") && !has(&index, "m/1 READY"), "{index:?}");
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
    served.folder.write("m/3/model.onnx", "300");
    served.index_until(|index| has(index, "m/3 READY")).await;
}

#[tokio::test]
async fn without_a_watch_nothing_follows_and_with_one_closing_ends_it() {
    let served = Served::of(&[("m/1/model.onnx", "100")]);
    served.folder.write("m/2/model.onnx", "200");
    let loads = served.engine.loads();
    served.worker.close();
    assert_eq!(served.engine.loads(), loads);

    let served = watching(&[("m/1/model.onnx", "100")]);
    served.worker.close();
    served.folder.write("m/2/model.onnx", "200");
    let loads = served.engine.loads();
    let closed = served.worker.clone();
    drop(served);
    assert_eq!(closed.models().len(), 1);
    assert_eq!(loads, 1);
}
