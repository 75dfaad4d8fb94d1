//! Settings and files that a load request brings, instead of those in the repository.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use inferring_types::{ModelName, RepositoryFile};

use crate::contained::Root;
use crate::error::PlanError;
use crate::folder::{ModelFolder, Settings};
use crate::plan::ModelPlan;
use crate::relative_path::RelativePath;
use crate::repository::Repository;
use crate::settings::{ModelSettings, is_version};

/// What a load request brings along. The default brings nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replacement<'a> {
    /// Triton's configuration as JSON, which counts instead of the one in the folder.
    pub config: Option<&'a str>,
    /// Files that count instead of the model's whole folder, each in that of a version:
    /// `1/model.onnx`. They need a `config` beside them, as they do in Triton.
    pub files: &'a [RepositoryFile],
}

impl Repository {
    /// Looks at one model, with what a load request brings along. With files the model need not
    /// be in the repository.
    ///
    /// Files are written into a temporary folder that the plan owns.
    ///
    /// # Errors
    /// [`PlanError`], as for [`Repository::plan`], and where what was brought is wrong.
    pub fn plan_with(
        &self,
        name: &ModelName,
        replacement: Replacement<'_>,
    ) -> Result<ModelPlan, PlanError> {
        let wrong = |source| PlanError::Config { origin: "the load request".to_owned(), source };
        let config = replacement.config.map(|text| ModelSettings::from_json(text, name));
        let settings: Option<Settings> = config.transpose().map_err(wrong)?;
        if replacement.files.is_empty() {
            return self.plan_by(name, settings);
        }
        let settings = settings.ok_or(PlanError::FilesWithoutConfig)?;
        plan_of_files(name, settings, replacement.files)
    }
}

fn plan_of_files(
    name: &ModelName,
    settings: Settings,
    files: &[RepositoryFile],
) -> Result<ModelPlan, PlanError> {
    let kept =
        tempfile::Builder::new().prefix("inferring-model-").tempdir().map_err(PlanError::Keep)?;
    for file in files {
        let path: RelativePath = file.path.parse().map_err(PlanError::BroughtPath)?;
        let misplaced = |problem| PlanError::BroughtFile { path: path.to_string(), problem };
        let version = path.as_str().split_once('/').and_then(|(folder, _)| folder.parse().ok());
        if !version.as_ref().is_some_and(is_version) {
            return Err(misplaced("expected a version before the name, as in `1/model.onnx`"));
        }
        write(&kept.path().join(&path), &file.content)
            .map_err(PlanError::Keep)?
            .ok_or_else(|| misplaced("there is another file of that name"))?;
    }
    let root = Root::at(kept.path()).map_err(PlanError::Keep)?;
    let folder = ModelFolder::read(kept.path()).map_err(PlanError::Keep)?;
    folder.plan(name, &root, settings, Some(Arc::new(kept)))
}

/// Writes a new file; `None` where its name, or a folder's on the way, is taken by another file.
fn write(path: &Path, content: &[u8]) -> std::io::Result<Option<()>> {
    use std::io::{ErrorKind, Write};
    let taken = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Ok(None),
        _ => Err(error),
    };
    if let Some(folder) = path.parent()
        && let Err(error) = fs::create_dir_all(folder)
    {
        return taken(error);
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(content).map(Some),
        Err(error) => taken(error),
    }
}

#[cfg(test)]
mod tests;
