//! One model that this worker serves: its metadata, its queue and its instances.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use inferring_backend::{Backend, LoadError, LoadOptions, LoadedModel};
use inferring_types::{
    ContentDigest, ContentHasher, Described, DeviceStatus, ModelMetadata, ModelName, ModelStatus,
    ModelVersion, NamedTensor,
};
use parking_lot::Mutex;
use tracing::info;

use crate::batchability::{self, Proof};
use crate::batcher::Batcher;
use crate::config::{BatchingMode, WorkerConfig};
use crate::instance::Instance;

/// A loaded model with running instances.
pub(crate) struct Model {
    pub(crate) metadata: Arc<ModelMetadata>,
    pub(crate) batcher: Arc<Batcher>,
    device: DeviceStatus,
    /// What answers depend on beside the inputs, hashed once.
    key_prefix: ContentHasher,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Model {
    /// Loads the model's instances and starts their threads.
    pub(crate) fn load(
        name: ModelName,
        path: &Path,
        backend: &dyn Backend,
        config: &WorkerConfig,
    ) -> Result<Self, LoadError> {
        let options = LoadOptions::default();
        let mut first = backend.load(path, &options)?;
        let proof = decide_batching(&mut first, config.batching.mode);
        let metadata = Arc::new(ModelMetadata {
            name,
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: first.digest,
            size_bytes: first.size_bytes,
            inputs: first.inputs.clone(),
            outputs: first.outputs.clone(),
            batch_size_max: if proof.batching.joins_rows() {
                config.batching.size_max.get() as u64
            } else {
                0
            },
            batching: proof.batching,
        });
        info!(
            model = %metadata.name,
            path = %path.display(),
            provider = first.device.provider,
            joins_rows = metadata.batching.joins_rows(),
            reason = metadata.batching.reason(),
            "model loaded",
        );
        let batcher = Batcher::new(&config.batching, metadata.batching.joins_rows());
        let model = Self {
            key_prefix: key_prefix(&metadata, &first.device),
            batcher: Arc::new(batcher),
            device: first.device.clone(),
            threads: Mutex::default(),
            metadata,
        };
        let mut sessions = vec![first.session];
        for _ in 1..config.instances.get() {
            sessions.push(backend.load(path, &options)?.session);
        }
        for session in sessions {
            model.start(Instance {
                session,
                batcher: model.batcher.clone(),
                outputs: model.metadata.outputs.clone(),
                known_good: proof.known_good.clone(),
            });
        }
        Ok(model)
    }

    /// The key under which the answer to `inputs` (in declared order) is kept. It covers
    /// everything the answer depends on: the model's bytes, where it runs, and for each input
    /// its name, datatype, shape and bytes.
    pub(crate) fn cache_key(&self, inputs: &[NamedTensor]) -> ContentDigest {
        let mut hasher = self.key_prefix.clone();
        for input in inputs {
            hasher.tensor(input);
        }
        hasher.finish()
    }

    pub(crate) fn status(&self) -> ModelStatus {
        ModelStatus {
            metadata: self.metadata.clone(),
            device: self.device.clone(),
            batches: self.batcher.status(),
        }
    }

    /// Refuses new work, runs what is queued, and waits for the instances to end.
    pub(crate) fn close(&self) {
        self.batcher.close();
        // The lock is held while joining: whoever closes at the same time waits as well.
        for thread in self.threads.lock().drain(..) {
            // A panic of an instance has been reported on its own thread.
            let _ = thread.join();
        }
    }

    fn start(&self, instance: Instance) {
        let thread = std::thread::Builder::new()
            .name(format!("run {}", self.metadata.name))
            .spawn(move || instance.run())
            .expect("the system starts threads");
        self.threads.lock().push(thread);
    }
}

impl Described for Model {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.close();
    }
}

fn decide_batching(loaded: &mut LoadedModel, mode: BatchingMode) -> Proof {
    let LoadedModel { session, inputs, outputs, .. } = loaded;
    match mode {
        BatchingMode::Auto => batchability::prove(&mut **session, inputs, outputs),
        BatchingMode::Rows => batchability::declared_rows(&mut **session, inputs, outputs),
        BatchingMode::Alone => batchability::declared_alone(&mut **session, inputs),
    }
}

fn key_prefix(metadata: &ModelMetadata, device: &DeviceStatus) -> ContentHasher {
    let mut hasher = ContentHasher::new("inferring result cache 1");
    hasher.part(metadata.digest.as_bytes());
    hasher.part(device.provider.as_bytes());
    hasher
}
