//! Waiting for something that will be so soon, under a deadline.

use std::time::{Duration, Instant};

/// More than anything takes that works, on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it has something to tell.
///
/// # Panics
/// When that takes longer than `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        pause();
    }
}

/// Asks `condition` again and again until it holds.
///
/// # Panics
/// When that takes longer than `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

#[expect(clippy::disallowed_methods, reason = "between two questions, never instead of one")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
