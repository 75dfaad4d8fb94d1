//! A model as the gateway knows it.

use std::sync::Arc;

use inferring_policy::{AnswerTimes, HedgeConfig};
use inferring_types::{Described, ModelMetadata};

/// A version of a model that some worker serves, with what the gateway has learnt of it.
#[derive(Clone)]
pub(crate) struct KnownModel {
    pub(crate) metadata: Arc<ModelMetadata>,
    /// How long workers take to answer for it.
    pub(crate) times: Arc<AnswerTimes>,
}

impl KnownModel {
    /// The model of this description; what is known of the same version is kept.
    pub(crate) fn new<'a>(
        metadata: Arc<ModelMetadata>,
        mut known: impl Iterator<Item = &'a Self>,
        config: HedgeConfig,
    ) -> Self {
        let before = known.find(|known| known.metadata.digest == metadata.digest);
        let times = before.map_or_else(|| AnswerTimes::new(config).into(), |m| m.times.clone());
        Self { metadata, times }
    }
}

impl Described for KnownModel {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }
}
