//! What can be set about a breaker.

use crate::penalty::PenaltyConfig;

/// When a breaker opens and closes. A count of 0 is taken as 1: a breaker that opens without a
/// failure, or admits no trial, would never let a request through again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// Consecutive failures that open a closed breaker.
    pub failures_to_open: u32,
    /// The share of failed requests in the last ten seconds that opens a closed breaker, 0 to 1;
    /// above 1 none does.
    pub failure_rate_to_open: f64,
    /// Requests of the last ten seconds below which there is no share to speak of.
    pub samples_min: u32,
    /// Successes that close a half-open breaker.
    pub successes_to_close: u32,
    /// How long an open breaker keeps everything away before it tries again.
    pub timeout: PenaltyConfig,
    /// Requests let through at a time while half-open.
    ///
    /// One by default. A trial is a client's request at risk, and a second one beside it teaches
    /// little: any failure reopens, and a worker that is well again answers the two trials that
    /// close the breaker one after the other within milliseconds.
    pub trial_permits: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures_to_open: 5,
            failure_rate_to_open: 0.5,
            samples_min: 20,
            successes_to_close: 2,
            timeout: PenaltyConfig::default(),
            trial_permits: 1,
        }
    }
}
