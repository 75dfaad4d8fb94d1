//! Where the sessions of a model's instances come from.

use std::path::PathBuf;
use std::sync::Arc;

use inferring_backend::{Backend, LoadOptions, LoadedModel, Session};
use inferring_types::ContentDigest;
use parking_lot::Mutex;

use super::ModelError;

/// Gives further sessions of a model that is loaded.
///
/// Where an engine lets several instances share one loaded model, one more costs nothing; where
/// not, the file is loaded again and must be the same.
pub(super) struct Spares {
    /// A handle that no instance runs on.
    shared: Option<Mutex<Box<dyn Session>>>,
    backend: Arc<dyn Backend>,
    path: PathBuf,
    options: LoadOptions,
    digest: ContentDigest,
}

impl Spares {
    /// Those of a model that was loaded from there by these options.
    pub(super) fn new(
        backend: &Arc<dyn Backend>,
        path: PathBuf,
        options: &LoadOptions,
        loaded: &LoadedModel,
    ) -> Self {
        Self {
            shared: loaded.session.share().map(Mutex::new),
            backend: backend.clone(),
            path,
            options: options.clone(),
            digest: loaded.digest,
        }
    }

    /// One more session. This may take as long as a load.
    ///
    /// # Errors
    /// The file cannot be loaded any more, or is another than it was.
    pub(super) fn session(&self) -> Result<Box<dyn Session>, ModelError> {
        if let Some(shared) = &self.shared
            && let Some(session) = shared.lock().share()
        {
            return Ok(session);
        }
        let loaded = self.backend.load(&self.path, &self.options)?;
        if loaded.digest != self.digest {
            return Err(ModelError::Changed { path: self.path.clone() });
        }
        Ok(loaded.session)
    }
}
