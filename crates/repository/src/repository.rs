//! The models that the paths on a command line stand for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use inferring_types::{ModelName, ModelVersion};

use crate::contained::Root;
use crate::error::{OpenError, PlanError};
use crate::fingerprint::Fingerprint;
use crate::folder::{ModelFolder, Settings, is_model_file, plan_of_file};
use crate::plan::ModelPlan;
use crate::snapshot::{ModelEntry, Problem, RepositorySnapshot};

/// Where models are: files, folders of one model each, and folders of models.
///
/// Its methods read the disk and so may take a while: call them where waiting is allowed.
#[derive(Debug, Clone)]
pub struct Repository {
    sources: Vec<Source>,
}

/// A path that was named.
#[derive(Debug, Clone)]
enum Source {
    /// A model that is this file.
    File { name: ModelName, path: PathBuf },
    /// The folder of one model.
    Model { name: ModelName, path: PathBuf },
    /// A folder of models.
    Folder { path: PathBuf },
}

impl Repository {
    /// The repository that these paths make up. What each of them is, is decided here: a file is
    /// a model of its own, named after itself; a folder with folders named by numbers or with a
    /// configuration is that of one model; any other is a folder of models.
    ///
    /// # Errors
    /// [`OpenError`] where a path cannot be read, cannot name a model, or names the same one as
    /// another path.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, OpenError> {
        let mut sources: Vec<Source> = Vec::new();
        for path in paths {
            let source = Source::classify(path.as_ref())?;
            if let Some((name, path)) = source.model()
                && let Some((_, first)) =
                    sources.iter().filter_map(Source::model).find(|(other, _)| *other == name)
            {
                let (first, second) = (first.to_owned(), path.to_owned());
                return Err(OpenError::SameName { name: name.clone(), first, second });
            }
            sources.push(source);
        }
        Ok(Self { sources })
    }

    /// Whether a model was named by itself, and not found in a folder of models.
    pub fn names(&self, entry: &ModelEntry) -> bool {
        matches!(self.sources.get(entry.source), Some(Source::File { .. } | Source::Model { .. }))
    }

    /// Looks at everything. What cannot be read or is wrong is part of the result: one bad model
    /// keeps no other from being served.
    pub fn scan(&self) -> RepositorySnapshot {
        let mut snapshot = RepositorySnapshot::default();
        for candidate in self.candidates(&mut snapshot) {
            let known = snapshot.models.iter_mut().find(|entry| entry.name == candidate.name);
            if let Some(entry) = known {
                entry.plan = Err(Arc::new(same_name(&entry.path, &candidate)));
                continue;
            }
            let versions = candidate.versions();
            let fingerprint = candidate.fingerprint();
            let plan = candidate.plan(None).map_err(Arc::new);
            let Candidate { name, path, source, .. } = candidate;
            snapshot.models.push(ModelEntry { name, path, versions, plan, fingerprint, source });
        }
        snapshot
    }

    /// Looks at one model.
    ///
    /// # Errors
    /// [`PlanError`] where there is no such model, or it cannot be served as it is.
    pub fn plan(&self, name: &ModelName) -> Result<ModelPlan, PlanError> {
        self.plan_by(name, None)
    }

    pub(crate) fn plan_by(
        &self,
        name: &ModelName,
        settings: Option<Settings>,
    ) -> Result<ModelPlan, PlanError> {
        let candidates = self.candidates(&mut RepositorySnapshot::default());
        let mut named = candidates.into_iter().filter(|candidate| candidate.name == *name);
        match (named.next(), named.next()) {
            (None, _) => Err(PlanError::UnknownModel(name.clone())),
            (Some(only), None) => only.plan(settings),
            (Some(first), Some(second)) => Err(same_name(&first.path, &second)),
        }
    }

    /// Everything that may be a model; what is none goes to the snapshot's problems.
    fn candidates(&self, snapshot: &mut RepositorySnapshot) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (source, place) in self.sources.iter().enumerate() {
            match place {
                Source::File { name, path } => {
                    let (name, path) = (name.clone(), path.clone());
                    let form = Form::File(Root::unbounded());
                    candidates.push(Candidate { name, path, source, form });
                }
                Source::Model { name, path } => {
                    let (name, path) = (name.clone(), path.clone());
                    let folder = ModelFolder::read(&path).map(ModelFolder::or_flat);
                    let form = Form::Folder(folder, Root::at(&path));
                    candidates.push(Candidate { name, path, source, form });
                }
                Source::Folder { path } => {
                    if let Err(error) = list(path, source, &mut candidates, snapshot) {
                        let reason = format!("cannot be read: {error}");
                        snapshot.problems.push(Problem { path: path.clone(), reason });
                        snapshot.unread.push(source);
                    }
                }
            }
        }
        candidates
    }
}

