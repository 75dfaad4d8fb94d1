//! What time it is, by the clock that time-outs run on.
//!
//! That is the runtime's clock: the system's own, unless a test holds it still. Deadlines,
//! breakers and time-outs must not see two clocks.

use std::time::Instant;

/// Now.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
