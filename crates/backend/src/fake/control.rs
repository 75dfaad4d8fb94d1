//! Counts what a fake engine does, and decides what becomes of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{Interrupt, Interrupted, LoadOptions, Run, UnderWay};

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
    shares: u64,
    unshared: bool,
    trims: u64,
    rows_of_runs: Vec<u64>,
    running: usize,
    held: bool,
    delay: Duration,
    cost: Option<Cost>,
    hangs_left: u64,
    releases: u64,
    interrupts: u64,
    failures_left: u64,
    panics_left: u64,
    poison: Option<f32>,
}

/// How long a run of so many rows takes.
struct Cost(Box<dyn Fn(u64) -> Duration + Send>);

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cost")
    }
}

/// What a run does once it is let through.
pub(super) enum Fate {
    Interrupted,
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

    /// Sessions that were loaded or made by sharing one, and not yet dropped.
    pub fn sessions(&self) -> usize {
        self.state.lock().sessions
    }

    /// Blocks until at most `sessions` sessions are there; `false` where `patience` ends first.
    /// This is how a test knows that an unloaded model is gone.
    pub fn wait_until_sessions(&self, sessions: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.sessions <= sessions)
    }

    /// From now on, sessions can be shared or not. They can by default, as those of real models
    /// on the CPU.
    pub fn set_sharable(&self, sharable: bool) {
        self.state.lock().unshared = !sharable;
    }

    /// How often a session was shared. What was made so counts among [`FakeControl::sessions`].
    pub fn shares(&self) -> u64 {
        self.state.lock().shares
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

    /// Whether a session may be shared; counts it if so.
    pub(super) fn count_share(&self) -> bool {
        let mut state = self.state.lock();
        let sharable = !state.unshared;
        state.shares += u64::from(sharable);
        sharable
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

    /// From now on, every run stops before it computes, until [`FakeControl::release`] or until
    /// it is interrupted.
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Lets held and hanging runs go on, and later ones through.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.held = false;
        state.releases += 1;
        self.changed.notify_all();
    }

    /// The next `runs` runs stop before they compute until the next [`FakeControl::release`], and
    /// do not heed an interrupt before that.
    pub fn hang_next(&self, runs: u64) {
        self.state.lock().hangs_left = runs;
    }

    /// How many runs were interrupted while they were under way.
    pub fn interrupts(&self) -> u64 {
        self.state.lock().interrupts
    }

    /// Blocks until at least `interrupts` runs were interrupted while they were under way;
    /// `false` where `patience` ends first.
    pub fn wait_until_interrupts(&self, interrupts: u64, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.interrupts >= interrupts)
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

    /// From now on, every run takes this long, unless it is interrupted; zero by default.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// From now on, a run takes this long for its number of rows, on top of the delay.
    pub fn set_cost(&self, cost: impl Fn(u64) -> Duration + Send + 'static) {
        self.state.lock().cost = Some(Cost(Box::new(cost)));
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
    ///
    /// # Errors
    /// The run was interrupted before it began; it is not counted.
    pub(super) fn begin_run<'a>(
        self: &'a Arc<Self>,
        rows: u64,
        run: &'a Run,
    ) -> Result<(Fate, Running<'a>), Interrupted> {
        // Before the lock of this is taken: an interrupt takes that one second.
        let under_way = run.begin(Arc::clone(self) as Arc<dyn Interrupt>)?;
        let hangs_until = self.count_run(rows);
        let running = Running { control: self, _under_way: under_way };
        let mut state = self.state.lock();
        if let Some(releases) = hangs_until {
            self.changed.wait_while(&mut state, |state| state.releases < releases);
        }
        self.changed.wait_while(&mut state, |state| state.held && !run.is_interrupted());
        let cost = state.cost.as_ref().map_or(Duration::ZERO, |Cost(cost)| cost(rows));
        let delay = state.delay + cost;
        self.pass(&mut state, delay, run);
        let fate = if run.is_interrupted() {
            Fate::Interrupted
        } else if take_one(&mut state.panics_left) {
            Fate::Panic
        } else if take_one(&mut state.failures_left) {
            Fate::Fail
        } else {
            Fate::Answer { poison: state.poison }
        };
        Ok((fate, running))
    }

    /// Counts a run in; where it is to hang, gives the number of releases that end that.
    fn count_run(&self, rows: u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.rows_of_runs.push(rows);
        state.running += 1;
        self.changed.notify_all();
        take_one(&mut state.hangs_left).then_some(state.releases + 1)
    }

    /// Lets this much time pass, or less where the run is interrupted.
    fn pass(&self, state: &mut MutexGuard<'_, State>, time: Duration, run: &Run) {
        if time.is_zero() {
            return;
        }
        let until = Instant::now() + time;
        // Notifications for others end a wait early: only the clock or an interrupt ends this one.
        while !run.is_interrupted() && !self.changed.wait_until(state, until).timed_out() {}
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

impl Interrupt for FakeControl {
    fn interrupt(&self) {
        self.state.lock().interrupts += 1;
        self.changed.notify_all();
    }
}

/// A run under way; it ends when this is dropped.
pub(super) struct Running<'a> {
    control: &'a FakeControl,
    // Dropped after the lock that `drop` takes was given back.
    _under_way: UnderWay<'a>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.control.state.lock().running -= 1;
        self.control.changed.notify_all();
    }
}
