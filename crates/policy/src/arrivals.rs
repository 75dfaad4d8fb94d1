//! How densely work arrives.

use std::time::Instant;

/// Rows per second of late: what came counts less the longer ago it came.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// The memory: after so many seconds a row counts 1/e.
    memory: f64,
    /// The decayed count of rows, as of `counted_at`.
    rows: f64,
    counted_at: Option<Instant>,
}

impl Arrivals {
    pub(crate) fn new(memory: f64) -> Self {
        Self { memory, rows: 0.0, counted_at: None }
    }

    pub(crate) fn count(&mut self, rows: usize, now: Instant) {
        self.rows = self.rows_at(now) + rows as f64;
        self.counted_at = self.counted_at.max(Some(now));
    }

    /// Rows per second.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        self.rows_at(now) / self.memory
    }

    fn rows_at(&self, now: Instant) -> f64 {
        let Some(counted_at) = self.counted_at else { return 0.0 };
        let passed = now.saturating_duration_since(counted_at).as_secs_f64();
        // No exponential for each row: over a hundredth of the memory a line is as good.
        let decay = passed / self.memory;
        self.rows * if decay < 0.01 { 1.0 - decay } else { (-decay).exp() }
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
        let mut arrivals = Arrivals::new(0.5);
        for _ in 0..4000 {
            now += Duration::from_millis(2);
            arrivals.count(3, now);
        }
        assert!((arrivals.rate(now) - 1500.0).abs() < 15.0, "{}", arrivals.rate(now));
        now += Duration::from_secs(5);
        assert!(arrivals.rate(now) < 1.0);
    }
}
