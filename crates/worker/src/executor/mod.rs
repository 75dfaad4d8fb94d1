//! What executes one loaded version of a model: its sessions, each on a thread of its own, the
//! queue before them, and what they have done.
//!
//! An executor lives as long as anybody holds it: a catalog, or a request that found it there.
//! When the last one lets go, on whatever thread that is, it only closes its queue. The
//! instances then end by themselves, and the last of them tells the worker.

mod crew;
mod instance;
mod sessions;
mod warmup;
mod workbench;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use inferring_backend::{Backend, Cores, LoadError, LoadedModel};
use inferring_policy::scheduler::Foreseen;
use inferring_repository::{ModelPlan, Pinning, VersionPlan, WarmupError};
use inferring_types::{
    Announced, Batching, ContentDigest, ContentHasher, DeviceStatus, ModelMetadata, ModelName,
    ModelStatistics, ModelVersion, NamedTensor, Reservation, ServiceError, Tensor, TensorSpec,
};
use tracing::info;

use crate::assembly::Assembly;
use crate::batchability::Question;
use crate::batcher::Batcher;
use crate::cache::{Key, KeyHasher, Sharing, Tenant};
use crate::reading::Reading;
use crate::sequences::Sequences;
use crate::settings::{Misfit, Serving};
use crate::statistics::Statistics;
use crate::threads::Threads;
use crate::watchdog::Watchdog;
pub(crate) use crew::OverLimit;
use crew::{Crew, Members};
use sessions::Spares;

/// The sessions of one loaded version, and the queue before them.
pub(crate) struct Executor {
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) tenant: Tenant,
    /// Of a model whose state is kept between requests.
    pub(crate) sequences: Option<Arc<Sequences>>,
    pub(crate) device: DeviceStatus,
    /// How many runs may overlap.
    pub(crate) instances: usize,
    /// By which settings it was loaded.
    pub(crate) serving: Arc<Serving>,
    /// From which files.
    pub(crate) source: VersionPlan,
    /// What is known of its large requests.
    pub(crate) reading: Reading,
    /// Bytes of one row of any request, where that is certain.
    row_bytes: Option<u64>,
    description: Description,
    /// What answers depend on beside the inputs, hashed once.
    pub(crate) key_prefix: KeyHasher,
}

/// What a client may know of it, but for its names.
struct Description {
    digest: ContentDigest,
    size_bytes: u64,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batching: Batching,
}

/// Why a version of a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The engine does not take it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its settings and the model contradict each other.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The requests to warm it up with cannot be made.
    #[error("no request to warm it up with")]
    Warmup(#[from] WarmupError),
    /// The model does not run the request that it was to be warmed up with.
    #[error("warm-up sample `{sample}` failed: {reason}")]
    WarmupRun {
        /// The sample.
        sample: String,
        /// The engine's reason, or what does not fit.
        reason: String,
    },
    /// Its file is not the one any more that was loaded first.
    #[error("`{path}` has changed since it was loaded")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// There is no thread to run it on.
    #[error("cannot start a thread for an instance")]
    Thread(#[source] io::Error),
}

/// What models of a worker are loaded by and run on.
pub(crate) struct House<'a> {
    pub(crate) backend: &'a Arc<dyn Backend>,
    pub(crate) threads: &'a Arc<Threads>,
    pub(crate) watchdog: &'a Watchdog,
}

/// What is to be loaded, and from what.
pub(crate) struct Order<'a> {
    pub(crate) plan: &'a ModelPlan,
    pub(crate) version: &'a VersionPlan,
    pub(crate) serving: &'a Arc<Serving>,
}

impl Executor {
    /// Loads the sessions, finds out about rows, warms up and starts the instances. When the
    /// last of these has ended, `ended` is called with the tenant, on that instance's thread.
    pub(crate) fn load(
        order: &Order<'_>,
        house: &House<'_>,
        ended: impl FnOnce(Tenant) + Send + 'static,
    ) -> Result<Self, ModelError> {
        let Order { plan, version, serving } = *order;
        let name = &plan.name;
        let mut first = house.backend.load(&version.path, &serving.load)?;
        let (inputs, outputs) = serving.describe(&first.inputs, &first.outputs)?;
        let samples = plan.warmup(&inputs)?;
        let tensors = |inputs: &[NamedTensor]| inputs.iter().map(|i| i.tensor.clone()).collect();
        let examples: Vec<_> = samples.iter().map(|sample| tensors(&sample.inputs)).collect();
        let question = Question::of(serving, &inputs, &outputs, &examples)?;
        let proof = question.answer(&mut *first.session);
        log_load(name, version, &first, &proof.batching);
        let assembly = proof.assembly();
        let sequences = Sequences::of_model(serving, &inputs, &outputs, &proof.batching)?;
        let spares = Spares::new(house.backend, version.path.clone(), &serving.load, &first);
        let device = first.device;
        let description = Description {
            digest: first.digest,
            size_bytes: first.size_bytes,
            inputs,
            outputs,
            batching: proof.batching,
        };
        let mut sessions = vec![first.session];
        let instances = serving.instances.map_or_else(
            || spares.worth(&mut *sessions[0], proof.known_good.as_deref()),
            NonZeroUsize::get,
        );
        for _ in 1..instances {
            sessions.push(spares.session()?);
        }
        let scheduler = serving.scheduler(assembly.joins_rows(), sessions.len());
        let sharing = serving.sharing(first.deterministic);
        let tenant = Tenant::new(sharing).keeping(serving.keeping);
        let key_prefix = key_prefix(&description, &assembly, &device, serving);
        let row_bytes = assembly.fixed_row_bytes(&description.inputs);
        let batcher = Batcher::new(scheduler, assembly);
        let executor = Self {
            reading: Reading::new(sharing != Sharing::Nothing),
            row_bytes,
            batcher: Arc::new(batcher),
            statistics: Arc::new(Statistics::new(name.clone(), version.version.clone())),
            tenant,
            instances,
            sequences,
            key_prefix,
            device,
            serving: serving.clone(),
            source: version.clone(),
            description,
        };
        let metadata = executor.metadata(name.clone(), Vec::new());
        let sample = warmup::run_samples(&metadata, samples, &executor.batcher, &mut sessions)?;
        if let Some(row) = &proof.known_good {
            warmup::learn_costs(&mut *sessions[0], row, &executor.batcher);
        }
        let crew = executor.crew(name, house, spares, proof.known_good.or(sample), ended);
        house.watchdog.watch(Arc::downgrade(&crew) as Weak<_>).map_err(ModelError::Thread)?;
        for session in sessions {
            crew.start(session).map_err(ModelError::Thread)?;
        }
        Ok(executor)
    }

