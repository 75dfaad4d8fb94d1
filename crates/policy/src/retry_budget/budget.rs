//! What is kept of a budget, behind one lock, and the permits that are given out of it.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::sync::{Mutex, MutexGuard};

/// Over how much time requests earn leave for extra tries.
const MEMORY: Duration = Duration::from_secs(10);

/// For how long an extra try counts as part of a burst, if it does not end before.
const BURST: Duration = Duration::from_millis(250);

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudgetConfig {
    /// Extra tries for each request, both at a time and over time. Negative or not a number is
    /// taken as 0.
    pub share: f64,
    /// Extra tries at a time that are always allowed by the first bound.
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
    /// The extra tries that are part of a burst: number and beginning of each.
    burst: VecDeque<(u64, Instant)>,
    /// How many there have been.
    tries: u64,
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
        let inner = Inner {
            burst: VecDeque::new(),
            tries: 0,
            earned: 0.0,
            reserve,
            requests: 0,
            looked: None,
        };
        Self { config, inner: Mutex::new(inner) }
    }

    /// Leave for one extra try, at `now`. `active` requests are at work; there have been
    /// `requests` ever.
    pub fn try_acquire(&self, active: u64, requests: u64, now: Instant) -> Option<RetryPermit<'_>> {
        let config = &self.config;
        let burst_max = (config.share * active as f64).max(f64::from(config.in_flight_min));
        let mut inner = self.inner();
        inner.look(config, requests, now);
        if (inner.burst.len() + 1) as f64 > burst_max {
            return None;
        }
        // What was earned fades anyway: it goes first.
        let account = if inner.earned >= 1.0 { &mut inner.earned } else { &mut inner.reserve };
        if *account < 1.0 {
            return None;
        }
        *account -= 1.0;
        let number = inner.tries;
        inner.tries += 1;
        inner.burst.push_back((number, now));
        Some(RetryPermit { budget: self, number })
    }

    /// Extra tries that are part of a burst at `now`.
    pub fn in_burst(&self, now: Instant) -> usize {
        let mut inner = self.inner();
        inner.forget(now);
        inner.burst.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds it can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes in what has happened since this was last called.
    fn look(&mut self, config: &RetryBudgetConfig, requests: u64, now: Instant) {
        self.forget(now);
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

    /// Forgets the tries that are no burst any more.
    fn forget(&mut self, now: Instant) {
        let is_over = |(_, begun): &mut _| now.saturating_duration_since(*begun) >= BURST;
        while self.burst.pop_front_if(is_over).is_some() {}
    }
}

/// Leave for one extra try, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once allows nothing"]
pub struct RetryPermit<'a> {
    budget: &'a RetryBudget,
    number: u64,
}

impl Drop for RetryPermit<'_> {
    fn drop(&mut self) {
        let burst = &mut self.budget.inner().burst;
        if let Ok(place) = burst.binary_search_by_key(&self.number, |(number, _)| *number) {
            burst.remove(place);
        }
    }
}
