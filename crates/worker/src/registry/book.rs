//! The book of models: all that are known, in their order, and the state of each version.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use inferring_types::{IndexEntry, LoadStatus, ModelName, ModelState, ModelVersion};

use super::Catalog;
use crate::cache::Tenant;
use crate::executor::Executor;
use crate::model::Model;

/// All models that are known.
#[derive(Default)]
pub(super) struct Book {
    models: HashMap<ModelName, Entry>,
    next_place: u64,
}

/// One model.
#[derive(Default)]
struct Entry {
    /// Its place among the models: the first that is served is the default one. It keeps it
    /// while it is known, so that reloading a model does not make another one the default.
    place: u64,
    served: Vec<Arc<Model>>,
    versions: BTreeMap<ModelVersion, VersionState>,
    /// Why its last load failed, where no version is at fault.
    reason: String,
    in_repository: bool,
    loads: u64,
    failed_loads: u64,
}

/// One version, beside whether it is served.
#[derive(Default)]
struct VersionState {
    loading: bool,
    /// Executors that were replaced and finish what has begun.
    draining: Vec<(Tenant, Weak<Executor>)>,
    /// Why its last load failed.
    reason: String,
    /// Whether it was ever served: then its end is told as well.
    was_served: bool,
}

impl VersionState {
    fn is_idle(&self) -> bool {
        !self.loading && self.draining.is_empty()
    }
}

impl Book {
    pub(super) fn knows(&self, name: &ModelName) -> bool {
        self.models.contains_key(name)
    }

    pub(super) fn served(&self, name: &ModelName) -> Vec<Arc<Model>> {
        self.models.get(name).map(|entry| entry.served.clone()).unwrap_or_default()
    }

    pub(super) fn note_repository(&mut self, name: &ModelName, has: bool) {
        if has {
            self.entry(name).in_repository = true;
        } else if let Some(entry) = self.models.get_mut(name) {
            entry.in_repository = false;
            self.forget_if_gone(name);
        }
    }

    pub(super) fn note_loading(&mut self, name: &ModelName, versions: &[ModelVersion]) {
        let entry = self.entry(name);
        for version in versions {
            entry.versions.entry(version.clone()).or_default().loading = true;
        }
    }

    pub(super) fn note_failure(
        &mut self,
        name: &ModelName,
        version: Option<&ModelVersion>,
        reason: &str,
    ) {
        let entry = self.entry(name);
        entry.failed_loads += 1;
        entry.end_loading();
        match version {
            Some(version) => {
                reason.clone_into(&mut entry.versions.entry(version.clone()).or_default().reason);
            }
            None => reason.clone_into(&mut entry.reason),
        }
        entry.drop_untold_versions();
        self.forget_if_gone(name);
    }

    /// Returns the executors that no model uses any more.
    pub(super) fn replace(
        &mut self,
        name: &ModelName,
        models: Vec<Arc<Model>>,
    ) -> Vec<Arc<Executor>> {
        let entry = self.entry(name);
        entry.end_loading();
        entry.loads += u64::from(!models.is_empty());
        entry.reason.clear();
        entry.versions.values_mut().for_each(|state| state.reason.clear());
        for model in &models {
            entry.versions.entry(model.version().clone()).or_default().was_served = true;
        }
        let replaced = std::mem::replace(&mut entry.served, models);
        let mut retired = Vec::new();
        for old in replaced {
            let stays = entry.served.iter().any(|new| Arc::ptr_eq(&new.executor, &old.executor));
            if !stays {
                let (tenant, executor) = (old.executor.tenant, Arc::downgrade(&old.executor));
                let state = entry.versions.entry(old.version().clone()).or_default();
                state.draining.push((tenant, executor));
                retired.push(old.executor.clone());
            }
        }
        entry.drop_untold_versions();
        self.forget_if_gone(name);
        retired
    }

