//! An execution engine whose runs take simulated time, and that fails as it is told.
//!
//! A run blocks its thread, as a run of a real engine does, and ends early where it is interrupted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use inferring_backend::{
    Backend, ExecuteError, Interrupt, LoadError, LoadOptions, LoadedModel, Run, Session,
};
use inferring_lockstep::Condvar;
use inferring_types::{
    BackendStatus, ContentDigest, DataType, DeviceStatus, Dimension, ShapeSpec, Tensor, TensorSpec,
};
use parking_lot::Mutex;

use crate::content::Content;

/// How long a run takes on a machine that is well, beside what each row takes.
const RUN: Duration = Duration::from_millis(3);
const ROW: Duration = Duration::from_millis(1);

/// The machine that a worker's process runs on, as its engine sees it.
#[derive(Default)]
pub(crate) struct Machine(Mutex<Condition>);

#[derive(Default)]
struct Condition {
    /// Runs take so many times longer; 0 counts as 1.
    slowness: u32,
    /// Every run fails.
    fails: bool,
    /// The next run takes so long and cannot be interrupted.
    hang: Option<Duration>,
    /// The process was killed: runs end at once.
    is_dead: bool,
    pauses: Vec<Weak<Pause>>,
    /// How often what was computed.
    computed: BTreeMap<Content, u32>,
    /// Sessions that are loaded, by version.
    sessions: BTreeMap<u64, u32>,
}

impl Machine {
    pub(crate) fn set_slowness(&self, slowness: u32) {
        self.0.lock().slowness = slowness;
    }

    pub(crate) fn set_failing(&self, fails: bool) {
        self.0.lock().fails = fails;
    }

    /// The next run takes so long and heeds nobody; where `None`, none that has not begun.
    pub(crate) fn set_hanging(&self, time: Option<Duration>) {
        self.0.lock().hang = time;
    }

    /// What runs ends now, as all that is begun from here on.
    pub(crate) fn kill(&self) {
        let pauses = {
            let mut condition = self.0.lock();
            condition.is_dead = true;
            std::mem::take(&mut condition.pauses)
        };
        pauses
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|pause| pause.end(|ends| &mut ends.killed));
    }

    /// How often this was computed.
    pub(crate) fn computed(&self, content: Content) -> u32 {
        self.0.lock().computed.get(&content).copied().unwrap_or_default()
    }

    /// The versions of which sessions are loaded.
    pub(crate) fn loaded(&self) -> Vec<u64> {
        let condition = self.0.lock();
        let loaded = condition.sessions.iter().filter(|(_, sessions)| **sessions > 0);
        loaded.map(|(version, _)| *version).collect()
    }

    /// Lets a run of so many rows take its time.
    fn run(&self, rows: usize, run: &Run) -> Result<(), ExecuteError> {
        let pause = Arc::new(Pause::default());
        let under_way = run.begin(pause.clone())?;
        let (time, stubborn, fails) = {
            let mut condition = self.0.lock();
            if condition.is_dead {
                return Err(ExecuteError("the process was killed".to_owned()));
            }
            condition.pauses.retain(|pause| pause.strong_count() > 0);
            condition.pauses.push(Arc::downgrade(&pause));
            let rows = u32::try_from(rows).expect("a run has few rows");
            let time = (RUN + ROW * rows) * condition.slowness.max(1);
            let hang = condition.hang.take();
            (hang.unwrap_or(time), hang.is_some(), condition.fails)
        };
        pause.sleep(time, stubborn);
        if under_way.end() {
            return Err(ExecuteError("interrupted".to_owned()));
        }
        if fails || self.0.lock().is_dead {
            return Err(ExecuteError("the machine fails".to_owned()));
        }
        Ok(())
    }

    fn count(&self, contents: impl Iterator<Item = Content>) {
        let mut condition = self.0.lock();
        for content in contents {
            *condition.computed.entry(content).or_default() += 1;
        }
    }
}

/// The time that a run takes.
#[derive(Default)]
struct Pause {
    ends: Mutex<Ends>,
    told: Condvar,
}

#[derive(Default)]
struct Ends {
    interrupted: bool,
    killed: bool,
}

impl Pause {
    fn sleep(&self, time: Duration, stubborn: bool) {
        let goes_on = |ends: &mut Ends| !ends.killed && (stubborn || !ends.interrupted);
        self.told.wait_while_for(&mut self.ends.lock(), goes_on, time);
    }

    fn end(&self, how: impl FnOnce(&mut Ends) -> &mut bool) {
        *how(&mut self.ends.lock()) = true;
        self.told.notify_all();
    }
}

impl Interrupt for Pause {
    fn interrupt(&self) {
        self.end(|ends| &mut ends.interrupted);
    }
}

/// An engine whose every model is [`Content::answer`] for each row, of the version that its file is
/// in the folder of.
pub(crate) struct Engine {
    pub(crate) machine: Arc<Machine>,
}

struct EngineSession {
    machine: Arc<Machine>,
    version: u64,
}

impl EngineSession {
    fn load(machine: Arc<Machine>, version: u64) -> Self {
        *machine.0.lock().sessions.entry(version).or_default() += 1;
        Self { machine, version }
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        *self.machine.0.lock().sessions.entry(self.version).or_default() -= 1;
    }
}

impl Backend for Engine {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            name: "simulated".to_owned(),
            version: "1".to_owned(),
            library: None,
            found_by: None,
        }
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let version = folder.to_str().and_then(|name| name.parse().ok());
        let version = version.expect("a file is in the folder of its version");
        let symbol = Dimension::Dynamic(Some("N".to_owned()));
        let shape = ShapeSpec::new([symbol, Dimension::Fixed(Content::WIDTH as u64)]);
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: shape.clone(),
        };
        Ok(LoadedModel {
            inputs: vec![spec("input")],
            outputs: vec![spec("output")],
            digest: ContentDigest::of(folder.as_encoded_bytes()),
            size_bytes: 1,
            device: DeviceStatus { provider: "simulated".to_owned(), fallback_reason: None },
            deterministic: true,
            notes: Vec::new(),
            session: Box::new(EngineSession::load(self.machine.clone(), version)),
        })
    }
}

impl Session for EngineSession {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        let values = inputs[0].to_f32().expect("the model takes FP32");
        let rows = values.chunks(Content::WIDTH);
        self.machine.run(rows.len(), run)?;
        self.machine.count(rows.clone().filter_map(Content::of_row));
        let answers: Vec<f32> = rows.flat_map(|row| Content::answer(row, self.version)).collect();
        let output = Tensor::from_f32(inputs[0].shape().clone(), &answers);
        Ok(vec![output.expect("as many as there were")])
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        Some(Box::new(Self::load(self.machine.clone(), self.version)))
    }
}
