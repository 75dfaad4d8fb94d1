//! Whose answers are kept.

use std::sync::atomic::{AtomicU64, Ordering};

/// One loaded version of a model, as the cache knows it: whose answers they are, and what may
/// become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenant {
    id: TenantId,
    sharing: Sharing,
}

/// Tells the loaded versions of this process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
        Self { id: TenantId(NEXT.fetch_add(1, Ordering::Relaxed)), sharing }
    }

    /// Which of its requests may be given one answer.
    pub(crate) fn sharing(self) -> Sharing {
        self.sharing
    }

    pub(super) fn id(self) -> TenantId {
        self.id
    }
}
