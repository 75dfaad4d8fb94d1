//! What is served of a repository: at the start, and as models are loaded and unloaded.

use inferring_backend::fake::FakeBackend;
use inferring_types::{
    CacheOutcome, ErrorKind, InferenceService as _, LoadRequest, ModelRepository as _,
    ModelSelector, ServiceError,
};
use inferring_worker::{StartError, WorkerConfig};

use crate::fixture::{PATIENCE, status, within_patience};
use crate::folder::{Folder, Served, ask, file, load, number, serve};

/// Versions answer with their own numbers.
const TWO_VERSIONS: &[(&str, &str)] = &[("m/1/model.onnx", "100"), ("m/2/model.onnx", "200")];

fn chain(error: StartError) -> String {
    ServiceError::failed("").caused_by(error).chain().to_string()
}

#[tokio::test]
async fn the_newest_version_is_served_unless_a_policy_says_otherwise() {
    let latest = Served::of(TWO_VERSIONS);
    assert_eq!(latest.number("m", None).await, 200.0);
    assert_eq!(latest.index().await, ["m/2 READY"]);
    let error = latest.worker.model(ModelSelector::new("m", Some("1"))).unwrap_err();
    assert_eq!(error.to_string(), "model `m` has no version `1` (served here: 2)");

    let config = "versions = \"all\"\n[aliases]\nstable = 1\ncanary = 2";
    let all = Served::of(&[TWO_VERSIONS, &[("m/config.toml", config)]].concat());
    assert_eq!(all.index().await, ["m/1 READY", "m/2 READY"]);
    for (version, expected) in [
        (None, 200.0),
        (Some("1"), 100.0),
        (Some("2"), 200.0),
        (Some("stable"), 100.0),
        (Some("canary"), 200.0),
    ] {
        assert_eq!(all.number("m", version).await, expected, "{version:?}");
    }
    let answer = all.worker.infer(ask("m", Some("stable"), 5.0)).await.unwrap();
    assert_eq!((answer.model.as_str(), answer.version.as_str()), ("m", "1"));
}

#[tokio::test]
async fn models_are_served_in_order_however_long_their_loads_take() {
    let names = ["delta", "alpha", "charlie", "bravo", "echo"];
    let files: Vec<_> = names.iter().map(|name| format!("{name}/1/model.onnx")).collect();
    let files: Vec<_> = files.iter().map(|path| (&**path, "1")).collect();
    for _ in 0..5 {
        let served = Served::of(&files);
        let models: Vec<_> =
            served.worker.models().iter().map(|model| model.name.to_string()).collect();
        assert_eq!(models, ["alpha", "bravo", "charlie", "delta", "echo"]);
        assert_eq!(served.worker.model(ModelSelector::default()).unwrap().name.as_str(), "alpha");
    }
}

