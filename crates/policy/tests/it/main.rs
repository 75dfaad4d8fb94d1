//! What the policies promise, held to from outside: against oracles, peers and second
//! implementations, over random fleets and random histories.

#![expect(
    clippy::unwrap_used,
    reason = "the whole crate is a test; clippy sees only #[test] as one"
)]

mod breaker_model;
mod breaker_threads;
mod concurrency_limit;
mod ejection_model;
mod goodput;
mod retry_budget;
mod ring_movement;
mod ring_peers;
mod scheduler_model;

use std::time::Instant;

/// The moment at which a test's time starts; from here on it is arithmetic.
#[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
fn start() -> Instant {
    Instant::now()
}
