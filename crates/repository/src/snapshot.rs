//! What a repository held at one moment.

use std::path::PathBuf;
use std::sync::Arc;

use inferring_types::{ModelName, ModelVersion};

use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::plan::ModelPlan;

/// All models of a repository as they were at one moment, and what in it is no model.
#[derive(Debug, Clone, Default)]
pub struct RepositorySnapshot {
    pub(crate) models: Vec<ModelEntry>,
    pub(crate) problems: Vec<Problem>,
    /// Sources that could not be read: what was in them is not gone.
    pub(crate) unread: Vec<usize>,
}

impl RepositorySnapshot {
    /// The models: in the order in which their sources were named, and by name within a folder.
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// The model of that name.
    pub fn model(&self, name: &ModelName) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.name == *name)
    }

    /// What is in the repository and cannot be a model.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// A model in a repository, whether or not it can be served.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// Its name.
    pub name: ModelName,
    /// Its folder, or its file where it is a single one.
    pub path: PathBuf,
    /// All its versions, oldest first, served or not.
    pub versions: Vec<ModelVersion>,
    /// How it is to be served, or why that cannot be said.
    pub plan: Result<ModelPlan, Arc<PlanError>>,
    /// Of all its files.
    pub fingerprint: Fingerprint,
    pub(crate) source: usize,
}

/// Something in a repository that is no model, though it looks as if it were meant as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// Why it is no model, and what would be.
    pub reason: String,
}
