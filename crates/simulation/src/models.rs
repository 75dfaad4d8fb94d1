//! A model on a machine's disk, of which one version takes the place of another, and which versions
//! may answer whom.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use inferring_lockstep::now;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::content::Content;
use crate::sums::Sum;

/// Both models, for machines that never get another version.
static UNCHANGED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = folder();
    put_first(folder.path(), Content::MODEL, "");
    put_first(folder.path(), Sum::MODEL, Sum::CONFIG);
    folder
});

/// The folder of one of a worker's models. There is one version in it at a time.
pub(crate) struct Models {
    name: &'static str,
    /// Its own, where versions change.
    own: Option<TempDir>,
    releases: Mutex<Vec<Release>>,
}

/// A version, from when it was on the disk until the moment since which another one is served.
struct Release {
    version: u64,
    until: Option<Instant>,
}

impl Models {
    /// The first version of the model of that name, for ever or at first.
    pub(crate) fn new(name: &'static str, config: &str, change: bool) -> Self {
        let own = change.then(folder);
        if let Some(own) = &own {
            put_first(own.path(), name, config);
        }
        let releases = Mutex::new(vec![Release { version: 1, until: None }]);
        Self { name, own, releases }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The model's folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.own.as_ref().unwrap_or(&UNCHANGED).path().join(self.name)
    }

    /// Puts another version in the place of the one that is there: the next, or where `back` and
    /// there is one, the one before.
    pub(crate) fn replace(&self, back: bool) -> u64 {
        let mut releases = self.releases.lock();
        let present = releases.last().expect("the first is never taken out").version;
        let version = if back && present > 1 { present - 1 } else { present + 1 };
        put(&self.path(), version);
        fs::remove_dir_all(self.path().join(present.to_string())).expect("it was put there");
        releases.push(Release { version, until: None });
        version
    }

    /// The version on the disk.
    pub(crate) fn present(&self) -> u64 {
        self.releases.lock().last().expect("the first is never taken out").version
    }

    /// This version is served, and none that was on the disk before.
    pub(crate) fn is_served(&self, version: u64) {
        let mut releases = self.releases.lock();
        let place = releases.iter().rposition(|release| release.version == version);
        for before in &mut releases[..place.unwrap_or_default()] {
            before.until.get_or_insert(now());
        }
    }

    /// Whether this version may answer whoever asked at that moment.
    pub(crate) fn may_answer(&self, version: u64, asked: Instant) -> bool {
        let releases = self.releases.lock();
        let mut releases = releases.iter().filter(|release| release.version == version);
        releases.any(|release| release.until.is_none_or(|until| asked <= until))
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("room for a folder")
}

fn put_first(folder: &Path, name: &str, config: &str) {
    put(&folder.join(name), 1);
    fs::write(folder.join(name).join("config.toml"), config).expect("room for a file");
}

/// A version's file, which no engine reads.
fn put(model: &Path, version: u64) {
    let folder = model.join(version.to_string());
    fs::create_dir_all(&folder).expect("room for a folder");
    fs::write(folder.join("model.onnx"), "model").expect("room for a file");
}
