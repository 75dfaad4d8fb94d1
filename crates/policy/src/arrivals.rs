//! How densely work arrives, and how long it may take.

use std::time::Instant;

use crate::cost::Seconds;

/// Rows over which the mean distance between two of them is taken.
const MEMORY: f64 = 32.0;
/// Requests of which it is known how long they might take.
const ALLOWANCES: usize = 64;

/// The latest arrivals.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// The mean distance between two rows.
    gap: Seconds,
    rows: f64,
    last: Option<Instant>,
    /// Of the latest requests, how long they might take.
    allowances: Vec<f32>,
    requests: u64,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self { gap: 0.0, rows: 0.0, last: None, allowances: Vec::new(), requests: 0 }
    }

    /// A request comes that may take that long.
    pub(crate) fn count(&mut self, rows: usize, allowance: Seconds, now: Instant) {
        let rows = rows.max(1) as f64;
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).as_secs_f64() / rows;
            // A mean over what there is, until that is as much as is remembered.
            self.rows = (self.rows + rows).min(MEMORY);
            self.gap += (gap - self.gap) * (rows / self.rows).min(1.0);
        }
        self.last = self.last.max(Some(now));
        if self.allowances.len() < ALLOWANCES {
            self.allowances.push(allowance as f32);
        } else {
            self.allowances[self.requests as usize % ALLOWANCES] = allowance as f32;
        }
        self.requests += 1;
    }

    /// Rows per second; 0 until there are a few.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        if self.rows < 4.0 {
            return 0.0;
        }
        let silence = now.saturating_duration_since(last).as_secs_f64();
        let overdue = (silence - self.gap).max(0.0) / MEMORY;
        1.0 / (self.gap + overdue).max(1e-9)
    }

    /// How many requests there have been.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Of the latest requests, how long they might take, in no order.
    pub(crate) fn allowances(&self) -> impl ExactSizeIterator<Item = Seconds> + Clone {
        self.allowances.iter().copied().map(Seconds::from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_steady_stream_is_measured_and_then_forgotten() {
        let mut now = clock::start();
        let mut arrivals = Arrivals::new();
        for _ in 0..4000 {
            now += Duration::from_millis(2);
            arrivals.count(3, 1.0, now);
        }
        assert!((arrivals.rate(now) - 1500.0).abs() < 15.0, "{}", arrivals.rate(now));
        now += Duration::from_secs(32);
        assert!(arrivals.rate(now) < 1.1, "{}", arrivals.rate(now));
    }

    #[test]
    fn a_few_requests_are_no_stream() {
        let now = clock::start();
        let mut arrivals = Arrivals::new();
        for _ in 0..3 {
            arrivals.count(1, 1.0, now);
            assert_eq!(arrivals.rate(now), 0.0);
        }
    }

    #[test]
    fn the_latest_allowances_count() {
        let now = clock::start();
        let mut arrivals = Arrivals::new();
        for request in 0..100_u8 {
            arrivals.count(1, f64::from(request), now);
        }
        assert_eq!(arrivals.allowances().len(), 64);
        assert_eq!(arrivals.allowances().fold(f64::INFINITY, f64::min), 36.0);
    }
}
