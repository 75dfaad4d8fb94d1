//! The models of a worker, by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use inferring_backend::{Backend, LoadError};
use inferring_types::{InvalidName, ModelCatalog, ModelName};

use crate::config::WorkerConfig;
use crate::model::Model;

/// A model file and the name under which it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The name.
    pub name: ModelName,
    /// The file.
    pub path: PathBuf,
}

impl ModelFile {
    /// The file, named after itself: `models/iris.onnx` is served as `iris`.
    ///
    /// # Errors
    /// [`InvalidName`] where the file's name cannot name a model.
    pub fn named_after(path: &Path) -> Result<Self, InvalidName> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { name: stem.parse()?, path: path.to_owned() })
    }
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No model was named.
    #[error("no model to serve")]
    NoModel,
    /// Two files have one name.
    #[error("two models are named `{0}`: rename one of the files")]
    SameName(ModelName),
    /// A model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Loads all files, in the order given; the first is the default model. None is served unless all
/// can be.
pub(crate) fn load_all(
    files: &[ModelFile],
    backend: &dyn Backend,
    config: &WorkerConfig,
) -> Result<ModelCatalog<Arc<Model>>, StartError> {
    if files.is_empty() {
        return Err(StartError::NoModel);
    }
    for (index, file) in files.iter().enumerate() {
        if files[..index].iter().any(|other| other.name == file.name) {
            return Err(StartError::SameName(file.name.clone()));
        }
    }
    let load = |file: &ModelFile| Model::load(file.name.clone(), &file.path, backend, config);
    let models = files.iter().map(|file| load(file).map(Arc::new));
    Ok(ModelCatalog::new(models.collect::<Result<Vec<_>, _>>()?))
}
