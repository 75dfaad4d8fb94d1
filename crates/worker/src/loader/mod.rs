//! Loads, replaces and unloads models, on threads of its own and never on one that serves.
//!
//! A load changes nothing until all that it brings is loaded and warm; then one step puts it in
//! the place of what was served. Where anything fails, all of it is given up: what was served
//! goes on being served, and the index says why.

mod error;
mod start;
mod tasks;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferring_backend::Backend;
use inferring_repository::{ModelPlan, PlanError, Replacement, Repository};
use inferring_types::{LoadRequest, ModelName, ServiceError};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::cache::ResultCache;
use crate::config::WorkerConfig;
use crate::executor::{Executor, House, Order};
use crate::model::Model;
use crate::registry::Registry;
use crate::settings::Serving;
use crate::system;
use crate::threads::Threads;
use crate::watchdog::Watchdog;
pub use error::{LoadFailure, StartError};
use tasks::{Refusal, Tasks};

/// Requests to load or unload that may wait; one more is refused.
const WAITING_MAX: usize = 256;

/// What loads a worker's models.
pub(crate) struct Loader {
    repository: Repository,
    backend: Arc<dyn Backend>,
    config: WorkerConfig,
    registry: Arc<Registry>,
    cache: Arc<ResultCache>,
    tasks: Arc<Tasks>,
    /// The threads on which models run.
    instances: Arc<Threads>,
    /// Ends their runs that take too long.
    watchdog: Watchdog,
    /// Models that were unloaded by request: what becomes of their files does not bring them
    /// back.
    put_aside: Mutex<HashSet<ModelName>>,
    closing: Arc<AtomicBool>,
}

impl Loader {
    pub(crate) fn new(
        repository: Repository,
        backend: Arc<dyn Backend>,
        config: WorkerConfig,
        registry: Arc<Registry>,
        cache: Arc<ResultCache>,
    ) -> Arc<Self> {
        Arc::new(Self {
            repository,
            backend,
            config,
            registry,
            cache,
            tasks: Tasks::new(threads()),
            instances: Arc::default(),
            watchdog: Watchdog::new(),
            put_aside: Mutex::default(),
            closing: Arc::default(),
        })
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// How often the models' files are to be looked at, if at all.
    pub(crate) fn watch_interval(&self) -> Option<Duration> {
        self.config.watch
    }

    /// Loads what a request asks for. The load goes on if nobody waits for its end.
    pub(crate) async fn load(self: &Arc<Self>, request: LoadRequest) -> Result<(), ServiceError> {
        self.registry.require_loaded()?;
        let model = request.model.clone();
        self.request(model, move |loader| {
            loader.put_aside.lock().remove(&request.model);
            loader.load_now(&request.model, &loader.plan(&request))
        })
        .await
    }

    /// Unloads a model because a request says so.
    pub(crate) async fn unload(self: &Arc<Self>, model: ModelName) -> Result<(), ServiceError> {
        self.registry.require_loaded()?;
        if !self.registry.knows(&model) {
            return Err(ServiceError::not_found(format!("no model `{model}` is known here")));
        }
        self.request(model.clone(), move |loader| {
            loader.put_aside.lock().insert(model.clone());
            loader.unload_now(&model);
            Ok(())
        })
        .await
    }

    /// Loads a model because its files have changed.
    pub(crate) fn follow_change(self: &Arc<Self>, model: ModelName) {
        let task = |loader: &Self, model: &ModelName| {
            if !loader.put_aside.lock().contains(model) {
                // The reason is in the log and in the index.
                let _ = loader.load_now(model, &loader.repository.plan(model).map_err(Arc::new));
            }
        };
        self.follow(model, task);
    }

    /// Unloads a model because its files are gone.
    pub(crate) fn follow_removal(self: &Arc<Self>, model: ModelName) {
        self.follow(model, |loader, model| {
            loader.registry.note_repository(model, false);
            loader.put_aside.lock().remove(model);
            loader.unload_now(model);
        });
    }

    /// Takes no more requests, finishes what requests had loaded, runs what is queued for models
    /// and ends their instances. This blocks. The first load, where it is under way, ends after
    /// the model that it is at, and takes what it has loaded back.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.tasks.close();
        for executor in self.registry.executors() {
            executor.batcher.close();
        }
        self.instances.join();
        self.watchdog.close();
    }

    /// Has a piece of work done and waits for its end.
    async fn request(
        self: &Arc<Self>,
        model: ModelName,
        work: impl FnOnce(&Self) -> Result<(), LoadFailure> + Send + 'static,
    ) -> Result<(), ServiceError> {
        let (answer, answered) = oneshot::channel();
        let loader = self.clone();
        let task = move || {
            // Whoever asked may have left.
            let _ = answer.send(work(&loader));
        };
        self.tasks.submit(model, WAITING_MAX, task).map_err(refused)?;
        match answered.await {
            Ok(outcome) => outcome.map_err(ServiceError::from),
            Err(_) if self.closing.load(Ordering::Relaxed) => Err(shutting_down()),
            Err(_) => Err(ServiceError::failed("loading the model ended in a panic")),
        }
    }

