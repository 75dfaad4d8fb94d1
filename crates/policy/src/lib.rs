//! The decisions of the system, apart from everything that carries them out: where a request
//! belongs, whether a worker may be asked, when a batch leaves, whether a worker is there.
//!
//! Nothing here reads a clock, starts a task or does I/O: `now` is an argument. So each rule can
//! be tested to its last edge without waiting, and a simulation runs the very code that serves.

mod arrivals;
mod backoff;
pub mod bounded_load;
mod caution;
pub mod circuit_breaker;
mod concurrency_limit;
mod cost;
pub mod ejection;
pub mod flights;
pub mod hash_ring;
pub mod health;
mod hedge;
pub mod hot_keys;
mod mix;
mod penalty;
mod reported_load;
mod retry_budget;
pub mod scheduler;
mod silence;
pub mod slow_start;
mod sync;

pub use backoff::Backoff;
pub use bounded_load::{Load, LoadFactor, LoadLedger, LoadSlot};
pub use caution::Caution;
pub use circuit_breaker::{BreakerConfig, CircuitBreaker, Outcome, Permit};
pub use concurrency_limit::{
    Completion, ConcurrencyLimit, ConcurrencyLimitConfig, Ticket, Urgency,
};
pub use ejection::{Ejection, EjectionConfig};
pub use flights::Flights;
pub use hash_ring::{Candidates, HashRing, RingError, RingMember};
pub use health::{Health, HealthConfig, Loss, Transition};
pub use hedge::{AnswerTime, AnswerTimes, HedgeConfig};
pub use hot_keys::{HotKeys, HotKeysConfig};
pub use penalty::PenaltyConfig;
pub use reported_load::ReportedLoad;
pub use retry_budget::{RetryBudget, RetryBudgetConfig, RetryPermit};
pub use scheduler::{DispatchReason, Scheduler, SchedulerConfig};
pub use silence::Silence;
pub use slow_start::SlowStart;

#[cfg(test)]
mod clock {
    use std::time::Instant;

    /// The moment at which a test's time starts; from here on it is arithmetic.
    #[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }
}
