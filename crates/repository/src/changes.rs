//! What is different between two looks at a repository.
//!
//! Copying a model takes a while, and a look in the middle of it sees half a model. So a change
//! is acted on only when two looks in a row have seen the same.

use inferring_types::ModelName;

use crate::fingerprint::Fingerprint;
use crate::snapshot::{ModelEntry, RepositorySnapshot};

/// A model that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The model.
    pub name: ModelName,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Some of its files are others: its plan tells which versions they concern.
    Changed,
    /// It is gone.
    Removed,
}

impl RepositorySnapshot {
    /// The models that are not as they were in `old`. What was in a folder that can no longer be
    /// read is not taken for gone.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let now = self.models.iter().filter_map(|entry| {
            let kind = match old.model(&entry.name) {
                None => ChangeKind::Added,
                Some(before) if Stamp::of(before) != Stamp::of(entry) => ChangeKind::Changed,
                Some(_) => return None,
            };
            Some(Change { name: entry.name.clone(), kind })
        });
        let gone = old.models.iter().filter(|before| {
            self.model(&before.name).is_none() && !self.unread.contains(&before.source)
        });
        let gone =
            gone.map(|before| Change { name: before.name.clone(), kind: ChangeKind::Removed });
        now.chain(gone).collect()
    }
}

/// What is compared of a model.
#[derive(PartialEq, Eq)]
struct Stamp<'a> {
    path: &'a std::path::Path,
    fingerprint: Fingerprint,
    /// A right that was taken or given leaves no trace in the fingerprint.
    readable: bool,
}

impl<'a> Stamp<'a> {
    fn of(entry: &'a ModelEntry) -> Self {
        Self { path: &entry.path, fingerprint: entry.fingerprint, readable: entry.plan.is_ok() }
    }
}

/// Gives out changes once they have settled.
#[derive(Debug, Clone)]
pub struct Watch {
    acted_on: RepositorySnapshot,
    last: RepositorySnapshot,
}

impl Watch {
    /// Begins with what was seen when the models were loaded.
    pub fn new(seen: RepositorySnapshot) -> Self {
        Self { last: seen.clone(), acted_on: seen }
    }

    /// Takes a new look, and gives out the changes since those given out before that were the
    /// same in the look before it. Each is given out once.
    pub fn settle(&mut self, scan: RepositorySnapshot) -> Vec<Change> {
        let stamp = |snapshot: &'_ RepositorySnapshot, name: &ModelName| {
            snapshot.model(name).map(|entry| {
                let Stamp { path, fingerprint, readable } = Stamp::of(entry);
                (path.to_owned(), fingerprint, readable)
            })
        };
        let mut changes = scan.changes_since(&self.acted_on);
        changes.retain(|change| {
            stamp(&scan, &change.name) == stamp(&self.last, &change.name)
                && !self.last.unread.iter().any(|_| change.kind == ChangeKind::Removed)
        });
        for change in &changes {
            self.acted_on.models.retain(|entry| entry.name != change.name);
            self.acted_on.models.extend(scan.model(&change.name).cloned());
        }
        self.last = scan;
        changes
    }
}

#[cfg(test)]
mod tests;
