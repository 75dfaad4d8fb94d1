//! Where the sessions of a model's instances come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inferring_backend::{Backend, Cores, LoadOptions, LoadedModel, Session};
use inferring_types::{ContentDigest, Tensor};
use parking_lot::Mutex;

use super::{ModelError, warmup};

/// From how long a run of one row takes on, runs beside each other are worth more than larger
/// ones. Two callers of one loaded model got 1.2 to 1.8 times as much done where it took .1 to 5
/// ms, on two cores, and nothing more where it took 3 µs.
const WORTH_MORE: Duration = Duration::from_micros(100);

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

    /// How many instances are worth having: as many as the process may keep cores busy, where they
    /// can share one loaded model and a run takes long enough. Runs of a model that takes less
    /// than waking an instance are better made larger than beside each other.
    pub(super) fn worth(&self, session: &mut dyn Session, row: Option<&[Tensor]>) -> usize {
        let (Some(row), true) = (row, self.shared.lock().is_some()) else {
            return 1;
        };
        match warmup::shortest(session, row) {
            Some(time) if time >= WORTH_MORE => Cores::of_process().parallelism.get(),
            _ => 1,
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
