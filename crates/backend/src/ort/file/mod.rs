//! A model file: its digest and size, and whether it stays the same while it is loaded.
//!
//! The engine reads the file by itself, since weights may lie in files beside it. The digest is
//! taken in a pass of our own; were the file replaced in between, answers of the new model would
//! be cached under the old one's digest. So its identity is looked at before and after.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use inferring_types::ContentDigest;

/// What a model file was when its digest was taken.
#[derive(Debug)]
pub(super) struct ModelFile {
    /// Digest of its bytes. Weights in files beside it are not part of it.
    pub(super) digest: ContentDigest,
    /// Its size, in bytes.
    pub(super) size_bytes: u64,
    identity: Identity,
}

impl ModelFile {
    /// Reads the file through, without holding it in memory.
    ///
    /// # Errors
    /// It cannot be read or is no regular file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
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
        Ok(Self { digest, size_bytes, identity })
    }

    /// Whether the file at `path` is still the one that was read.
    pub(super) fn is_unchanged(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| Identity::of(&metadata) == self.identity)
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
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_digest_is_the_one_of_the_bytes() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        let content = (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        fs::write(&path, &content).unwrap();
        let file = ModelFile::read(&path).unwrap();
        assert_eq!(file.digest, ContentDigest::of(&content));
        assert_eq!(file.size_bytes, 800_000);
    }

    #[test]
    fn a_file_that_was_replaced_or_written_to_is_noticed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        fs::write(&path, "first").unwrap();
        let file = ModelFile::read(&path).unwrap();
        assert!(file.is_unchanged(&path));
        let other = folder.path().join("other");
        fs::write(&other, "other").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!file.is_unchanged(&path));
        let file = ModelFile::read(&path).unwrap();
        fs::write(&path, "longer than before").unwrap();
        assert!(!file.is_unchanged(&path));
        fs::remove_file(&path).unwrap();
        assert!(!file.is_unchanged(&path));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_refused_without_waiting_for_it() {
        let folder = TempDir::new().unwrap();
        let error = ModelFile::read(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = ModelFile::read(&folder.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = ModelFile::read(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
    }
}
