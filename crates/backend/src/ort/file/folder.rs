//! Where files beside a model may lie: in its folder or below.
//!
//! A model names them, and whoever made the model need not be who runs it. A path that leads
//! elsewhere would have the engine read any file of the system into a tensor, from where a run
//! can give it out.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The folder of a model.
#[derive(Debug)]
pub(super) struct Folder {
    given: PathBuf,
    /// What files may lie in, without links: the folder that was given, and the one that the
    /// model itself lies in. They differ where the model is a link, as in the caches of hubs,
    /// which keep all content in one folder and the names of it in others.
    roots: Vec<PathBuf>,
}

/// Names that stand for memory of the engine's own process in models that it changed itself. In
/// a model file they would name an address to read from.
const RESERVED: &str = "*/_ORT_";

impl Folder {
    /// The folder of the model at this path.
    pub(super) fn of(model: &Path) -> Self {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let given = parent(model);
        let link = given.canonicalize().ok();
        let content = model.canonicalize().ok().map(|model| parent(&model));
        let mut roots = Vec::from_iter(link.into_iter().chain(content));
        roots.dedup();
        Self { given, roots }
    }

    /// The file that a model names by `location`.
    ///
    /// # Errors
    /// What is wrong with it, to be said behind its name.
    pub(super) fn locate(&self, location: &[u8]) -> Result<PathBuf, String> {
        let text = str::from_utf8(location).map_err(|_| "is not UTF-8".to_owned())?;
        if text.is_empty() {
            return Err("is empty: it must name a file".to_owned());
        }
        if text.starts_with(RESERVED) || text.contains('\0') {
            return Err("names no file".to_owned());
        }
        let within = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !Path::new(OsStr::new(text)).components().all(within) {
            return Err("leads out of the model's folder".to_owned());
        }
        let path = self.given.join(text);
        let content = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be found: {error}"),
        })?;
        if !self.roots.iter().any(|root| content.starts_with(root)) {
            let target = content.display();
            return Err(format!("is a link that leads out of the model's folder, to `{target}`"));
        }
        Ok(path)
    }
}
