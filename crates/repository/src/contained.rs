//! Finds files in a repository and refuses those that a link takes out of it.
//!
//! Links within a repository are common and harmless: versions share weights, and mounted volumes
//! are swapped by turning a link. One that leads out would serve, or show, what nobody put there.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::PlanError;

/// A folder that nothing may lead out of: links in its own path are resolved.
#[derive(Debug, Clone)]
pub(crate) struct Root(Option<PathBuf>);

impl Root {
    /// This folder.
    pub(crate) fn at(folder: &Path) -> io::Result<Self> {
        fs::canonicalize(folder).map(|path| Self(Some(path)))
    }

    /// No bounds: for a file that a person named.
    pub(crate) fn unbounded() -> Self {
        Self(None)
    }

    /// The regular file at `path`, with links in its folder resolved and its own name kept: what
    /// it refers to is beside the link where the file itself is one.
    ///
    /// # Errors
    /// [`PlanError::NoModelFile`] where there is none, [`PlanError::LeadsOut`], and
    /// [`PlanError::Read`] where it cannot be told.
    pub(crate) fn file(&self, path: &Path) -> Result<PathBuf, PlanError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => PlanError::NoModelFile { path: path.to_owned() },
            _ => PlanError::Read { path: path.to_owned(), source },
        };
        let target = fs::canonicalize(path).map_err(failed)?;
        // A named pipe or a device could be waited for without end.
        if !fs::metadata(&target).map_err(failed)?.is_file() {
            return Err(PlanError::NoModelFile { path: path.to_owned() });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        for place in [&target, &folder] {
            if self.0.as_ref().is_some_and(|root| !place.starts_with(root)) {
                let target = place.clone();
                return Err(PlanError::LeadsOut { path: path.to_owned(), target });
            }
        }
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(folder.join(name))
    }

    /// The content of a file, of which at most `length_max` bytes are read.
    ///
    /// # Errors
    /// As [`Root::file`]; [`PlanError::Read`] where it is longer.
    pub(crate) fn read(&self, path: &Path, length_max: u64) -> Result<Vec<u8>, PlanError> {
        let file = self.file(path)?;
        let failed = |source| PlanError::Read { path: path.to_owned(), source };
        let mut content = Vec::new();
        let file = fs::File::open(file).map_err(failed)?;
        file.take(length_max.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > length_max {
            let text = format!("more than {length_max} bytes long");
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, text)));
        }
        Ok(content)
    }
}
