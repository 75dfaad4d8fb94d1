//! Why a gateway keeps requests away from a worker that is there: its breaker, or that it does
//! far worse than the others.

use std::fmt;
use std::time::Duration;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Closed, open or half-open.
    pub state: BreakerState,
    /// Consecutive failures counted towards opening.
    pub failures: u32,
    /// Consecutive successes counted towards closing.
    pub successes: u32,
    /// What opened it; `None` while it is closed.
    pub opened_by: Option<OpenedBy>,
    /// The time until it lets a trial through by itself; `None` unless it is open.
    pub trial_in: Option<Duration>,
}

impl BreakerStatus {
    /// Of a breaker that has counted nothing.
    pub const CLOSED: Self = Self {
        state: BreakerState::Closed,
        failures: 0,
        successes: 0,
        opened_by: None,
        trial_in: None,
    };
}

/// Whether a breaker lets traffic flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Traffic flows.
    Closed,
    /// No traffic.
    Open,
    /// A few trial requests.
    HalfOpen,
}

impl BreakerState {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        }
    }
}

/// What opened a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenedBy {
    /// Failures without a success between them.
    FailuresInARow,
    /// The share of failures in the last ten seconds.
    FailureRate,
    /// A trial that failed.
    Trial,
}

impl OpenedBy {
    /// In words that follow "opened by".
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailuresInARow => "failures in a row",
            Self::FailureRate => "its share of failures",
            Self::Trial => "a failed trial",
        }
    }
}

/// A worker that is left alone for a while, as it does far worse than the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EjectedStatus {
    /// In what it does worse.
    pub reason: EjectionReason,
    /// The time until it is asked again.
    pub returns_in: Duration,
}

/// In what a worker does far worse than the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EjectionReason {
    /// It fails or refuses more of its requests.
    Failing {
        /// Its share of successes, 0 to 1.
        success_rate: f64,
        /// That of a typical worker.
        typical: f64,
    },
    /// It takes longer for the same models.
    Slow {
        /// How many times as long as a typical worker.
        factor: f64,
    },
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing { success_rate, typical } => write!(
                f,
                "it answers {:.0} % of its requests where others answer {:.0} %",
                success_rate * 100.0,
                typical * 100.0,
            ),
            Self::Slow { factor } => write!(f, "it takes {factor:.0} times as long as others"),
        }
    }
}
