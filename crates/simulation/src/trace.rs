//! What happened in a simulation, line by line, and what must not have.

use std::fmt::Display;
use std::time::Instant;

use parking_lot::Mutex;

/// The journal of a simulation. Two runs of one seed write the same.
pub(crate) struct Trace {
    start: Instant,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    lines: Vec<String>,
    violations: Vec<String>,
}

impl Trace {
    /// An empty one, in which times count from now.
    pub(crate) fn new() -> Self {
        Self { start: inferring_lockstep::now(), pages: Mutex::default() }
    }

    /// Writes down that something happened.
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{} {what}", self.time());
        self.pages.lock().lines.push(line);
    }

    /// Writes down that something happened that never may.
    pub(crate) fn violation(&self, what: impl Display) {
        let line = format!("{} VIOLATION: {what}", self.time());
        let mut pages = self.pages.lock();
        pages.violations.push(line.clone());
        pages.lines.push(line);
    }

    /// The same, unless it is as it should be.
    pub(crate) fn check(&self, is_so: bool, otherwise: impl FnOnce() -> String) {
        if !is_so {
            self.violation(otherwise());
        }
    }

    /// All lines, and those of violations alone.
    pub(crate) fn take(&self) -> (Vec<String>, Vec<String>) {
        let Pages { lines, violations } = std::mem::take(&mut *self.pages.lock());
        (lines, violations)
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        inferring_lockstep::now().saturating_duration_since(self.start).as_secs_f64()
    }

    /// The same, as it stands before a line.
    fn time(&self) -> String {
        let time = inferring_lockstep::now().saturating_duration_since(self.start);
        format!("{:>3}.{:06}", time.as_secs(), time.subsec_micros())
    }
}
