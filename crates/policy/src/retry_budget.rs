//! Bounds what is asked of workers beyond one try for each request.
//!
//! A second try helps when one worker fails, and harms when all do: then every request is asked
//! twice of a fleet that cannot answer it once, and what was a fault becomes an overload. Two bounds
//! hold at the same time, for one alone leaves a gap:
//!
//! - **In flight**: extra tries at work are at most a share of the requests at work. That bounds a
//!   burst, at this moment.
//! - **Over time**: extra tries are at most the same share of the requests of the latest seconds,
//!   and a small reserve each second for gateways that see little traffic. Fast failures would
//!   pass the first bound one after the other.
//!
//! So over any time of `t` seconds, extra tries <= share · requests + reserve · (1 + t).
//! The reserve and the memory of the latest seconds are those of Finagle's and Linkerd's budgets;
//! the bound on tries in flight is Envoy's.
//!
//! Requests themselves are not counted here, so a request that is answered at the first try pays
//! nothing: who asks for leave tells how many there have been.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Over how much time requests earn leave for extra tries.
const MEMORY: Duration = Duration::from_secs(10);

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudgetConfig {
    /// Extra tries for each request, both at a time and over time. Negative or not a number is
    /// taken as 0.
    pub share: f64,
    /// Extra tries in flight that are always allowed by the first bound.
    pub in_flight_min: u32,
    /// Extra tries each second that are always allowed by the second bound.
    pub reserve_per_second: u32,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { share: 0.2, in_flight_min: 3, reserve_per_second: 10 }
    }
}

/// The budget for all extra tries of a gateway, retries and hedges alike.
#[derive(Debug)]
pub struct RetryBudget {
    config: RetryBudgetConfig,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    in_flight: u64,
    /// Leave that requests have earned, faded by age.
    earned: f64,
    /// Leave that time has given.
    reserve: f64,
    /// How many requests there had been when this was last looked at, and when that was.
    requests: u64,
    looked: Option<Instant>,
}

impl RetryBudget {
    /// A budget whose reserve is full.
    pub fn new(config: RetryBudgetConfig) -> Self {
        let share = if config.share.is_finite() { config.share.max(0.0) } else { 0.0 };
        let config = RetryBudgetConfig { share, ..config };
        let reserve = f64::from(config.reserve_per_second);
        let inner = Inner { in_flight: 0, earned: 0.0, reserve, requests: 0, looked: None };
        Self { config, inner: Mutex::new(inner) }
    }

    /// Leave for one extra try, at `now`. `active` requests are at work; there have been
    /// `requests` ever.
    pub fn try_acquire(&self, active: u64, requests: u64, now: Instant) -> Option<RetryPermit<'_>> {
        let config = &self.config;
        let in_flight_max = (config.share * active as f64).max(f64::from(config.in_flight_min));
        let mut inner = self.inner.lock();
        inner.look(config, requests, now);
        if (inner.in_flight + 1) as f64 > in_flight_max {
            return None;
        }
        // What was earned fades anyway: it goes first.
        let account = if inner.earned >= 1.0 { &mut inner.earned } else { &mut inner.reserve };
        if *account < 1.0 {
            return None;
        }
        *account -= 1.0;
        inner.in_flight += 1;
        Some(RetryPermit { budget: self })
    }

    /// Extra tries at work now.
    pub fn in_flight(&self) -> u64 {
        self.inner.lock().in_flight
    }
}

impl Inner {
    /// Takes in what has happened since this was last called.
    fn look(&mut self, config: &RetryBudgetConfig, requests: u64, now: Instant) {
        let passed = self.looked.map_or(MEMORY, |looked| now.saturating_duration_since(looked));
        let (passed, memory) = (passed.as_secs_f64(), MEMORY.as_secs_f64());
        let new = requests.saturating_sub(self.requests) as f64;
        // Of requests over a longer time, those within the memory count. That they came evenly is
        // a guess; it does not touch the bound, which counts each at most once.
        let recent = new * (memory / passed.max(memory));
        self.earned = self.earned * (1.0 - passed / memory).max(0.0) + config.share * recent;
        let rate = f64::from(config.reserve_per_second);
        self.reserve = (self.reserve + rate * passed).min(rate);
        self.requests = self.requests.max(requests);
        self.looked = self.looked.max(Some(now));
    }
}

/// Leave for one extra try, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once allows nothing"]
pub struct RetryPermit<'a> {
    budget: &'a RetryBudget,
}

impl Drop for RetryPermit<'_> {
    fn drop(&mut self) {
        self.budget.inner.lock().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn extra_tries_in_flight_are_a_share_of_the_requests_or_a_few() {
        for (active, expected) in [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (512, 102)] {
            let (budget, now) = (RetryBudget::new(RetryBudgetConfig::default()), clock::start());
            let permits: Vec<_> =
                (0..1000).map_while(|_| budget.try_acquire(active, 1_000_000, now)).collect();
            assert_eq!(permits.len(), expected, "{active} active");
            assert_eq!(budget.in_flight(), expected as u64);
            drop(permits);
            assert_eq!(budget.in_flight(), 0);
            assert!(budget.try_acquire(active, 1_000_000, now).is_some());
        }
    }

    #[test]
    fn what_was_earned_long_ago_is_gone_and_the_reserve_comes_back() {
        let (budget, mut now) = (RetryBudget::new(RetryBudgetConfig::default()), clock::start());
        let taken = |requests, now| {
            (0..10_000).take_while(|_| budget.try_acquire(1, requests, now).is_some()).count()
        };
        assert_eq!(taken(100, now), 20 + 10);
        assert_eq!(taken(100, now), 0);
        now += Duration::from_millis(500);
        assert_eq!(taken(100, now), 5);
        // An hour of 1,000 requests a second: ten seconds of it count.
        now += Duration::from_secs(3600);
        assert_eq!(taken(100 + 3_600_000, now), 2000 + 10);
    }

    #[test]
    fn without_a_share_and_a_reserve_there_are_no_extra_tries() {
        for share in [0.0, -1.0, f64::NAN] {
            let config = RetryBudgetConfig { share, in_flight_min: 3, reserve_per_second: 0 };
            let budget = RetryBudget::new(config);
            assert!(budget.try_acquire(100, 1000, clock::start()).is_none(), "{share}");
        }
    }
}
