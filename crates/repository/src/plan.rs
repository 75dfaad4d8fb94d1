//! What is to be loaded for one model, and how it is to be served.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use inferring_types::{ModelName, ModelVersion};
use tempfile::TempDir;

use crate::fingerprint::Fingerprint;
use crate::settings::ModelSettings;

/// One model, ready to be loaded.
///
/// A plan made from the files of a request owns the folder they are in, together with its
/// clones: keep one as long as the model may have to be loaded again.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    /// The model.
    pub name: ModelName,
    /// The folder below which its files are; that of the file for a single file.
    pub folder: PathBuf,
    /// The versions to be served, oldest first; never empty.
    pub versions: Vec<VersionPlan>,
    /// How it wants to be served.
    pub settings: ModelSettings,
    /// What its configuration says and has no effect.
    pub notes: Vec<Note>,
    pub(crate) kept: Option<Arc<TempDir>>,
}

impl ModelPlan {
    /// Whether a request brought the model's files: the repository then does not have them.
    pub fn is_from_request(&self) -> bool {
        self.kept.is_some()
    }
}

/// One version of a model, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionPlan {
    /// The version.
    pub version: ModelVersion,
    /// Its file. Files that it refers to are beside it.
    pub path: PathBuf,
    /// Its other names.
    pub aliases: Vec<ModelVersion>,
    /// Of the version's files: where it is equal, they have not changed.
    pub fingerprint: Fingerprint,
}

/// Something a configuration says that has no effect here: reported, so that nobody believes
/// that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A key that is not known.
    UnknownKey {
        /// The key, with those around it: `input[0].dims`.
        key: String,
    },
    /// A key that is known.
    NoEffect {
        /// The key, with those around it.
        key: String,
        /// Why it has no effect.
        reason: String,
    },
    /// A version that the policy names is not there; others are.
    MissingVersion(ModelVersion),
    /// So many more keys have no effect.
    More(usize),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key } => write!(f, "`{key}` is not known and has no effect"),
            Self::NoEffect { key, reason } => write!(f, "`{key}` has no effect: {reason}"),
            Self::MissingVersion(version) => {
                write!(f, "version {version} is asked for and not there")
            }
            Self::More(count) => write!(f, "{count} more keys have no effect"),
        }
    }
}
