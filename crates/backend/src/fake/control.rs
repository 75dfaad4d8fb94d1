//! Counts what a fake engine does, and decides what becomes of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::LoadOptions;

/// Counts loads and runs of a [`FakeBackend`](super::FakeBackend) and decides what they do.
///
/// Methods that count include what failed; a load or run is counted before it is held.
#[derive(Debug, Default)]
pub struct FakeControl {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    loads: Vec<(PathBuf, LoadOptions)>,
    loading: usize,
    loads_held: bool,
    load_failures_left: u64,
    refused_loads: Vec<(PathBuf, String)>,
    sessions: usize,
    trims: u64,
    rows_of_runs: Vec<u64>,
    running: usize,
    held: bool,
    delay: Duration,
    failures_left: u64,
    panics_left: u64,
    poison: Option<f32>,
}

/// What a run does once it is let through.
pub(super) enum Fate {
    Answer { poison: Option<f32> },
    Fail,
    Panic,
}

/// Loads.
impl FakeControl {
    /// How many loads were begun.
    pub fn loads(&self) -> u64 {
        self.state.lock().loads.len() as u64
    }

    /// What was loaded and how, in the order in which the loads were begun.
    pub fn loaded(&self) -> Vec<(PathBuf, LoadOptions)> {
        self.state.lock().loads.clone()
    }

    /// The next `loads` loads are refused.
    pub fn fail_next_loads(&self, loads: u64) {
        self.state.lock().load_failures_left = loads;
    }

    /// From now on, loads of paths that end in `path` (by whole components) are refused for this
    /// reason, until [`FakeControl::accept_loads_of`] is called with the same.
    pub fn refuse_loads_of(&self, path: impl AsRef<Path>, reason: &str) {
        let path = path.as_ref().to_owned();
        self.state.lock().refused_loads.push((path, reason.to_owned()));
    }

    /// Ends what [`FakeControl::refuse_loads_of`] began.
    pub fn accept_loads_of(&self, path: impl AsRef<Path>) {
        self.state.lock().refused_loads.retain(|(refused, _)| refused != path.as_ref());
    }

    /// From now on, every load stops before it does anything, until
    /// [`FakeControl::release_loads`].
    pub fn hold_loads(&self) {
        self.state.lock().loads_held = true;
    }

    /// Lets held loads go on, and later ones through.
    pub fn release_loads(&self) {
        self.state.lock().loads_held = false;
        self.changed.notify_all();
    }

    /// Loads that are held.
    pub fn loading(&self) -> usize {
        self.state.lock().loading
    }

    /// Blocks until at least `loads` loads are held at once; `false` where `patience` ends first.
    pub fn wait_until_loading(&self, loads: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.loading >= loads)
    }

    /// Sessions that were loaded and not yet dropped.
    pub fn sessions(&self) -> usize {
        self.state.lock().sessions
    }

    /// Blocks until at most `sessions` sessions are there; `false` where `patience` ends first.
    /// This is how a test knows that an unloaded model is gone.
    pub fn wait_until_sessions(&self, sessions: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.sessions <= sessions)
    }

    /// How often the engine was told to give memory back.
    pub fn trims(&self) -> u64 {
        self.state.lock().trims
    }

    /// Counts a load and waits until it may go on.
    ///
    /// # Errors
    /// The reason for which it is to be refused.
    pub(super) fn begin_load(&self, path: &Path, options: &LoadOptions) -> Result<(), String> {
        let mut state = self.state.lock();
        state.loads.push((path.to_owned(), options.clone()));
        state.loading += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.loads_held);
        state.loading -= 1;
        self.changed.notify_all();
        if take_one(&mut state.load_failures_left) {
            return Err("told to fail".to_owned());
        }
        let refused = state.refused_loads.iter().find(|(refused, _)| path.ends_with(refused));
        refused.map_or(Ok(()), |(_, reason)| Err(reason.clone()))
    }

    pub(super) fn count_session(&self) {
        self.state.lock().sessions += 1;
        self.changed.notify_all();
    }

    pub(super) fn count_session_out(&self) {
        self.state.lock().sessions -= 1;
        self.changed.notify_all();
    }

    pub(super) fn count_trim(&self) {
        self.state.lock().trims += 1;
    }
}

/// Runs.
impl FakeControl {
    /// How many runs were begun.
    pub fn runs(&self) -> u64 {
        self.state.lock().rows_of_runs.len() as u64
    }

    /// How many rows those runs had together.
    pub fn rows(&self) -> u64 {
        self.state.lock().rows_of_runs.iter().sum()
    }

    /// The rows of each run, in the order in which they were begun: the first dimension of the
    /// first input, or 1 where it has none.
    pub fn rows_of_runs(&self) -> Vec<u64> {
        self.state.lock().rows_of_runs.clone()
    }

    /// Runs begun and not yet ended, held ones included.
    pub fn running(&self) -> usize {
        self.state.lock().running
    }

    /// From now on, every run stops before it computes, until [`FakeControl::release`].
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Lets held runs go on, and later ones through.
    pub fn release(&self) {
        self.state.lock().held = false;
        self.changed.notify_all();
    }

    /// Blocks until at least `runs` runs are under way at once; `false` where `patience` ends
    /// first. With [`FakeControl::hold`], this is how a test knows that an instance is busy.
    pub fn wait_until_running(&self, runs: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.running >= runs)
    }

    /// Blocks until at least `runs` runs were begun; `false` where `patience` ends first.
    pub fn wait_until_begun(&self, runs: u64, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.rows_of_runs.len() as u64 >= runs)
    }

    /// From now on, every run takes this long; zero by default.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// The next `runs` runs fail.
    pub fn fail_next(&self, runs: u64) {
        self.state.lock().failures_left = runs;
    }

    /// The next `runs` runs panic.
    pub fn panic_next(&self, runs: u64) {
        self.state.lock().panics_left = runs;
    }

    /// Every run whose FP32 inputs hold this value fails, whatever else they hold.
    pub fn set_poison(&self, poison: Option<f32>) {
        self.state.lock().poison = poison;
    }

    /// Counts a run of `rows` rows and says what becomes of it, once it is let through. The
    /// guard counts it out again, also when it panics.
    pub(super) fn begin_run(&self, rows: u64) -> (Fate, Running<'_>) {
        let mut state = self.state.lock();
        state.rows_of_runs.push(rows);
        state.running += 1;
        let running = Running(self);
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.held);
        if !state.delay.is_zero() {
            let until = Instant::now() + state.delay;
            // Notifications for others end a wait early: only the clock ends this one.
            while !self.changed.wait_until(&mut state, until).timed_out() {}
        }
        let fate = if take_one(&mut state.panics_left) {
            Fate::Panic
        } else if take_one(&mut state.failures_left) {
            Fate::Fail
        } else {
            Fate::Answer { poison: state.poison }
        };
        (fate, running)
    }

    fn wait_until(&self, patience: Duration, reached: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        let waited = self.changed.wait_while_for(&mut state, |state| !reached(state), patience);
        !waited.timed_out() || reached(&state)
    }
}

fn take_one(left: &mut u64) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

/// A run under way; it ends when this is dropped.
pub(super) struct Running<'a>(&'a FakeControl);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.changed.notify_all();
    }
}
