//! Whom to tell that the worker wants no new requests.
//!
//! It says so with an answer or on a channel, long before it is next asked how it is. The end of
//! one connection says nothing of the kind: connections end when they are old, too.

use std::sync::{Arc, OnceLock};

use inferring_types::DrainListener;

/// The one who is told, if there is anybody.
#[derive(Clone, Default)]
pub(crate) struct Draining(Arc<OnceLock<DrainListener>>);

impl Draining {
    /// Has `listener` told. There is one, the first.
    pub(crate) fn listen(&self, listener: DrainListener) {
        let _ = self.0.set(listener);
    }

    /// The worker has said so.
    pub(crate) fn tell(&self) {
        if let Some(listener) = self.0.get() {
            listener();
        }
    }
}
