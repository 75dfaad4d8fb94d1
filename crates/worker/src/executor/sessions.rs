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
    /// A handle that no instance runs on, where the engine gives one.
    shared: Mutex<Option<Box<dyn Session>>>,
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
            shared: Mutex::new(loaded.session.share()),
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
        if let Some(session) = self.shared.lock().as_ref().and_then(|shared| shared.share()) {
            return Ok(session);
        }
        let loaded = self.backend.load(&self.path, &self.options)?;
        if loaded.digest != self.digest {
            return Err(ModelError::Changed { path: self.path.clone() });
        }
        Ok(loaded.session)
    }

    /// Lets go of the loaded model, when no instance is left that may need another session of it.
    pub(super) fn release(&self) {
        *self.shared.lock() = None;
    }
}
