//! A folder of models that a test writes, and a worker over it.
//!
//! The engine adds the number that a model's file holds to what it answers, so that every answer
//! tells which file gave it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use inferring_backend::fake::{FakeBackend, FakeControl};
use inferring_repository::Repository;
use inferring_types::{
    IndexEntry, InferRequest, InferenceService as _, LoadRequest, ModelRepository as _, ModelState,
    RepositoryFile, ServiceError,
};
use inferring_worker::{StartError, Worker, WorkerConfig};
use tempfile::TempDir;

use crate::fixture::{Answer, PATIENCE, one_instance, row, row_answer, values, within_patience};

/// A folder of models.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// A folder with these files, each a path and its content.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, content)| folder.write(path, content));
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as a whole or not at all: whoever looks sees all of it.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = self.path().join(".new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// A worker over a folder of models, and the engine behind it.
pub(crate) struct Served {
    pub(crate) folder: Folder,
    pub(crate) worker: Arc<Worker>,
    pub(crate) engine: Arc<FakeControl>,
}

impl Served {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self::with(files, &WorkerConfig::default())
    }

    pub(crate) fn with(files: &[(&str, &str)], config: &WorkerConfig) -> Self {
        Self::over(FakeBackend::new().reading_files(), files, config)
    }

    pub(crate) fn over(
        backend: FakeBackend,
        files: &[(&str, &str)],
        config: &WorkerConfig,
    ) -> Self {
        let folder = Folder::of(files);
        let engine = backend.control();
        // So that sessions tell what is loaded: each is a load of its own.
        engine.set_sharable(false);
        let worker = serve(&folder, backend, config).unwrap();
        Self { folder, worker, engine }
    }

    pub(crate) async fn load(&self, model: &str) -> Result<(), ServiceError> {
        within_patience(self.worker.load(load(model))).await
    }

    pub(crate) async fn unload(&self, model: &str) -> Result<(), ServiceError> {
        within_patience(self.worker.unload(model.parse().unwrap())).await
    }

    /// What the file adds that answered a request to `model`, or to that version of it.
    pub(crate) async fn number(&self, model: &str, version: Option<&str>) -> f32 {
        number(&within_patience(self.worker.infer(ask(model, version, 1.0))).await, 1.0)
    }

    /// The index, each entry as `name/version STATE: reason`.
    pub(crate) async fn index(&self) -> Vec<String> {
        self.worker.index().await.unwrap().iter().map(text).collect()
    }

    /// Waits until the index is as `expected` says of it.
    pub(crate) async fn index_until(&self, expected: impl Fn(&[String]) -> bool) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let index = self.index().await;
            if expected(&index) {
                return index;
            }
            assert!(Instant::now() < until, "the index stays {index:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Served {
    /// A test that fails while it holds the engine must not wait for ever.
    fn drop(&mut self) {
        self.engine.release();
        self.engine.release_loads();
    }
}

pub(crate) fn serve(
    folder: &Folder,
    backend: FakeBackend,
    config: &WorkerConfig,
) -> Result<Arc<Worker>, StartError> {
    let repository = Repository::open([folder.path()]).unwrap();
    Worker::start("worker".into(), repository, Arc::new(backend), &one_instance(config))
}

/// A request to load a model from the folder.
pub(crate) fn load(model: &str) -> LoadRequest {
    LoadRequest { model: model.parse().unwrap(), config: None, files: Vec::new() }
}

pub(crate) fn file(path: &str, content: &str) -> RepositoryFile {
    RepositoryFile { path: path.to_owned(), content: Bytes::copy_from_slice(content.as_bytes()) }
}

/// A request of one row.
pub(crate) fn ask(model: &str, version: Option<&str>, value: f32) -> InferRequest {
    InferRequest {
        model: model.parse().unwrap(),
        version: version.map(|version| version.parse().unwrap()),
        ..row(value)
    }
}

/// What the model's file added to the answer to [`ask`]. It is the same for every value.
pub(crate) fn number(answer: &Answer, value: f32) -> f32 {
    let (got, plain) = (values(answer), row_answer(value));
    let number = got[0] - plain[0];
    let all: Vec<f32> = plain.iter().map(|value| value + number).collect();
    assert_eq!(got, all);
    number
}

/// An entry of the index, as `name/version STATE: reason`.
pub(crate) fn text(entry: &IndexEntry) -> String {
    let IndexEntry { name, version, state, reason } = entry;
    let version = version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    assert!(*state != ModelState::Unavailable || !reason.is_empty(), "{entry:?}");
    format!("{name}{version} {}{reason}", state.name())
}
