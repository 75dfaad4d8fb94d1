//! An engine for tests: it computes something simple and does as it is told.
//!
//! It answers as a model would, counts what it ran, and can be held at the door, slowed down and
//! made to fail, so that a test waits for events and never for time to pass.
//!
//! ```
//! use inferring_backend::{Backend, fake::FakeBackend};
//! use inferring_types::Tensor;
//!
//! let backend = FakeBackend::new();
//! let mut model = backend.load("any.onnx".as_ref())?;
//! let input = Tensor::from_f32([1, 4].into(), &[1.0, 2.0, 3.0, 4.0])?;
//! let outputs = model.session.execute(&[input])?;
//! assert_eq!(outputs[0].to_f32().unwrap(), [12.0, 14.0, 16.0, 18.0]);
//! assert_eq!(backend.control().runs(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::{
    BackendStatus, ContentDigest, DataType, DeviceStatus, Dimension, Shape, ShapeSpec, Tensor,
    TensorSpec,
};
use parking_lot::{Condvar, Mutex};

use crate::{Backend, ExecuteError, LoadError, LoadedModel, Session};

/// An engine whose every model is the same small function of one FP32 tensor.
///
/// For a row `x`, the answer is `y[j] = 2 x[j] + sum(x)`, in the shape of the input. The first
/// dimension counts rows; a row is everything behind it.
#[derive(Debug, Clone)]
pub struct FakeBackend {
    shape: ShapeSpec,
    influence: Influence,
    control: Arc<FakeControl>,
}

/// Whether one row's answer depends on the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Influence {
    Independent,
    Mixed,
}

impl FakeBackend {
    /// A model of `[N,4]` to `[N,4]` whose rows do not influence each other.
    pub fn new() -> Self {
        Self {
            shape: ShapeSpec::new([Dimension::Dynamic(Some("N".to_owned())), Dimension::Fixed(4)]),
            influence: Influence::Independent,
            control: Arc::default(),
        }
    }

    /// The same with this shape, for input and output.
    #[must_use]
    pub fn with_shape(self, dimensions: impl IntoIterator<Item = Dimension>) -> Self {
        Self { shape: ShapeSpec::new(dimensions), ..self }
    }

    /// The same, but the sum is taken over all rows: joining requests changes their answers.
    #[must_use]
    pub fn with_rows_that_mix(self) -> Self {
        Self { influence: Influence::Mixed, ..self }
    }

    /// The handle that counts and controls the runs of every session of this backend.
    pub fn control(&self) -> Arc<FakeControl> {
        Arc::clone(&self.control)
    }
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for FakeBackend {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            name: "fake".to_owned(),
            version: "1".to_owned(),
            library: None,
            found_by: None,
        }
    }

    /// Loads without a file: equal paths give models of equal digest, others of another.
    fn load(&self, path: &Path) -> Result<LoadedModel, LoadError> {
        if let Some(reason) = self.control.count_load() {
            return Err(LoadError::Refused { path: path.to_owned(), reason });
        }
        let bytes = path.as_os_str().as_encoded_bytes();
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: self.shape.clone(),
        };
        Ok(LoadedModel {
            inputs: vec![spec("input")],
            outputs: vec![spec("output")],
            digest: ContentDigest::of(bytes),
            size_bytes: bytes.len() as u64,
            device: DeviceStatus {
                provider: "CPUExecutionProvider".to_owned(),
                fallback_reason: None,
            },
            session: Box::new(FakeSession {
                shape: self.shape.clone(),
                influence: self.influence,
                control: self.control(),
            }),
        })
    }
}

/// Counts the runs of a [`FakeBackend`] and decides what they do.
///
/// Methods that count include runs that failed; a run is counted before it is held.
#[derive(Debug, Default)]
pub struct FakeControl {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    loads: u64,
    rows_of_runs: Vec<u64>,
    running: usize,
    held: bool,
    delay: Duration,
    failures_left: u64,
    panics_left: u64,
    load_failures_left: u64,
    poison: Option<f32>,
}

/// What a run does once it is let through.
enum Fate {
    Answer { poison: Option<f32> },
    Fail,
    Panic,
}

impl FakeControl {
    /// How many models were loaded, or tried to be.
    pub fn loads(&self) -> u64 {
        self.state.lock().loads
    }

    /// How many runs were begun.
    pub fn runs(&self) -> u64 {
        self.state.lock().rows_of_runs.len() as u64
    }

    /// How many rows those runs had together.
    pub fn rows(&self) -> u64 {
        self.state.lock().rows_of_runs.iter().sum()
    }

    /// The rows of each run, in the order in which they were begun.
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

    /// The next `loads` loads are refused.
    pub fn fail_next_loads(&self, loads: u64) {
        self.state.lock().load_failures_left = loads;
    }

    /// Every run whose input holds this value fails, whatever else it holds.
    pub fn set_poison(&self, poison: Option<f32>) {
        self.state.lock().poison = poison;
    }

    fn count_load(&self) -> Option<String> {
        let mut state = self.state.lock();
        state.loads += 1;
        take_one(&mut state.load_failures_left).then(|| "told to fail".to_owned())
    }