    fn follow(self: &Arc<Self>, model: ModelName, work: fn(&Self, &ModelName)) {
        let (loader, name) = (self.clone(), model.clone());
        let task = move || work(&loader, &name);
        if let Err(Refusal::NoThread(error)) = self.tasks.submit(model, usize::MAX, task) {
            warn!(%error, "no thread to follow a change of a model's files");
        }
    }

    fn plan(&self, request: &LoadRequest) -> Result<ModelPlan, Arc<PlanError>> {
        let plan = if request.config.is_none() && request.files.is_empty() {
            self.repository.plan(&request.model)
        } else {
            let config = request.config.as_deref();
            let replacement = Replacement { config, files: &request.files };
            self.repository.plan_with(&request.model, replacement)
        };
        // What a request brings along says nothing about the repository.
        if request.files.is_empty() {
            let has = !matches!(&plan, Err(error) if error.is_not_found());
            self.registry.note_repository(&request.model, has);
        }
        plan.map_err(Arc::new)
    }

    /// Loads what is planned for a model and serves it.
    fn load_now(
        &self,
        name: &ModelName,
        plan: &Result<ModelPlan, Arc<PlanError>>,
    ) -> Result<(), LoadFailure> {
        let models = self.prepare(name, plan)?;
        self.serve(name, models);
        Ok(())
    }

    fn unload_now(&self, name: &ModelName) {
        self.serve(name, Vec::new());
        info!(model = %name, "model unloaded");
    }

    fn serve(&self, name: &ModelName, models: Vec<Arc<Model>>) {
        for tenant in self.registry.serve(name, models) {
            self.cache.forget(tenant);
        }
    }

    /// Loads and warms up what is planned for a model, but for versions that are served as
    /// planned, and serves nothing of it yet.
    fn prepare(
        &self,
        name: &ModelName,
        plan: &Result<ModelPlan, Arc<PlanError>>,
    ) -> Result<Vec<Arc<Model>>, LoadFailure> {
        let prepared = match plan {
            Ok(plan) => self.load_versions(plan),
            Err(error) => Err(LoadFailure::Plan { model: name.clone(), source: error.clone() }),
        };
        if let Err(failure) = &prepared {
            warn!(model = %name, error = failure.reason(), "a model could not be loaded");
            self.registry.note_failure(name, failure.version(), &failure.reason());
            // Sessions that were loaded beside the failure are gone.
            self.backend.trim();
        }
        prepared
    }

    fn load_versions(&self, plan: &ModelPlan) -> Result<Vec<Arc<Model>>, LoadFailure> {
        let name = &plan.name;
        for note in &plan.notes {
            warn!(model = %name, "in its configuration: {note}");
        }
        let serving = Serving::new(&plan.settings, &self.config)
            .map_err(|source| LoadFailure::Settings { model: name.clone(), source })?;
        let serving = Arc::new(serving);
        let served = self.registry.served(name);
        let versions: Vec<_> = plan.versions.iter().map(|v| v.version.clone()).collect();
        self.registry.note_loading(name, &versions);
        let mut models = Vec::with_capacity(versions.len());
        for version in &plan.versions {
            if self.closing.load(Ordering::Relaxed) {
                return Err(LoadFailure::Closing { model: name.clone() });
            }
            let same = served.iter().find(|model| model.is_of(version, &serving));
            let executor = match same {
                Some(model) => model.executor.clone(),
                None => self.load_version(&Order { plan, version, serving: &serving })?,
            };
            models.push(Arc::new(Model::new(executor, plan, version)));
        }
        Ok(models)
    }

    fn load_version(&self, order: &Order<'_>) -> Result<Arc<Executor>, LoadFailure> {
        let (name, version) = (order.plan.name.clone(), order.version.version.clone());
        let (registry, cache) = (self.registry.clone(), self.cache.clone());
        let (backend, closing) = (self.backend.clone(), self.closing.clone());
        let ended = {
            let (name, version) = (name.clone(), version.clone());
            move |tenant| {
                if closing.load(Ordering::Relaxed) {
                    // It ends with the worker, whose memory goes as a whole.
                    return;
                }
                // Whatever it still computed after it was replaced was kept once more.
                cache.forget(tenant);
                backend.trim();
                registry.note_end(&name, &version, tenant);
            }
        };
        let house =
            House { backend: &self.backend, threads: &self.instances, watchdog: &self.watchdog };
        Executor::load(order, &house, ended).map(Arc::new).map_err(|source| LoadFailure::Version {
            model: name,
            version,
            source,
        })
    }
}

/// How many models are loaded at once.
fn threads() -> usize {
    system::parallelism()
}

fn refused(refusal: Refusal) -> ServiceError {
    match refusal {
        Refusal::Closed => shutting_down(),
        Refusal::Full => ServiceError::overloaded(format!(
            "{WAITING_MAX} requests to load or unload models are waiting already",
        )),
        Refusal::NoThread(error) => {
            ServiceError::failed("the system starts no thread to load the model").caused_by(error)
        }
    }
}

fn shutting_down() -> ServiceError {
    ServiceError::unavailable("the worker is shutting down")
}
