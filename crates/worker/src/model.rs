//! One served version of a model: what executes it, under the names that it has now.

use std::sync::Arc;
use std::time::Duration;

use inferring_repository::{ModelPlan, StateSettings, VersionPlan};
use inferring_types::{
    Described, ModelConfig, ModelMetadata, ModelName, ModelStatus, ModelVersion, SequenceSpec,
    StateSpec, VersionPolicy,
};

use crate::cache::Sharing;
use crate::executor::Executor;
use crate::settings::{SequenceServing, Serving};
use crate::system;

/// A served version. Names and policy change without anything being loaded anew: a new one of
/// these is then made over the same executor.
pub(crate) struct Model {
    pub(crate) metadata: Arc<ModelMetadata>,
    pub(crate) executor: Arc<Executor>,
    policy: VersionPolicy,
    file_name: String,
}

impl Model {
    pub(crate) fn new(executor: Arc<Executor>, plan: &ModelPlan, version: &VersionPlan) -> Self {
        let file_name = match &plan.settings.file_name {
            Some(file_name) => file_name.to_string(),
            None => version.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        Self {
            metadata: Arc::new(executor.metadata(plan.name.clone(), version.aliases.clone())),
            executor,
            policy: plan.settings.versions.clone().unwrap_or_default(),
            file_name,
        }
    }

    /// Whether it was loaded from these files by these settings, and so need not be again.
    pub(crate) fn is_of(&self, version: &VersionPlan, serving: &Serving) -> bool {
        let source = &self.executor.source;
        source.version == version.version
            && source.path == version.path
            && source.fingerprint == version.fingerprint
            && *self.executor.serving == *serving
    }

    pub(crate) fn name(&self) -> &ModelName {
        &self.metadata.name
    }

    pub(crate) fn version(&self) -> &ModelVersion {
        &self.metadata.version
    }

    pub(crate) fn status(&self) -> ModelStatus {
        // Asked for again and again, by gateways and for metrics: where no request comes any more,
        // what has idled out is forgotten here.
        if let Some(sequences) = &self.executor.sequences {
            sequences.forget_idle(system::now());
        }
        ModelStatus {
            metadata: self.metadata.clone(),
            device: self.executor.device.clone(),
            batches: self.executor.batcher.status(),
        }
    }

    /// The settings in force.
    pub(crate) fn config(&self) -> ModelConfig {
        let (metadata, serving) = (&*self.metadata, &*self.executor.serving);
        let waits = metadata.batching.joins_rows() && !serving.queue.dispatch_when_idle;
        ModelConfig {
            name: metadata.name.clone(),
            version_policy: self.policy.clone(),
            batch_size_max: metadata.batch_size_max,
            inputs: metadata.inputs.clone(),
            outputs: metadata.outputs.clone(),
            instances: self.executor.instances,
            device: self.executor.device.clone(),
            delay_max: if waits { serving.queue.delay_max } else { Duration::ZERO },
            preferred_batch_sizes: serving.preferred_batch_sizes.clone(),
            allowed_batch_sizes: serving.allowed_sizes.iter().map(|&size| size as u64).collect(),
            priority_levels: serving.queue.priority_levels.get(),
            default_priority: serving.queue.default_priority.get(),
            sequences: serving.sequences.as_ref().map(describe_sequences),
            response_cache: self.executor.tenant.sharing() == Sharing::Kept,
            file_name: self.file_name.clone(),
            batching: metadata.batching.clone(),
        }
    }
}

fn describe_sequences(serving: &SequenceServing) -> SequenceSpec {
    let state = |state: &StateSettings| StateSpec {
        input: state.input.as_str().into(),
        output: state.output.as_str().into(),
    };
    SequenceSpec {
        idle_timeout: serving.idle_timeout,
        count_max: serving.count_max as u64,
        states: serving.states.iter().map(state).collect(),
    }
}

impl Described for Model {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }
}
