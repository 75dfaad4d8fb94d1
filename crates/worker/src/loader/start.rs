//! The first load, of everything that is there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use inferring_repository::{ModelEntry, RepositorySnapshot};
use parking_lot::Mutex;
use tracing::warn;

use super::{LoadFailure, Loader, StartError, threads};

impl Loader {
    /// Loads all models of the repository, several at a time, and serves them in its order. This
    /// blocks.
    ///
    /// # Errors
    /// [`StartError`] where a model that was named by itself, or with `strict` any model, cannot
    /// be loaded, where none can be, and where the worker is closed meanwhile. Others that cannot
    /// be loaded are logged and listed in the index.
    pub(crate) fn start(&self) -> Result<RepositorySnapshot, StartError> {
        let snapshot = self.repository.scan();
        for problem in snapshot.problems() {
            warn!(path = %problem.path.display(), reason = problem.reason, "not a model");
        }
        if snapshot.models().is_empty() {
            let problem = snapshot.problems().first();
            let reason = problem.map(|p| format!(": `{}`: {}", p.path.display(), p.reason));
            return Err(StartError::NoModel(reason.unwrap_or_default()));
        }
        // In their order, which loads that end in any order must not decide.
        for entry in snapshot.models() {
            self.registry.note_repository(&entry.name, true);
        }
        let loaded = self.load_all(snapshot.models());
        if self.closing.load(Ordering::Relaxed) {
            // What was entered after the others were closed.
            self.close();
            return Err(StartError::Closed);
        }
        loaded?;
        self.registry.serve_entered();
        Ok(snapshot)
    }

    fn load_all(&self, entries: &[ModelEntry]) -> Result<(), StartError> {
        let failures = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        let given_up = AtomicBool::new(false);
        let work = || loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(place).filter(|_| !given_up.load(Ordering::Relaxed))
            else {
                return;
            };
            match self.prepare(&entry.name, &entry.plan) {
                Ok(models) => self.registry.enter(&entry.name, models),
                Err(failure) => {
                    given_up.fetch_or(self.must_load(entry), Ordering::Relaxed);
                    failures.lock().push((place, failure));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads().min(entries.len()) {
                scope.spawn(work);
            }
            work();
        });
        // In the order of the models, of which all before one that failed were begun as well: so
        // it is always the same failure that is told.
        let mut failures: Vec<(usize, LoadFailure)> = failures.into_inner();
        failures.sort_unstable_by_key(|(place, _)| *place);
        let fatal = failures.iter().position(|(place, _)| self.must_load(&entries[*place]));
        if let Some(fatal) = fatal {
            return Err(StartError::Load(failures.swap_remove(fatal).1));
        }
        if failures.len() == entries.len() {
            let (_, first) = failures.swap_remove(0);
            return Err(StartError::None { models: entries.len(), first });
        }
        Ok(())
    }

    fn must_load(&self, entry: &ModelEntry) -> bool {
        self.config.strict || self.repository.names(entry)
    }
}