#[tokio::test]
async fn what_cannot_be_loaded_keeps_no_other_from_being_served() {
    let served = Served::of(&[
        ("broken/1/model.onnx", "no number"),
        ("good/1/model.onnx", "7"),
        ("wrong/1/model.onnx", "8"),
        ("wrong/config.toml", "instancse = 1"),
    ]);
    assert_eq!(served.number("good", None).await, 7.0);
    let index = served.index().await;
    assert_eq!(index.len(), 3, "{index:?}");
    assert!(index[0].starts_with("broken/1 UNAVAILABLE: ") && index[0].contains("no number"));
    assert_eq!(index[1], "good/1 READY");
    assert!(index[2].starts_with("wrong UNAVAILABLE: ") && index[2].contains("instancse"));
    let error = served.worker.model(ModelSelector::named("broken")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Repaired, it can be loaded.
    served.folder.write("broken/1/model.onnx", "9");
    served.load("broken").await.unwrap();
    assert_eq!(served.number("broken", None).await, 9.0);
    assert_eq!(served.index().await[0], "broken/1 READY");
}

#[test]
fn a_worker_that_could_serve_nothing_does_not_start() {
    let backend = FakeBackend::new().reading_files();
    let start = |folder: &Folder, config: &WorkerConfig| {
        chain(serve(folder, backend.clone(), config).map(|_| ()).unwrap_err())
    };
    let lax = WorkerConfig::default();
    let error = start(&Folder::of(&[]), &lax);
    assert!(error.contains("there is no model to serve"), "{error}");
    let error = start(&Folder::of(&[("a/1/model.onnx", "x"), ("b/1/model.onnx", "x")]), &lax);
    assert!(error.contains("none of the 2 models could be loaded"), "{error}");
    assert!(error.contains("model `a`") && error.contains("no number"), "{error}");
    let strict = WorkerConfig { strict: true, ..WorkerConfig::default() };
    let error = start(&Folder::of(&[("a/1/model.onnx", "1"), ("b/1/model.onnx", "x")]), &strict);
    assert!(error.contains("model `b`") && error.contains("no number"), "{error}");
    assert_eq!(backend.control().sessions(), 0);
}

#[tokio::test]
async fn a_new_version_takes_the_place_of_the_old_one() {
    let served = Served::of(&TWO_VERSIONS[..1]);
    assert_eq!(served.number("m", None).await, 100.0);
    served.folder.write("m/2/model.onnx", "200");
    assert_eq!(served.number("m", None).await, 100.0, "nothing changes by itself");
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
    assert!(served.engine.wait_until_sessions(1, PATIENCE), "the old session is gone");
    let index = served.index_until(|index| !index.contains(&"m/1 UNLOADING".to_owned())).await;
    assert_eq!(index, ["m/1 UNAVAILABLE: unloaded", "m/2 READY"]);
    assert!(served.engine.trims() > 0, "memory was given back");
}

/// The cache finds an answer by the model's content, so a version's answers go with it.
#[tokio::test]
async fn the_same_version_with_other_content_answers_anew_and_old_answers_are_forgotten() {
    let served = Served::of(TWO_VERSIONS);
    for value in 0..5u8 {
        served.worker.infer(ask("m", None, f32::from(value))).await.unwrap();
    }
    assert_eq!(status(&served.worker).await.cache.entries, 5);
    served.folder.write("m/2/model.onnx", "201");
    served.load("m").await.unwrap();
    assert_eq!(status(&served.worker).await.cache.entries, 0);
    let answer = served.worker.infer(ask("m", None, 0.0)).await;
    assert_eq!(number(&answer, 0.0), 201.0);
    assert_eq!(answer.unwrap().served.cache, CacheOutcome::Computed);
}

#[tokio::test]
async fn loading_what_has_not_changed_loads_nothing() {
    let served = Served::of(&[TWO_VERSIONS, &[("m/config.toml", "versions = \"all\"")]].concat());
    served.worker.infer(ask("m", None, 1.0)).await.unwrap();
    let before = served.engine.loads();
    served.load("m").await.unwrap();
    assert_eq!(served.engine.loads(), before);
    let answer = served.worker.infer(ask("m", None, 1.0)).await.unwrap();
    assert_eq!(answer.served.cache, CacheOutcome::Hit, "answers are kept as well");
    // One version changes, the other does not.
    served.folder.write("m/1/model.onnx", "101");
    served.load("m").await.unwrap();
    assert_eq!(served.engine.loads(), before + 1);
    assert_eq!(served.number("m", Some("1")).await, 101.0);
    // Other settings are another way to load the same files.
    served.folder.write("m/config.toml", "versions = \"all\"\ninstances = 2");
    served.load("m").await.unwrap();
    assert_eq!(served.engine.loads(), before + 1 + 4);
}

#[tokio::test]
async fn aliases_move_without_loading_anything() {
    let config = |stable: u8| format!("versions = \"all\"\n[aliases]\nstable = {stable}");
    let served = Served::of(&[TWO_VERSIONS, &[("m/config.toml", &config(1))]].concat());
    assert_eq!(served.number("m", Some("stable")).await, 100.0);
    let (loads, sessions) = (served.engine.loads(), served.engine.sessions());
    served.folder.write("m/config.toml", &config(2));
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", Some("stable")).await, 200.0);
    let metadata = served.worker.model(ModelSelector::new("m", Some("stable"))).unwrap();
    assert_eq!(metadata.version.as_str(), "2");
    assert_eq!((served.engine.loads(), served.engine.sessions()), (loads, sessions));
    assert_eq!(served.index().await, ["m/1 READY", "m/2 READY"]);
}

#[tokio::test]
async fn a_load_that_fails_changes_nothing_but_the_index() {
    let served = Served::of(&TWO_VERSIONS[..1]);
    served.worker.infer(ask("m", None, 1.0)).await.unwrap();
    served.folder.write("m/2/model.onnx", "200");
    served.engine.refuse_loads_of("2/model.onnx", "out of memory");
    let error = served.load("m").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let message = error.to_string();
    assert!(message.contains("version 2 of model `m`"), "{message}");
    assert!(message.contains("out of memory"), "{message}");
    assert_eq!(served.number("m", None).await, 100.0);
    let kept = served.worker.infer(ask("m", None, 1.0)).await.unwrap();
    assert_eq!(kept.served.cache, CacheOutcome::Hit);
    let index = served.index().await;
    assert_eq!((index.len(), &*index[0]), (2, "m/1 READY"));
    assert!(index[1].starts_with("m/2 UNAVAILABLE") && index[1].contains("out of memory"));
    // Settings that cannot be read are nobody's version's fault: who serves on says so.
    served.folder.write("m/config.toml", "nonsense");
    assert!(served.load("m").await.is_err());
    let index = served.index().await;
    assert!(index[0].starts_with("m/1 READY: ") && index[0].contains("config.toml"), "{index:?}");

    served.folder.remove("m/config.toml");
    served.engine.accept_loads_of("2/model.onnx");
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
    let index = served.index_until(|index| !index[0].contains("UNLOADING")).await;
    assert_eq!(index, ["m/1 UNAVAILABLE: unloaded", "m/2 READY"]);
}

/// Versions of one model change together or not at all.
#[tokio::test]
async fn of_several_versions_none_is_served_unless_all_can_be() {
    let served = Served::of(&[("m/1/model.onnx", "100")]);
    served.folder.write("m/config.toml", "versions = \"all\"");
    served.folder.write("m/2/model.onnx", "200");
    served.folder.write("m/3/model.onnx", "broken");
    assert!(served.load("m").await.is_err());
    assert_eq!(served.number("m", None).await, 100.0);
    let index = served.index().await;
    assert_eq!(index.len(), 2, "{index:?}");
    assert!(index[0] == "m/1 READY" && index[1].starts_with("m/3 UNAVAILABLE"), "{index:?}");
    assert!(served.engine.wait_until_sessions(1, PATIENCE), "what was loaded of it is gone");
}

#[tokio::test]
async fn an_unloaded_model_is_gone_until_it_is_loaded() {
    let served = Served::of(&[TWO_VERSIONS, &[("z/1/model.onnx", "5")]].concat());
    served.unload("m").await.unwrap();
    let error = served.worker.infer(ask("m", None, 1.0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "no model `m` (served here: z)");
    assert!(served.engine.wait_until_sessions(1, PATIENCE));
    let index = served.index_until(|index| !index[0].contains("UNLOADING")).await;
    assert_eq!(index, ["m/2 UNAVAILABLE: unloaded", "z/1 READY"]);
    served.unload("m").await.unwrap();
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
    let first = served.worker.model(ModelSelector::default()).unwrap();
    assert_eq!(first.name.as_str(), "m", "it is the first again");
}

#[tokio::test]
async fn requests_about_models_that_are_not_there_are_refused() {
    let served = Served::of(TWO_VERSIONS);
    for error in [served.load("n").await.unwrap_err(), served.unload("n").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("`n`"), "{error}");
    }
    assert_eq!(served.index().await, ["m/2 READY"], "names that are asked for do not pile up");
    let unserved = ModelSelector::new("m", Some("1"));
    assert_eq!(served.worker.config(unserved).await.unwrap_err().kind(), ErrorKind::NotFound);
    let statistics = served.worker.statistics(Some(unserved)).await;
    assert_eq!(statistics.unwrap_err().kind(), ErrorKind::NotFound);
    served.folder.write("n/1/model.onnx", "50");
    served.load("n").await.unwrap();
    assert_eq!(served.number("n", None).await, 50.0);
}

#[tokio::test]
async fn a_request_may_bring_settings_along() {
    let served = Served::of(TWO_VERSIONS);
    let config = r#"{"version_policy": {"all": {}}, "instance_group": [{"count": 3}]}"#;
    let request = LoadRequest { config: Some(config.to_owned()), ..load("m") };
    within_patience(served.worker.load(request)).await.unwrap();
    assert_eq!(served.number("m", Some("1")).await, 100.0);
    assert!(served.engine.wait_until_sessions(6, PATIENCE), "the old one has ended");
    assert_eq!(served.engine.sessions(), 6, "two versions, three times each");
    let in_force = served.worker.config(ModelSelector::named("m")).await.unwrap();
    assert_eq!(in_force.instances, 3);
    // Without them, the folder's own count again.
    served.load("m").await.unwrap();
    let in_force = served.worker.config(ModelSelector::named("m")).await.unwrap();
    assert_eq!(in_force.instances, 1);
    let wrong = LoadRequest { config: Some("{".to_owned()), ..load("m") };
    let error = within_patience(served.worker.load(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(served.number("m", None).await, 200.0);
}

#[tokio::test]
async fn a_request_may_bring_a_model_along() {
    let served = Served::of(TWO_VERSIONS);
    for (model, content, expected) in [("m", "300", 300.0), ("new", "400", 400.0)] {
        let request = LoadRequest {
            config: Some("{}".to_owned()),
            files: vec![file("7/model.onnx", content)],
            ..load(model)
        };
        within_patience(served.worker.load(request)).await.unwrap();
        assert_eq!(served.number(model, None).await, expected);
        assert_eq!(served.number(model, Some("7")).await, expected);
    }
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 200.0, "the folder's own again");
    served.unload("new").await.unwrap();
    let index = served.index_until(|index| index.iter().all(|e| !e.starts_with("new"))).await;
    assert!(index.contains(&"m/2 READY".to_owned()), "{index:?}");
    assert_eq!(served.load("new").await.unwrap_err().kind(), ErrorKind::NotFound);
}
