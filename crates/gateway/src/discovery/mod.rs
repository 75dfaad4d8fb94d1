//! Where lists of workers come from.
//!
//! A source tells a whole list each time, never a difference: whoever missed one is right again
//! with the next. What a source cannot read it says once, and the gateway keeps the list that it
//! has; no source decides that on its own.

mod file;
mod fixed;

use inferring_types::{BoxFuture, WorkerSpec};

pub use crate::roster::Authority;
pub use file::{InvalidList, WatchedFile};
pub use fixed::FixedList;

/// Why a source has no list to tell.
#[derive(Debug, thiserror::Error)]
#[error("the list of workers cannot be read")]
pub struct DiscoveryError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Tells a gateway which workers there are.
pub trait MembershipSource: Send {
    /// What it is, for people to read: `workers.toml`.
    fn describe(&self) -> String;

    /// Who has the last word on which workers there are.
    fn authority(&self) -> Authority;

    /// Waits until there is another list, or another reason for having none, and tells it; the
    /// first time at once. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`DiscoveryError`] where it cannot be read. The same reason is told once.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<WorkerSpec>, DiscoveryError>>;
}

/// An error and all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
