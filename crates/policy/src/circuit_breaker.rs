//! Keeps requests away from a worker that keeps failing them, and finds out when to come back.
//!
//! ```text
//!            failures in a row, or                 the time-out passed,
//!            too many of the last ten seconds      or it is there again
//!   CLOSED ─────────────────────────────▶ OPEN ────────────────────────▶ HALF_OPEN
//!     ▲                                    ▲                                │  │
//!     │                                    └────────── one failure ─────────┘  │
//!     └───────────────────────── successes_to_close ───────────────────────────┘
//! ```
//!
//! Two rules open it, as each is blind to what the other sees. Failures in a row find a worker
//! that fails everything within five requests, at any rate of traffic. A worker that fails two
//! requests of three may never fail five in a row; its share of failures in the last ten seconds
//! finds it, once there were enough requests to speak of a share.
//!
//! The time-out doubles with every opening and falls back with good conduct: see
//! [`PenaltyConfig`](crate::PenaltyConfig). Where the worker was *gone* (nobody listened), a probe that reaches it ends
//! the time-out early, at once the first time. A worker that comes and goes is let wait from the
//! second time on: a thirty-second part of a time-out that doubles, so that its trials become
//! rare, too.
//!
//! Who asks a worker holds a [`Permit`] while it does. A permit belongs to the *generation* in
//! which it was given; each change of state, and each new process behind the worker, starts
//! another one. So a straggler that fails after the breaker has closed again says nothing about
//! the worker as it is now, and is not counted.
//!
//! In HALF_OPEN a permit is one of a few trial slots. Whatever ends it (success, failure, a
//! client that hung up, a panic) gives the slot back. Every try ends, as every request has a
//! deadline. And should a holder never let go all the same, after as long as the first time-out
//! another trial is let through beside it: a breaker cannot be stuck half-open for want of slots.
//!
//! A worker that *refuses* (its queue is full, it drains) is at work and says so. That opens no
//! breaker, closes none, and neither counts as a failure nor forgives one. It is part of what a
//! worker is compared with the others by: see [`ejection`](crate::ejection).

mod breaker;
mod config;
mod core;
mod window;

pub use self::breaker::{CircuitBreaker, Permit};
pub use self::config::BreakerConfig;
pub(crate) use self::window::MEMORY;
pub use self::window::Tally;

/// What a request said about the worker that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered.
    Success,
    /// There was no worker to answer: connection refused, reset, broken off.
    Unreachable,
    /// It was there and failed: an error of its own, or no answer in the time it was given.
    Failed,
    /// It was there and had no room: its queue was full, or it takes nothing new.
    Refused,
    /// Nothing: the client was mistaken or left, the request was refused locally, its deadline
    /// had passed. Five malformed requests must not open a breaker.
    Neutral,
}

#[cfg(test)]
mod tests;