/// The models in a folder of models, by name.
fn list(
    folder: &Path,
    source: usize,
    candidates: &mut Vec<Candidate>,
    snapshot: &mut RepositorySnapshot,
) -> io::Result<()> {
    let root = Root::at(folder)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort_unstable();
    for path in paths {
        let file_name = path.file_name().unwrap_or_default();
        if file_name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let (stem, form) = if path.is_dir() {
            let folder = ModelFolder::read(&path).map(ModelFolder::or_flat);
            if let Some(reason) = folder.as_ref().ok().and_then(why_no_model) {
                snapshot.problems.push(Problem { path, reason });
                continue;
            }
            (file_name, Form::Folder(folder, Ok(root.clone())))
        } else if is_model_file(&path) {
            (path.file_stem().unwrap_or_default(), Form::File(root.clone()))
        } else {
            continue;
        };
        match stem.to_string_lossy().parse() {
            Ok(name) => candidates.push(Candidate { name, path, source, form }),
            Err(error) => {
                let reason = format!("{error}");
                snapshot.problems.push(Problem { path, reason });
            }
        }
    }
    Ok(())
}

/// Why a folder is not that of a model, and what to do about it.
fn why_no_model(folder: &ModelFolder) -> Option<String> {
    if folder.is_model() {
        return None;
    }
    let file = fs::read_dir(&folder.path).ok()?.flatten().find(|e| is_model_file(&e.path()));
    let advice = file.map(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        format!(
            ": move `{name}` or another one to `1/model.onnx` in it, or name the files themselves"
        )
    });
    Some(format!(
        "no model: there is no folder named by a version, such as `1`, and no configuration{}",
        advice.unwrap_or_default(),
    ))
}

fn same_name(first: &Path, second: &Candidate) -> PlanError {
    let (first, second, name) = (first.to_owned(), second.path.clone(), second.name.clone());
    PlanError::SameName { name, first, second }
}

impl Source {
    fn classify(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Read { path: path.to_owned(), source };
        let named = |name: Option<&OsStr>| {
            name.unwrap_or_default()
                .to_string_lossy()
                .parse()
                .map_err(|source| OpenError::Name { path: path.to_owned(), source })
        };
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(Self::File { name: named(path.file_stem())?, path: path.to_owned() });
        }
        if !ModelFolder::read(path).map_err(unreadable)?.is_model() {
            return Ok(Self::Folder { path: path.to_owned() });
        }
        let name = match path.file_name() {
            Some(name) => named(Some(name))?,
            // `.` and `..` have a name only where they lead.
            None => named(fs::canonicalize(path).map_err(unreadable)?.file_name())?,
        };
        Ok(Self::Model { name, path: path.to_owned() })
    }

    /// The one model that it is.
    fn model(&self) -> Option<(&ModelName, &Path)> {
        match self {
            Self::File { name, path } | Self::Model { name, path } => Some((name, path)),
            Self::Folder { .. } => None,
        }
    }
}

/// A place where a model is or should be.
struct Candidate {
    name: ModelName,
    path: PathBuf,
    source: usize,
    form: Form,
}

enum Form {
    File(Root),
    Folder(io::Result<ModelFolder>, io::Result<Root>),
}

impl Candidate {
    fn versions(&self) -> Vec<ModelVersion> {
        match &self.form {
            Form::File(_) => vec![ModelVersion::first()],
            Form::Folder(Ok(folder), _) => folder.versions(),
            Form::Folder(Err(_), _) => Vec::new(),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match &self.form {
            Form::Folder(Ok(folder), _) => folder.fingerprint(),
            Form::Folder(Err(_), _) => Fingerprint::of_folder(&self.path, |_| false),
            Form::File(_) => Fingerprint::of_file(&self.path),
        }
    }

    /// The plan by the model's own settings, or by others.
    fn plan(&self, settings: Option<Settings>) -> Result<ModelPlan, PlanError> {
        let unreadable = |error: &io::Error| PlanError::Read {
            path: self.path.clone(),
            source: io::Error::new(error.kind(), error.to_string()),
        };
        match &self.form {
            Form::File(root) => {
                plan_of_file(&self.name, &self.path, root, settings.unwrap_or_default())
            }
            Form::Folder(folder, root) => {
                let folder = folder.as_ref().map_err(unreadable)?;
                let root = root.as_ref().map_err(unreadable)?;
                let settings = match settings {
                    Some(settings) => settings,
                    None => folder.settings(&self.name, root)?,
                };
                folder.plan(&self.name, root, settings, None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
