//! A list that was given when the program started.

use inferring_types::{BoxFuture, WorkerSpec};

use super::{Authority, DiscoveryError, MembershipSource};

/// The workers that a gateway starts with. From there on operators decide.
pub struct FixedList(Option<Vec<WorkerSpec>>);

impl FixedList {
    /// These workers.
    pub fn new(workers: Vec<WorkerSpec>) -> Self {
        Self(Some(workers))
    }
}

impl MembershipSource for FixedList {
    fn describe(&self) -> String {
        "the settings".to_owned()
    }

    fn authority(&self) -> Authority {
        Authority::Operators
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Vec<WorkerSpec>, DiscoveryError>> {
        match self.0.take() {
            Some(workers) => Box::pin(async { Ok(workers) }),
            None => Box::pin(std::future::pending()),
        }
    }
}
