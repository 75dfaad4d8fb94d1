//! Folders of models, as an operator lays them out and changes them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of models of its own, gone when this is dropped.
#[derive(Debug)]
pub struct ModelFolder {
    root: TempDir,
}

impl Default for ModelFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelFolder {
    /// An empty one.
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The same with a version of a model in it.
    #[must_use]
    pub fn with(self, model: &str, version: u64, content: &[u8]) -> Self {
        self.put(model, version, content);
        self
    }

    /// The same with a file in a model's folder, such as its configuration.
    #[must_use]
    pub fn with_file(self, model: &str, name: &str, text: &str) -> Self {
        self.put_file(model, name, text);
        self
    }

    /// Puts a version of a model there. It appears at once and whole.
    pub fn put(&self, model: &str, version: u64, content: &[u8]) {
        // What begins with a point is no version.
        let unfinished = self.path().join(model).join(format!(".{version}"));
        fs::create_dir_all(&unfinished).unwrap();
        fs::write(unfinished.join("model.onnx"), content).unwrap();
        fs::rename(unfinished, self.version(model, version)).unwrap();
    }

    /// Writes a file in a model's folder, over the one that is there.
    pub fn put_file(&self, model: &str, name: &str, text: &str) {
        let folder = self.path().join(model);
        fs::create_dir_all(&folder).unwrap();
        let unfinished = folder.join(format!(".{name}"));
        fs::write(&unfinished, text).unwrap();
        fs::rename(unfinished, folder.join(name)).unwrap();
    }

    /// Takes a version of a model away.
    pub fn remove(&self, model: &str, version: u64) {
        fs::remove_dir_all(self.version(model, version)).unwrap();
    }

    /// Takes a model away.
    pub fn remove_model(&self, model: &str) {
        fs::remove_dir_all(self.path().join(model)).unwrap();
    }

    /// The folder of a version.
    pub fn version(&self, model: &str, version: u64) -> PathBuf {
        self.path().join(model).join(version.to_string())
    }
}