    pub(super) fn note_end(&mut self, name: &ModelName, version: &ModelVersion, tenant: Tenant) {
        let Some(entry) = self.models.get_mut(name) else {
            return;
        };
        if let Some(state) = entry.versions.get_mut(version) {
            state.draining.retain(|(draining, _)| *draining != tenant);
        }
        self.forget_if_gone(name);
    }

    pub(super) fn catalog(&self) -> Catalog {
        Catalog::new(self.in_order().into_iter().flat_map(|(_, entry)| entry.served.clone()))
    }

    pub(super) fn executors(&self) -> Vec<Arc<Executor>> {
        let mut executors = Vec::new();
        for entry in self.models.values() {
            executors.extend(entry.served.iter().map(|model| model.executor.clone()));
            for state in entry.versions.values() {
                executors.extend(state.draining.iter().filter_map(|(_, e)| e.upgrade()));
            }
        }
        executors
    }

    pub(super) fn index(&self) -> Vec<IndexEntry> {
        self.in_order().into_iter().flat_map(|(name, entry)| entry.index(name)).collect()
    }

    pub(super) fn loads(&self) -> Vec<LoadStatus> {
        let status = |(name, entry): (&ModelName, &Entry)| LoadStatus {
            model: name.clone(),
            succeeded: entry.loads,
            failed: entry.failed_loads,
        };
        self.in_order().into_iter().map(status).collect()
    }

    fn in_order(&self) -> Vec<(&ModelName, &Entry)> {
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_unstable_by_key(|(_, entry)| entry.place);
        models
    }

    fn entry(&mut self, name: &ModelName) -> &mut Entry {
        let next_place = &mut self.next_place;
        self.models.entry(name.clone()).or_insert_with(|| {
            *next_place += 1;
            Entry { place: *next_place, ..Entry::default() }
        })
    }

    /// Forgets a model that only requests have brought, once nothing is left of it: names that
    /// clients choose must not pile up.
    fn forget_if_gone(&mut self, name: &ModelName) {
        let gone = |entry: &Entry| {
            !entry.in_repository
                && entry.served.is_empty()
                && entry.versions.values().all(VersionState::is_idle)
        };
        if self.models.get(name).is_some_and(gone) {
            self.models.remove(name);
        }
    }
}

impl Entry {
    fn end_loading(&mut self) {
        self.versions.values_mut().for_each(|state| state.loading = false);
    }

    /// Forgets versions that were never served and have not failed: they were to be loaded
    /// beside one that failed, or have failed before and are not asked for any more.
    fn drop_untold_versions(&mut self) {
        self.versions
            .retain(|_, state| state.was_served || !state.reason.is_empty() || !state.is_idle());
    }

    fn index(&self, name: &ModelName) -> Vec<IndexEntry> {
        let of_version = |(version, state): (&ModelVersion, &VersionState)| {
            let served = self.served.iter().any(|model| model.version() == version);
            let model_state = match state {
                _ if served => ModelState::Ready,
                VersionState { loading: true, .. } => ModelState::Loading,
                VersionState { draining, .. } if !draining.is_empty() => ModelState::Unloading,
                _ => ModelState::Unavailable,
            };
            let reason = match (&*state.reason, model_state) {
                ("", ModelState::Ready) => self.reason.clone(),
                ("", ModelState::Unavailable) => "unloaded".to_owned(),
                (reason, _) => reason.to_owned(),
            };
            IndexEntry {
                name: name.clone(),
                version: Some(version.clone()),
                state: model_state,
                reason,
            }
        };
        let mut entries: Vec<_> = self.versions.iter().map(of_version).collect();
        if self.served.is_empty() && (!self.reason.is_empty() || entries.is_empty()) {
            let reason = match &*self.reason {
                "" => "not loaded".to_owned(),
                reason => reason.to_owned(),
            };
            let state = ModelState::Unavailable;
            entries.push(IndexEntry { name: name.clone(), version: None, state, reason });
        }
        entries
    }
}