    fn crew(
        &self,
        name: &ModelName,
        house: &House<'_>,
        spares: Spares,
        known_good: Option<Vec<Tensor>>,
        ended: impl FnOnce(Tenant) + Send + 'static,
    ) -> Arc<Crew> {
        let tenant = self.tenant;
        Arc::new_cyclic(|me| Crew {
            me: me.clone(),
            name: name.clone(),
            batcher: self.batcher.clone(),
            statistics: self.statistics.clone(),
            outputs: self.description.outputs.clone(),
            attention: house.watchdog.attention().clone(),
            known_good,
            spares,
            limit: self.serving.run_limit,
            cores: match self.serving.pinning {
                Pinning::None => Vec::new(),
                Pinning::Cores => Cores::of_process().numbers,
            },
            threads: house.threads.clone(),
            members: Members::new(move || ended(tenant)),
        })
    }

    /// What a client may know of it, under these names.
    pub(crate) fn metadata(&self, name: ModelName, aliases: Vec<ModelVersion>) -> ModelMetadata {
        let Description { digest, size_bytes, inputs, outputs, batching } = &self.description;
        let size_max = self.serving.queue.size_max.get() as u64;
        ModelMetadata {
            name,
            version: self.source.version.clone(),
            aliases,
            digest: *digest,
            size_bytes: *size_bytes,
            inputs: inputs.clone(),
            outputs: outputs.clone(),
            batch_size_max: if batching.joins_rows() { size_max } else { 0 },
            batching: batching.clone(),
        }
    }

    /// Whether a request is worth receiving of which only the head has come.
    ///
    /// # Errors
    /// As of [`Batcher::submit`].
    pub(crate) fn anticipate(
        &self,
        announced: &Announced<'_>,
    ) -> Result<Reservation, ServiceError> {
        let Announced { body_bytes, tensor_bytes, deadline, .. } = *announced;
        let body = body_bytes.or(self.row_bytes).unwrap_or(Announced::LARGE);
        let job = Foreseen {
            tensor_bytes,
            row_bytes: self.row_bytes,
            bytes: tensor_bytes.unwrap_or(body),
            class: self.serving.priorities().class(None),
            deadline: deadline.at(),
        };
        let pays = |cost| self.reading.pays(body, cost);
        let place = self.batcher.anticipate(&job, self.reading.misses(), pays)?;
        Ok(place.map(Reservation::new).unwrap_or_default())
    }

    /// What it has done since it was loaded.
    pub(crate) fn statistics(&self) -> ModelStatistics {
        self.statistics.snapshot(self.batcher.status(), self.batcher.curves())
    }

    /// The key under which the answer to `inputs` (in declared order) is kept. It covers
    /// everything the answer depends on: the model's bytes, how and where it runs, and for each
    /// input its name, datatype, shape and bytes.
    pub(crate) fn cache_key(&self, inputs: &[NamedTensor]) -> Key {
        let mut hasher = self.key_prefix.clone();
        for input in inputs {
            hasher.tensor(input);
        }
        hasher.finish()
    }
}

impl Drop for Executor {
    /// Lets the instances end once the queue is empty, without waiting for them: this may be a
    /// thread that serves requests.
    fn drop(&mut self) {
        self.batcher.close();
    }
}

fn log_load(name: &ModelName, plan: &VersionPlan, loaded: &LoadedModel, batching: &Batching) {
    info!(
        model = %name,
        version = %plan.version,
        path = %plan.path.display(),
        provider = loaded.device.provider,
        joins_rows = batching.joins_rows(),
        reason = batching.reason(),
        "model loaded",
    );
    for note in &loaded.notes {
        info!(model = %name, version = %plan.version, note, "about the model");
    }
}

fn key_prefix(
    model: &Description,
    assembly: &Assembly,
    device: &DeviceStatus,
    serving: &Serving,
) -> KeyHasher {
    let mut hasher = ContentHasher::new("what answers depend on");
    hasher.part(model.digest.as_bytes());
    hasher.part(device.provider.as_bytes());
    hasher.part(serving.load.fingerprint().as_bytes());
    // Rows that are joined by a declaration which is not true change answers, and so does what
    // they are filled up with, if only in the last bits.
    hasher.part(assembly.fingerprint().as_bytes());
    KeyHasher::new(&hasher.finish())
}
