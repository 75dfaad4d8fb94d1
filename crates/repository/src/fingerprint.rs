//! Tells whether files have changed without reading them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inferring_types::ContentDigest;

/// How deep folders are looked into, and how many entries are looked at. Beyond that changes go
/// unseen; no model has so many files.
const DEPTH_MAX: usize = 8;
const ENTRIES_MAX: usize = 20_000;

/// The names, sizes, times of change and inodes of some files, as one value: files of equal
/// fingerprints are taken for unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(ContentDigest);

impl Fingerprint {
    /// Of all files below a folder, but for hidden ones, and for entries of the folder itself
    /// that `left_out` names.
    pub(crate) fn of_folder(folder: &Path, left_out: impl Fn(&str) -> bool) -> Self {
        let mut listing = Listing::default();
        listing.folder(folder, "", DEPTH_MAX, &left_out);
        listing.finish()
    }

    /// Of a model that is a single file, and of the files beside it that hold its data:
    /// `iris.onnx.data`, `iris.onnx_data`, `iris.bin` for `iris.onnx`.
    pub(crate) fn of_file(path: &Path) -> Self {
        let mut listing = Listing::default();
        listing.entry("", fs::metadata(path).ok().as_ref());
        if let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) {
            let prefix = format!("{}.", stem.to_string_lossy());
            let others = |name: &str| !name.starts_with(&prefix) || name.ends_with(".onnx");
            listing.folder(folder, "", 0, &others);
        }
        listing.finish()
    }

    /// Of several together.
    pub(crate) fn of_all(parts: impl IntoIterator<Item = (String, Self)>) -> Self {
        let mut listing = Listing::default();
        listing.lines.extend(parts.into_iter().map(|(name, part)| format!("{name}\t{:?}", part.0)));
        listing.finish()
    }
}

#[derive(Default)]
struct Listing {
    lines: Vec<String>,
}

impl Listing {
    fn folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        left_out: &dyn Fn(&str) -> bool,
    ) {
        let Ok(entries) = fs::read_dir(folder) else {
            self.entry(prefix, None);
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.lines.len() >= ENTRIES_MAX {
                return;
            }
            // Hidden files are what copying programs write to until they are done.
            if name.starts_with('.') || left_out(&name) {
                continue;
            }
            let name = format!("{prefix}/{name}");
            // Of a link the target counts. Folders behind links are not entered: they may
            // lead back to where we are.
            let metadata = fs::metadata(entry.path()).ok();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if metadata.as_ref().is_some_and(Metadata::is_dir) && !is_link {
                if depth > 0 {
                    self.folder(&entry.path(), &name, depth - 1, &|_| false);
                }
            } else {
                self.entry(&name, metadata.as_ref());
            }
        }
    }

    fn entry(&mut self, name: &str, metadata: Option<&Metadata>) {
        let line = match metadata {
            None => format!("{name}\tunreadable"),
            Some(m) => format!(
                "{name}\t{}\t{}.{:09}\t{}:{}",
                m.size(),
                m.mtime(),
                m.mtime_nsec(),
                m.dev(),
                m.ino(),
            ),
        };
        self.lines.push(line);
    }

    /// Independent of the order in which the system lists a folder.
    fn finish(mut self) -> Fingerprint {
        self.lines.sort_unstable();
        Fingerprint(ContentDigest::of(self.lines.join("\n").as_bytes()))
    }
}
