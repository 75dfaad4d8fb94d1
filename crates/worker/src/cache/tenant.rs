//! Whose answers are kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::store::Keeper;
use crate::settings::Keeping;

/// One loaded version of a model, as the cache knows it: whose answers they are, and what may
/// become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenant {
    id: TenantId,
    sharing: Sharing,
    keeping: Option<Keeping>,
}

/// Tells the loaded versions of this process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TenantId(pub(super) u64);

/// Which requests may be given one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Equal ones: the answer is kept.
    Kept,
    /// Equal ones that come while it is computed; then it is forgotten.
    InFlight,
    /// None: the model answers equal requests differently.
    Nothing,
}

impl Tenant {
    /// A new tenant.
    pub(crate) fn new(sharing: Sharing) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: TenantId(NEXT.fetch_add(1, Ordering::Relaxed)), sharing, keeping: None }
    }

    /// The same tenant, whose answers are kept in this way; by default for ever, with no bound but
    /// the cache's.
    #[must_use]
    pub(crate) fn keeping(self, keeping: Option<Keeping>) -> Self {
        Self { keeping, ..self }
    }

    /// Which of its requests may be given one answer.
    pub(crate) fn sharing(self) -> Sharing {
        self.sharing
    }

    pub(super) fn id(self) -> TenantId {
        self.id
    }

    /// How long its answers stay good; for ever where absent.
    pub(super) fn time_to_live(self) -> Option<Duration> {
        self.keeping.and_then(|keeping| keeping.time_to_live)
    }

    /// By whom its answers are kept, where they are.
    pub(super) fn keeper(self) -> Option<Keeper> {
        let keeper = Keeper {
            tenant: self.id,
            time_to_live: self.time_to_live(),
            bytes_max: self.keeping.map(|keeping| keeping.bytes),
        };
        (self.sharing == Sharing::Kept).then_some(keeper)
    }
}
