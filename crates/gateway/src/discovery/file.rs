//! A file that names the workers, read again and again.
//!
//! It is read whole each time rather than watched by the system's means: that works over a
//! network, for files that are replaced by renaming and for links that are turned, and a list is
//! small. A change counts once two looks in a row have seen the same, so that a file which
//! somebody is writing to is left in peace: half a list may be a valid one, of half the workers.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inferring_types::{BoxFuture, ContentDigest, InvalidWorker, WorkerSpec};
use serde::Deserialize;

use super::{Authority, DiscoveryError, MembershipSource, chain};

/// Why a text is no list of workers.
#[derive(Debug, thiserror::Error)]
pub enum InvalidList {
    /// It cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is larger than any list.
    #[error("`{path}` is larger than {max} bytes", max = WatchedFile::SIZE_MAX)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or has other keys.
    #[error("`{path}` is no list of workers: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// One of its workers is none.
    #[error("`{path}` names what is no worker")]
    Worker {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidWorker,
    },
}

/// A TOML file with `workers = [..]`: texts `[ID=]HOST:PORT[*WEIGHT]`, or tables with `address`
/// and where wanted `id`, `weight` and `draining`.
pub struct WatchedFile {
    path: PathBuf,
    interval: Duration,
    /// What was seen by the last look.
    seen: Option<Look>,
    /// What was told.
    told: Option<Look>,
}

/// What a look at the file showed, as far as two looks are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Content(ContentDigest),
    Nothing(String),
}

impl WatchedFile {
    /// More than a hundred thousand workers take.
    const SIZE_MAX: u64 = 16 << 20;

    /// The file at `path`, looked at every `interval`.
    pub fn new(path: PathBuf, interval: Duration) -> Self {
        // However short an interval is asked for, the disk is left alone in between.
        let interval = interval.max(Duration::from_millis(10));
        Self { path, interval, seen: None, told: None }
    }

    async fn look(&mut self) -> Result<Vec<WorkerSpec>, DiscoveryError> {
        loop {
            let is_first = self.seen.is_none();
            if !is_first {
                tokio::time::sleep(self.interval).await;
            }
            let path = self.path.clone();
            // The file may be on a network that hangs. That must hold up nobody else.
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            let read = read.unwrap_or_else(|failed| {
                let path = self.path.clone();
                Err(InvalidList::Read { path, source: io::Error::other(failed) })
            });
            let look = match &read {
                Ok(text) => Look::Content(ContentDigest::of(text.as_bytes())),
                Err(error) => Look::Nothing(chain(error)),
            };
            let is_settled = is_first || self.seen.as_ref() == Some(&look);
            self.seen = Some(look.clone());
            if is_settled && self.told.as_ref() != Some(&look) {
                self.told = Some(look);
                let list = read.and_then(|text| parse(&self.path, &text));
                return list.map_err(|error| DiscoveryError(Box::new(error)));
            }
        }
    }
}

impl MembershipSource for WatchedFile {
    fn describe(&self) -> String {
        format!("`{}`", self.path.display())
    }

    fn authority(&self) -> Authority {
        Authority::List
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Vec<WorkerSpec>, DiscoveryError>> {
        Box::pin(self.look())
    }
}

fn read(path: &Path) -> Result<String, InvalidList> {
    let mut text = String::new();
    let read = File::open(path)
        .and_then(|file| file.take(WatchedFile::SIZE_MAX + 1).read_to_string(&mut text));
    match read {
        Err(source) => Err(InvalidList::Read { path: path.to_owned(), source }),
        Ok(_) if text.len() as u64 > WatchedFile::SIZE_MAX => {
            Err(InvalidList::TooLarge { path: path.to_owned() })
        }
        Ok(_) => Ok(text),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    workers: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Option<String>,
    address: String,
    weight: Option<f64>,
    #[serde(default)]
    draining: bool,
}

fn parse(path: &Path, text: &str) -> Result<Vec<WorkerSpec>, InvalidList> {
    let syntax = |error: toml::de::Error| InvalidList::Syntax {
        path: path.to_owned(),
        // Of the parser's several lines the first says what, and the others show where.
        problem: error.to_string().trim_end().to_owned(),
    };
    let invalid = |source| InvalidList::Worker { path: path.to_owned(), source };
    let Document { workers } = toml::from_str(text).map_err(syntax)?;
    let worker = |value: toml::Value| match value {
        toml::Value::String(text) => text.parse().map_err(invalid),
        value => {
            let entry = Entry::deserialize(value).map_err(syntax)?;
            let spec = WorkerSpec::new(entry.id.as_deref(), &entry.address).map_err(invalid)?;
            let weight = entry.weight.unwrap_or(spec.weight);
            Ok(WorkerSpec { weight, draining: entry.draining, ..spec })
        }
    };
    workers.into_iter().map(worker).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn list(text: &str) -> Result<Vec<WorkerSpec>, String> {
        parse(Path::new("workers.toml"), text).map_err(|error| chain(&error))
    }

    #[test]
    fn workers_are_texts_and_tables() {
        let workers = list("workers = [\"a=h:1*2\", {address = \"h:2\"}]");
        let [a, b] = &workers.unwrap()[..] else { panic!("not two") };
        assert_eq!((a.id.as_str(), a.weight, a.draining), ("a", 2.0, false));
        assert_eq!((b.id.as_str(), b.weight, b.draining), ("h:2", 1.0, false));
        let tables = "[[workers]]\nid = \"w\"\naddress = \"h:1\"\nweight = 0.5\ndraining = true\n";
        let [worker] = &list(tables).unwrap()[..] else { panic!("not one") };
        assert_eq!((worker.id.as_str(), worker.weight, worker.draining), ("w", 0.5, true));
    }

    #[test]
    fn what_is_no_list_is_told_with_its_reason() {
        for (text, reason) in [
            ("", "missing field `workers`"),
            ("workers = [\"h:1\"", "workers.toml"),
            ("workers = [7]", "invalid type: integer"),
            ("workers = [\"h\"]", "the port is missing"),
            ("workers = [{id = \"a\"}]", "missing field `address`"),
            ("workers = [{address = \"h:1\", heft = 2}]", "unknown field `heft`"),
            ("worker = []", "unknown field `worker`"),
        ] {
            let error = list(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.starts_with("`workers.toml`"), "{error}");
        }
    }

    /// The runtime's clock jumps when all wait: each look comes at once.
    #[tokio::test(start_paused = true)]
    async fn a_change_counts_once_two_looks_have_seen_it_and_the_same_trouble_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workers.toml");
        let mut file = WatchedFile::new(path.clone(), Duration::from_secs(1));
        assert!(file.next().await.is_err());

        fs::write(&path, "workers = [\"h:1\"]").unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(file.next().await.unwrap().len(), 1);
        assert_eq!(began.elapsed().as_secs(), 2);

        fs::remove_file(&path).unwrap();
        assert!(file.next().await.is_err());
        let nothing_more = tokio::time::timeout(Duration::from_secs(60), file.next()).await;
        assert!(nothing_more.is_err());

        // The same list as before, which is news after the trouble.
        fs::write(&path, "workers = [\"h:1\"]").unwrap();
        assert_eq!(file.next().await.unwrap().len(), 1);
    }
}
