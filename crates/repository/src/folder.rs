//! The folder of one model: its versions, its configuration, and the plan that they make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use inferring_types::{ModelName, ModelVersion, VersionPolicy};
use tempfile::TempDir;

use crate::contained::Root;
use crate::error::{ConfigError, PlanError};
use crate::fingerprint::Fingerprint;
use crate::plan::{ModelPlan, Note, VersionPlan};
use crate::settings::{ModelSettings, is_version};
use crate::text_format::LENGTH_MAX;

/// The model's file in a version's folder, where nothing else is said.
const MODEL_FILE: &str = "model.onnx";

/// What the folder of a model holds, not yet interpreted.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    pub(crate) path: PathBuf,
    versions: BTreeMap<ModelVersion, PathBuf>,
    config: Option<PathBuf>,
    /// A second configuration, which does not count.
    config_left_out: bool,
}

/// Settings, and what has no effect in the configuration that they were read from.
pub(crate) type Settings = (ModelSettings, Vec<Note>);

impl ModelFolder {
    /// Lists the folder.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut versions = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.parse().ok()).filter(is_version);
            if let Some(version) = version
                && entry.path().is_dir()
            {
                versions.insert(version, entry.path());
            }
        }
        // A link that leads nowhere is a configuration that cannot be read, not none.
        let file = |name: &str| Some(path.join(name)).filter(|p| p.symlink_metadata().is_ok());
        let (ours, tritons) = (file("config.toml"), file("config.pbtxt"));
        let config_left_out = ours.is_some() && tritons.is_some();
        let config = ours.or(tritons);
        Ok(Self { path: path.to_owned(), versions, config, config_left_out })
    }

    /// The same, but a folder without versions that has the model's file itself in it is version 1:
    /// models are often kept and handed on like that.
    pub(crate) fn or_flat(mut self) -> Self {
        if self.versions.is_empty() && the_model_file(&self.path).is_ok_and(|file| file.is_some()) {
            self.versions.insert(ModelVersion::first(), self.path.clone());
        }
        self
    }

    /// Whether it is that of a model at all.
    pub(crate) fn is_model(&self) -> bool {
        !self.versions.is_empty() || self.config.is_some()
    }

    pub(crate) fn versions(&self) -> Vec<ModelVersion> {
        self.versions.keys().cloned().collect()
    }

    /// Of everything in it.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let is_version = |name: &str| self.versions.keys().any(|v| v.as_str() == name);
        let rest = (String::new(), Fingerprint::of_folder(&self.path, is_version));
        let versions = self.versions.iter();
        let versions = versions.map(|(v, path)| (v.to_string(), of_version(path)));
        Fingerprint::of_all(versions.chain([rest]))
    }

    /// The settings in the model's configuration; the default ones where it has none.
    pub(crate) fn settings(&self, name: &ModelName, root: &Root) -> Result<Settings, PlanError> {
        let Some(path) = &self.config else {
            return Ok(Settings::default());
        };
        let wrong = |source| PlanError::Config { origin: format!("`{}`", path.display()), source };
        let text = root.read(path, LENGTH_MAX as u64)?;
        let mut settings = if path.extension().is_some_and(|e| e == "toml") {
            let text = String::from_utf8(text)
                .map_err(|_| wrong(ConfigError::Toml("it is not UTF-8".to_owned())))?;
            (ModelSettings::from_toml(&text).map_err(wrong)?, Vec::new())
        } else {
            ModelSettings::from_pbtxt(&text, name).map_err(wrong)?
        };
        if self.config_left_out {
            settings.1.push(Note::NoEffect {
                key: "config.pbtxt".to_owned(),
                reason: "there is a config.toml, and that counts".to_owned(),
            });
        }
        Ok(settings)
    }

    /// The plan that follows from the folder and `settings`.
    pub(crate) fn plan(
        &self,
        name: &ModelName,
        root: &Root,
        (settings, mut notes): Settings,
        kept: Option<Arc<TempDir>>,
    ) -> Result<ModelPlan, PlanError> {
        let mut versions = Vec::new();
        for (version, folder) in self.served(&settings, &mut notes)? {
            let path = model_file(folder, &settings, root)?;
            let aliases = settings.aliases.iter().filter(|(_, target)| *target == version);
            versions.push(VersionPlan {
                version: version.clone(),
                path,
                aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
                fingerprint: of_version(folder),
            });
        }
        let (name, folder) = (name.clone(), self.path.clone());
        Ok(ModelPlan { name, folder, versions, settings, notes, kept })
    }

    /// The versions that the policy and the aliases ask for.
    fn served(
        &self,
        settings: &ModelSettings,
        notes: &mut Vec<Note>,
    ) -> Result<BTreeMap<&ModelVersion, &Path>, PlanError> {
        let there = self.versions.iter().map(|(version, path)| (version, path.as_path()));
        let mut served: BTreeMap<_, _> =
            match settings.versions.as_ref().unwrap_or(&VersionPolicy::default()) {
                VersionPolicy::All => there.collect(),
                VersionPolicy::Latest(count) => there.rev().take(count.get()).collect(),
                VersionPolicy::Specific(wanted) => {
                    let missing = wanted.iter().filter(|v| !self.versions.contains_key(*v));
                    notes.extend(missing.cloned().map(Note::MissingVersion));
                    there.filter(|(version, _)| wanted.contains(version)).collect()
                }
            };
        for (alias, version) in &settings.aliases {
            let Some((version, path)) = self.versions.get_key_value(version) else {
                let (alias, version) = (alias.clone(), version.clone());
                return Err(PlanError::AliasWithoutVersion { alias, version });
            };
            served.insert(version, path);
        }
        if self.versions.is_empty() {
            return Err(PlanError::NoVersion { path: self.path.clone() });
        }
        if served.is_empty() {
            let there: Vec<_> = self.versions.keys().map(ToString::to_string).collect();
            return Err(PlanError::NoneOfVersions { there: there.join(", ") });
        }
        Ok(served)
    }
}

