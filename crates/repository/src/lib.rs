//! What a folder of models holds: which models there are, in which versions, how each wants to be
//! served, and what has changed since it was last looked at.
//!
//! Everything here is reading. A [`Repository`] turns what a person named on a command line into
//! [`ModelPlan`]s; loading them, and deciding what to do about one that cannot be read, is the
//! worker's. A folder is never trusted to mean well: a name or a link that leads out of it is
//! refused, and what is read of it is bounded.
//!
//! Settings come from our own `config.toml`, where an unknown key is an error, or from Triton's
//! `config.pbtxt`, which holds much that has no meaning here: such keys are reported as
//! [`Note`]s, so that nobody believes them to be in force.

mod changes;
mod contained;
mod error;
mod fingerprint;
mod folder;
mod json;
mod plan;
mod relative_path;
mod replacement;
mod repository;
mod settings;
mod snapshot;
pub mod text_format;
pub mod tree;
mod triton;
mod warmup;
mod wrong_value;

pub use changes::{Change, ChangeKind, Watch};
pub use error::{ConfigError, OpenError, PlanError, UnknownKey};
pub use fingerprint::Fingerprint;
pub use plan::{ModelPlan, Note, VersionPlan};
pub use relative_path::{InvalidPath, RelativePath};
pub use replacement::Replacement;
pub use repository::Repository;
pub use settings::{
    BatchAxis, BatchingMode, BatchingSettings, CacheSettings, DeviceName, ElementValue,
    INSTANCES_MAX, InvalidDevice, ModelSettings, OptimizationLevel, PRIORITY_LEVELS_MAX,
    PaddingSettings, Pinning, SequenceSettings, StateSettings, TensorSettings, WarmupData,
    WarmupInput, WarmupSample, size,
};
pub use snapshot::{ModelEntry, Problem, RepositorySnapshot};
pub use warmup::{WarmupError, WarmupRequest};
pub use wrong_value::wrong_value;