    /// Counts a run of `rows` rows and says what becomes of it, once it is let through. The
    /// guard counts it out again, also when it panics.
    fn begin_run(&self, rows: u64) -> (Fate, Running<'_>) {
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
struct Running<'a>(&'a FakeControl);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

struct FakeSession {
    shape: ShapeSpec,
    influence: Influence,
    control: Arc<FakeControl>,
}

impl Session for FakeSession {
    fn execute(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
        let [input] = inputs else {
            return Err(ExecuteError(format!("expected one input, got {}", inputs.len())));
        };
        let Some(values) = input.to_f32().filter(|_| self.shape.admits(input.shape())) else {
            return Err(ExecuteError(format!(
                "expected FP32 {}, got {} {}",
                self.shape,
                input.datatype(),
                input.shape(),
            )));
        };
        let rows = input.shape().dimensions().first().copied().unwrap_or(1);
        let (fate, _running) = self.control.begin_run(rows);
        match fate {
            Fate::Panic => panic!("the fake session was told to panic"),
            Fate::Fail => Err(ExecuteError("told to fail".to_owned())),
            Fate::Answer { poison: Some(poison) } if values.contains(&poison) => {
                Err(ExecuteError(format!("a row holds the poison value {poison}")))
            }
            Fate::Answer { .. } => Ok(vec![self.answer(input.shape(), &values, rows)]),
        }
    }
}

impl FakeSession {
    fn answer(&self, shape: &Shape, values: &[f32], rows: u64) -> Tensor {
        let row_length = match self.influence {
            Influence::Independent => values.len() / usize::try_from(rows.max(1)).unwrap_or(1),
            Influence::Mixed => values.len(),
        };
        let answers = values.chunks(row_length.max(1)).flat_map(|row| {
            let sum = row.iter().sum::<f32>();
            row.iter().map(move |x| 2.0 * x + sum)
        });
        Tensor::from_f32(shape.clone(), &answers.collect::<Vec<_>>())
            .expect("as many answers as values, in the shape of the values")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn rows(values: &[[f32; 4]]) -> Tensor {
        Tensor::from_f32([values.len() as u64, 4].into(), values.as_flattened()).unwrap()
    }

    fn session(backend: &FakeBackend) -> Box<dyn Session> {
        backend.load("model.onnx".as_ref()).unwrap().session
    }

    #[test]
    fn rows_are_independent_unless_told_to_mix() {
        let (first, second) = ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, -1.0]);
        for (backend, independent) in
            [(FakeBackend::new(), true), (FakeBackend::new().with_rows_that_mix(), false)]
        {
            let mut session = session(&backend);
            let together = session.execute(&[rows(&[first, second])]).unwrap()[0].to_f32().unwrap();
            let apart = [first, second]
                .map(|row| session.execute(&[rows(&[row])]).unwrap()[0].to_f32().unwrap());
            assert_eq!(together == apart.concat(), independent);
            assert_eq!(backend.control().rows_of_runs(), [2, 1, 1]);
            assert_eq!(backend.control().rows(), 4);
        }
    }

    #[test]
    fn zero_rows_give_zero_rows() {
        let outputs = session(&FakeBackend::new()).execute(&[rows(&[])]).unwrap();
        assert_eq!(outputs, [rows(&[])]);
    }

    #[test]
    fn a_held_run_waits_for_release() {
        let backend = FakeBackend::new();
        let control = backend.control();
        control.hold();
        let mut session = session(&backend);
        let run = thread::spawn(move || session.execute(&[rows(&[[1.0; 4]])]));
        assert!(control.wait_until_running(1, PATIENCE));
        assert!(!run.is_finished());
        control.release();
        assert!(run.join().unwrap().is_ok());
        assert_eq!((control.running(), control.runs()), (0, 1));
    }

    #[test]
    fn a_delayed_run_takes_at_least_the_delay() {
        let backend = FakeBackend::new();
        backend.control().set_delay(Duration::from_millis(20));
        let begun = Instant::now();
        session(&backend).execute(&[rows(&[[1.0; 4]])]).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn runs_fail_panic_and_recover_as_told() {
        let backend = FakeBackend::new();
        let control = backend.control();
        let mut session = session(&backend);
        control.fail_next(1);
        assert!(session.execute(&[rows(&[[1.0; 4]])]).is_err());
        control.panic_next(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| session.execute(&[rows(&[[1.0; 4]])])));
        assert!(panicked.is_err());
        assert_eq!(control.running(), 0);
        control.set_poison(Some(-7.0));
        assert!(session.execute(&[rows(&[[1.0; 4], [0.0, -7.0, 0.0, 0.0]])]).is_err());
        assert!(session.execute(&[rows(&[[1.0; 4]])]).is_ok());
    }

    #[test]
    fn loads_fail_as_told_and_digests_follow_the_path() {
        let backend = FakeBackend::new();
        backend.control().fail_next_loads(1);
        assert!(backend.load("a".as_ref()).is_err());
        let digest = |path: &str| backend.load(path.as_ref()).unwrap().digest;
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
        assert_eq!(backend.control().loads(), 5);
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused_uncounted() {
        let backend = FakeBackend::new();
        let wrong = Tensor::from_f32([1, 3].into(), &[0.0; 3]).unwrap();
        let error = session(&backend).execute(&[wrong]).unwrap_err();
        assert_eq!(error.to_string(), "expected FP32 [N,4], got FP32 [1,3]");
        assert_eq!(backend.control().runs(), 0);
    }
}
