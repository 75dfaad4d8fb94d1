//! How one model wants to be served, where it does not leave that to the worker.

mod device;
mod read;
mod shapes;
mod text;
mod versions;
mod warmup;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_types::{DataType, ModelVersion, ShapeSpec, VersionPolicy};
use serde::{Deserialize, Serialize};

pub use self::device::{DeviceName, InvalidDevice};
pub use self::shapes::BatchAxis;
pub(crate) use self::shapes::RANK_MAX;
pub(crate) use self::versions::is_version;
pub use self::warmup::{WarmupData, WarmupInput, WarmupSample, WarmupValue};
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
    /// Sessions, each with a thread of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<NonZeroUsize>,
    /// Threads that share the work of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intra_op_threads: Option<NonZeroUsize>,
    /// How far the graph is rewritten at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimization: Option<OptimizationLevel>,
    /// Whether answers are kept for equal requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
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
    /// Requests that are run before the model is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warmup: Vec<WarmupSample>,
}

/// How requests for one model share runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingSettings {
    /// Whether rows of different requests may share a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<BatchingMode>,
    /// Rows in one run at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_max: Option<NonZeroUsize>,
    /// Numbers of rows at which a run need not wait for more, smallest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_sizes: Vec<NonZeroUsize>,
    /// How long a request may be held back for others to join it.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub delay_max: Option<Duration>,
    /// Whether an idle instance takes what is there at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch_when_idle: Option<bool>,
    /// Requests waiting at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_requests_max: Option<NonZeroUsize>,
}

/// Whether rows of different requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchingMode {
    /// Where a check at load proves that rows do not influence each other.
    #[default]
    Auto,
    /// Yes, by declaration.
    Rows,
    /// No: every request runs alone.
    Alone,
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

/// What an input or output is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TensorSettings {
    /// The element type.
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    pub datatype: Option<DataType>,
    /// The whole shape, the batch axis included.
    #[serde(with = "shapes", skip_serializing_if = "Option::is_none")]
    pub shape: Option<ShapeSpec>,
    /// Along which axis rows of different requests are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_axis: Option<BatchAxis>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