/// The plan of a model that is a single file: it has one version.
pub(crate) fn plan_of_file(
    name: &ModelName,
    path: &Path,
    root: &Root,
    (settings, mut notes): Settings,
) -> Result<ModelPlan, PlanError> {
    let path = root.file(path)?;
    let version = ModelVersion::first();
    if let Some((alias, target)) = settings.aliases.iter().find(|(_, target)| **target != version) {
        let (alias, version) = (alias.clone(), target.clone());
        return Err(PlanError::AliasWithoutVersion { alias, version });
    }
    let chosen = |wanted: &VersionPolicy| match wanted {
        VersionPolicy::Specific(wanted) => wanted.contains(&version),
        VersionPolicy::All | VersionPolicy::Latest(_) => true,
    };
    if !settings.versions.as_ref().is_none_or(chosen) {
        return Err(PlanError::NoneOfVersions { there: version.to_string() });
    }
    if settings.file_name.is_some() {
        notes.push(Note::NoEffect {
            key: "file_name".to_owned(),
            reason: "the model is a single file".to_owned(),
        });
    }
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let fingerprint = Fingerprint::of_file(&path);
    let aliases = settings.aliases.keys().cloned().collect();
    let versions = vec![VersionPlan { version, path, aliases, fingerprint }];
    Ok(ModelPlan { name: name.clone(), folder, versions, settings, notes, kept: None })
}

fn of_version(folder: &Path) -> Fingerprint {
    Fingerprint::of_folder(folder, |_| false)
}

/// The model's file in a version's folder: the one that the settings name, or `model.onnx`, or
/// the only one that ends in `.onnx`. Where it is a folder, `model.onnx` in it.
fn model_file(folder: &Path, settings: &ModelSettings, root: &Root) -> Result<PathBuf, PlanError> {
    let named = match &settings.file_name {
        Some(name) => folder.join(name),
        None => folder.join(MODEL_FILE),
    };
    if named.is_dir() {
        return root.file(&named.join(MODEL_FILE));
    }
    if settings.file_name.is_none() {
        let failed = |source| PlanError::Read { path: folder.to_owned(), source };
        if let Some(found) = the_model_file(folder).map_err(failed)? {
            return root.file(&found);
        }
    }
    root.file(&named)
}

/// The file in a folder that is called `model.onnx`, or the only one whose name ends in `.onnx`.
fn the_model_file(folder: &Path) -> io::Result<Option<PathBuf>> {
    let named = folder.join(MODEL_FILE);
    if named.exists() {
        return Ok(Some(named));
    }
    let mut candidates = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_model_file(&path) {
            candidates.push(path);
        }
    }
    Ok(if candidates.len() == 1 { candidates.pop() } else { None })
}

/// Whether it is a file, not a hidden one, whose name ends in `.onnx`.
pub(crate) fn is_model_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|e| e == "onnx") && path.is_file()
}
