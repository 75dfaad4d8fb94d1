//! A model's files: their digest and size, and whether they stay the same while it is loaded.
//!
//! The engine reads the model by itself, since weights may lie in files beside it. The digest is
//! taken in a pass of our own, over all of these; were one replaced in between, answers of the
//! new model would be cached under the old one's digest. So their identity is looked at before
//! and after.

mod folder;
mod references;
mod wire;

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use inferring_types::{ContentDigest, ContentHasher};

use self::folder::Folder;
use self::references::{Extent, ReferenceError, References};
use self::wire::WireError;
use crate::LoadError;

/// What a model's files were when their digest was taken.
#[derive(Debug)]
pub(super) struct ModelFiles {
    /// Digest of the model file's bytes; where weights lie in other files, of those as well.
    pub(super) digest: ContentDigest,
    /// The size of all of them, in bytes.
    pub(super) size_bytes: u64,
    /// An operator of the model that draws random numbers.
    pub(super) random_operator: Option<&'static str>,
    files: Vec<(PathBuf, Identity)>,
}

impl ModelFiles {
    /// Reads the model file through, and the files that its weights lie in, without holding them
    /// in memory.
    ///
    /// # Errors
    /// The model file cannot be read, is no model, or names files that are missing, too short or
    /// not to be read.
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let refused = |reason| LoadError::Refused { path: path.to_owned(), reason };
        let mut model = DigestedFile::read(path).map_err(read)?;
        if model.size_bytes == 0 {
            return Err(refused("the file is empty".to_owned()));
        }
        let references = references(&mut model.file).map_err(|error| match error {
            ReferenceError::Wire(WireError::Io(source)) => read(source),
            ReferenceError::Wire(WireError::Malformed { problem, position }) => {
                refused(format!("it is no ONNX model, or damaged: {problem}, at byte {position}"))
            }
            ReferenceError::Refused(reason) => refused(reason),
        })?;
        let mut files = Self {
            digest: model.digest,
            size_bytes: model.size_bytes,
            random_operator: references.random_operator,
            files: vec![(path.to_owned(), model.identity)],
        };
        if !references.files.is_empty() {
            files.add_weights(&Folder::of(path), &references).map_err(refused)?;
        }
        Ok(files)
    }

    /// Whether the files are still those that were read.
    pub(super) fn are_unchanged(&self) -> bool {
        self.files.iter().all(|(path, identity)| {
            std::fs::metadata(path).is_ok_and(|metadata| Identity::of(&metadata) == *identity)
        })
    }

    fn add_weights(&mut self, folder: &Folder, references: &References) -> Result<(), String> {
        let mut hasher = ContentHasher::new("inferring model with external data 1");
        hasher.part(self.digest.as_bytes());
        for (location, extent) in &references.files {
            let name = String::from_utf8_lossy(location);
            let named = |problem| {
                let tensor = &extent.tensor;
                format!("its tensor `{tensor}` lies in the file `{name}`, which {problem}")
            };
            let path = folder.locate(location).map_err(named)?;
            let file = DigestedFile::read(&path)
                .map_err(|error| named(format!("cannot be read: {error}")))?;
            if file.size_bytes < extent.end {
                return Err(named(too_short(file.size_bytes, extent)));
            }
            hasher.part(location).part(file.digest.as_bytes());
            self.size_bytes += file.size_bytes;
            self.files.push((path, file.identity));
        }
        self.digest = hasher.finish();
        Ok(())
    }
}

fn too_short(size_bytes: u64, extent: &Extent) -> String {
    format!("is too short: it has {size_bytes} bytes, and the tensor ends at {}", extent.end)
}

/// What a model file refers to. One in the engine's own format keeps everything inside.
fn references(file: &mut File) -> Result<References, ReferenceError> {
    let io = |error| ReferenceError::Wire(WireError::Io(error));
    let mut head = [0; 8];
    file.rewind().map_err(io)?;
    let is_engine_format = file.read_exact(&mut head).is_ok() && head.ends_with(b"ORTM");
    if is_engine_format { Ok(References::default()) } else { References::of(file) }
}

/// A file that was read through.
struct DigestedFile {
    file: File,
    digest: ContentDigest,
    size_bytes: u64,
    identity: Identity,
}

impl DigestedFile {
    fn read(path: &Path) -> io::Result<Self> {
        // Before opening: to open a pipe would wait for a writer.
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        let mut hasher = blake3::Hasher::new();
        let size_bytes = io::copy(&mut file, &mut hasher)?;
        let digest = ContentDigest::from_hex(&hasher.finalize().to_hex())
            .expect("a BLAKE3 hash in hexadecimal is a digest");
        Ok(Self { file, digest, size_bytes, identity })
    }
}

/// What differs between two files, or between a file before and after it was written to.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

#[cfg(test)]
mod tests;
