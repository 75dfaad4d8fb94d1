//! The first load: what a worker says and refuses meanwhile, and how it ends.

use std::sync::Arc;
use std::time::Instant;

use inferring_backend::fake::{FakeBackend, FakeControl};
use inferring_repository::Repository;
use inferring_types::{
    Announced, Blame, Deadline, ErrorKind, InferenceService as _, ModelRepository as _,
    ModelSelector, ServiceError,
};
use inferring_worker::{StartError, Worker, WorkerConfig};
use tokio::task::JoinHandle;

use crate::fixture::{PATIENCE, one_instance, status, within_patience};
use crate::folder::{Folder, ask, load, number, text};

/// A worker that is made, and loads when it is told to.
struct Starting {
    _folder: Folder,
    worker: Arc<Worker>,
    engine: Arc<FakeControl>,
}

impl Starting {
    fn of(files: &[(&str, &str)], config: &WorkerConfig) -> Self {
        let folder = Folder::of(files);
        let backend = FakeBackend::new().reading_files();
        let engine = backend.control();
        let repository = Repository::open([folder.path()]).unwrap();
        let config = one_instance(config);
        let worker = Worker::new("worker".into(), repository, Arc::new(backend), &config);
        Self { _folder: folder, worker, engine }
    }

    /// Loads on a thread of its own.
    fn load(&self) -> JoinHandle<Result<(), StartError>> {
        let worker = self.worker.clone();
        tokio::task::spawn_blocking(move || worker.load_models())
    }

    /// The same, held up in the middle of a model's load.
    fn load_held(&self) -> JoinHandle<Result<(), StartError>> {
        self.engine.hold_loads();
        let loading = self.load();
        assert!(self.engine.wait_until_loading(1, PATIENCE));
        loading
    }

    async fn assert_loading(&self) {
        let status = status(&self.worker).await;
        assert!(status.loading && !status.ready && status.models.is_empty());
        assert!(!self.worker.is_ready(None));
        // Whether there is such a model cannot be told either.
        for name in ["m", "stranger"] {
            assert!(!self.worker.is_ready(Some(ModelSelector::named(name))));
            for refused in self.answers(name).await {
                let error = refused.unwrap_err();
                assert_eq!(error.to_string(), "the worker is still loading its models");
                assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Server));
                assert!(error.is_retryable());
            }
        }
    }

    /// What all is answered that has to do with a model.
    async fn answers(&self, name: &str) -> [Result<(), ServiceError>; 7] {
        let (worker, asked) = (&self.worker, ModelSelector::named(name));
        let announced = Announced {
            model: asked,
            body_bytes: Some(1 << 20),
            tensor_bytes: Some(1 << 20),
            deadline: Deadline::after(Instant::now(), PATIENCE),
        };
        [
            worker.model(asked).map(drop),
            worker.anticipate(&announced).map(drop),
            within_patience(worker.infer(ask(name, None, 1.0))).await.map(drop),
            within_patience(worker.config(asked)).await.map(drop),
            within_patience(worker.statistics(None)).await.map(drop),
            within_patience(worker.load(load(name))).await,
            within_patience(worker.unload(name.parse().unwrap())).await,
        ]
    }
}

impl Drop for Starting {
    /// A test that fails while it holds the engine must not wait for ever.
    fn drop(&mut self) {
        self.engine.release_loads();
    }
}

#[tokio::test]
async fn until_its_models_are_loaded_a_worker_says_so_and_refuses_what_needs_one() {
    let starting = Starting::of(&[("m/1/model.onnx", "7")], &WorkerConfig::default());
    starting.assert_loading().await;
    let loading = starting.load_held();
    starting.assert_loading().await;
    let index = starting.worker.index().await.unwrap();
    assert_eq!(index.iter().map(text).collect::<Vec<_>>(), ["m/1 LOADING"]);
    starting.engine.release_loads();
    within_patience(loading).await.unwrap().unwrap();
    let status = status(&starting.worker).await;
    assert!(status.ready && !status.loading && status.models.len() == 1);
    assert!(starting.worker.is_ready(Some(ModelSelector::named("m"))));
    let answer = within_patience(starting.worker.infer(ask("m", None, 1.0))).await;
    assert_eq!(number(&answer, 1.0), 7.0);
    let unknown = starting.worker.model(ModelSelector::named("stranger")).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_worker_that_cannot_load_what_it_must_never_takes_requests() {
    let files = [("good/1/model.onnx", "7"), ("m/1/model.onnx", "no number")];
    let strict = WorkerConfig { strict: true, ..WorkerConfig::default() };
    let starting = Starting::of(&files, &strict);
    let failure = within_patience(starting.load()).await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("model `m`"), "{failure}");
    starting.assert_loading().await;
    starting.worker.close();
    assert!(starting.engine.wait_until_sessions(0, PATIENCE), "what was loaded is gone");
}

#[tokio::test]
async fn a_worker_that_is_told_to_drain_while_it_loads_drains_when_it_has() {
    let starting = Starting::of(&[("m/1/model.onnx", "7")], &WorkerConfig::default());
    let loading = starting.load_held();
    starting.worker.start_draining();
    starting.engine.release_loads();
    within_patience(loading).await.unwrap().unwrap();
    let status = status(&starting.worker).await;
    assert!(!status.ready && !status.loading);
    let answer = within_patience(starting.worker.infer(ask("m", None, 1.0))).await;
    assert_eq!(number(&answer, 1.0), 7.0);
}

#[tokio::test]
async fn a_worker_that_is_closed_while_it_loads_keeps_nothing_of_it() {
    let files = [("m/1/model.onnx", "7"), ("n/1/model.onnx", "8"), ("o/1/model.onnx", "9")];
    let starting = Starting::of(&files, &WorkerConfig::default());
    let loading = starting.load_held();
    // It does not wait for the load.
    starting.worker.close();
    starting.engine.release_loads();
    let failure = within_patience(loading).await.unwrap().unwrap_err();
    assert!(matches!(failure, StartError::Closed), "{failure}");
    assert!(starting.engine.wait_until_sessions(0, PATIENCE), "what was loaded is gone");
    starting.assert_loading().await;
}
