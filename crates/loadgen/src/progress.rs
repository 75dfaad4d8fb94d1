//! How far a benchmark has come, and the bar that shows it.

use std::time::Duration;

use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};

/// How far a benchmark has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Requests that are over, well or not.
    pub done: u64,
    /// Of these, without a good answer.
    pub failed: u64,
    /// How many there will be, where that is known.
    pub planned: Option<u64>,
    /// How long it will take, where that is known.
    pub duration: Option<Duration>,
}

/// The parts of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Requests before the measurement.
    WarmUp,
    /// The load.
    Load,
    /// The first round of the cache test.
    CacheMisses,
    /// The second round of the cache test.
    CacheHits,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warming up",
            Self::Load => "load",
            Self::CacheMisses => "first round",
            Self::CacheHits => "second round",
        }
    }
}

/// A bar on standard error; where that is no terminal, nothing.
pub struct ProgressBar {
    bar: Bar,
    phase: Option<Phase>,
}

impl ProgressBar {
    /// A bar that appears with the first [`ProgressBar::show`].
    pub fn new() -> Self {
        Self { bar: Bar::hidden(), phase: None }
    }

    /// Draws how far it has come.
    pub fn show(&mut self, progress: &Progress) {
        if self.phase != Some(progress.phase) {
            self.bar.finish_and_clear();
            self.bar = bar(progress);
            self.phase = Some(progress.phase);
        }
        let position = match (progress.planned, progress.duration) {
            (None, Some(_)) => u64::try_from(self.bar.elapsed().as_millis()).unwrap_or(u64::MAX),
            _ => progress.done,
        };
        let failed = match progress.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.bar.set_message(format!("{} done{failed}", progress.done));
        self.bar.set_position(position);
    }

    /// Takes the bar away, so that the report stands alone.
    pub fn clear(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::new()
    }
}

/// A bar of requests where their number is known, else of time.
fn bar(progress: &Progress) -> Bar {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let length = progress.planned.or(progress.duration.map(milliseconds));
    let style = ProgressStyle::with_template("{prefix:>12} {bar:40} {percent:>3} %  {msg}  {eta}")
        .expect("the template is valid");
    Bar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(progress.phase.name())
}
