//! How one model wants to be served, where it does not leave that to the worker.

mod batching;
mod cache;
mod check;
mod device;
mod element;
mod read;
mod sequences;
mod shapes;
pub mod size;
mod tensors;
mod text;
mod versions;
mod warmup;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_types::{ModelVersion, VersionPolicy};
use serde::{Deserialize, Serialize};

pub use self::batching::{BatchingMode, BatchingSettings};
pub use self::cache::CacheSettings;
pub use self::check::{INSTANCES_MAX, PRIORITY_LEVELS_MAX};
pub use self::device::{DeviceName, InvalidDevice};
pub use self::element::ElementValue;
pub use self::sequences::{SequenceSettings, StateSettings};
pub use self::shapes::BatchAxis;
pub(crate) use self::shapes::RANK_MAX;
pub use self::tensors::{PaddingSettings, TensorSettings};
pub(crate) use self::versions::is_version;
pub use self::warmup::{WarmupData, WarmupInput, WarmupSample};
use crate::relative_path::RelativePath;

/// The settings of one model. What is absent is as the worker has it for all its models.
///
/// The serialised form is the one of `config.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// The model's file in each version's folder; `model.onnx` where absent.
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    pub file_name: Option<RelativePath>,
    /// Where the model runs.
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    /// Runs that may go on beside each other, each on a thread of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<NonZeroUsize>,
    /// Whether those threads keep to cores of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinning: Option<Pinning>,
    /// How long a run may take; one that takes longer is ended.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub run_limit: Option<Duration>,
    /// Threads that share the work of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intra_op_threads: Option<NonZeroUsize>,
    /// How far the graph is rewritten at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimization: Option<OptimizationLevel>,
    /// Whether answers are kept for equal requests, how long, and how many bytes of them.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: CacheSettings,
    /// Which versions are served.
    #[serde(with = "versions", skip_serializing_if = "Option::is_none")]
    pub versions: Option<VersionPolicy>,
    /// Other names of versions, which are served whatever `versions` says.
    #[serde(with = "versions::aliases", skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<ModelVersion, ModelVersion>,
    /// How requests share runs.
    #[serde(skip_serializing_if = "is_default")]
    pub batching: BatchingSettings,
    /// What the inputs are, by name; they are held against the model at load.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, TensorSettings>,
    /// What the outputs are, by name; they are held against the model at load.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, TensorSettings>,
    /// How a model is served whose requests follow each other; absent for one without state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<SequenceSettings>,
    /// Requests that are run before the model is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warmup: Vec<WarmupSample>,
}

/// Where the threads that run a model may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pinning {
    /// Wherever the system puts them.
    #[default]
    None,
    /// Each on cores of its own.
    Cores,
}

/// How far ONNX Runtime rewrites a graph at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizationLevel {
    /// Not at all.
    None,
    /// Constants are folded, what is never used goes.
    Basic,
    /// Operators are fused as well.
    Extended,
    /// The layout of tensors is changed as well: all that ONNX Runtime can do.
    All,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
