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
use crate::sums::Sum;

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
    /// Sessions that are loaded, by model and version.
    sessions: BTreeMap<(Kind, u64), u32>,
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

    /// The versions of a model of which sessions are loaded.
    pub(crate) fn loaded(&self, model: &str) -> Vec<u64> {
        let condition = self.0.lock();
        let is_loaded =
            |(kind, _): &(Kind, u64), sessions: u32| kind.name() == model && sessions > 0;
        let loaded = condition.sessions.iter().filter(|(key, sessions)| is_loaded(key, **sessions));
        loaded.map(|((_, version), _)| *version).collect()
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

/// An engine of two models, [`Content::answer`] and [`Sum::and`], each for every row. Which of them a
/// file is, and which version, tell the folders that it is in.
pub(crate) struct Engine {
    pub(crate) machine: Arc<Machine>,
}

/// One of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Contents,
    Sums,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Contents => Content::MODEL,
            Self::Sums => Sum::MODEL,
        }
    }

    /// The names of inputs or outputs, and how many numbers there are in a row of each.
    fn inputs(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Contents => &[("input", Content::WIDTH)],
            Self::Sums => &[("input", 1), ("state", Sum::WIDTH)],
        }
    }

    fn outputs(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Contents => &[("output", Content::WIDTH)],
            Self::Sums => &[("output", Sum::WIDTH), ("next", Sum::WIDTH)],
        }
    }
}

struct EngineSession {
    machine: Arc<Machine>,
    kind: Kind,
    version: u64,
}

impl EngineSession {
    fn load(machine: Arc<Machine>, kind: Kind, version: u64) -> Self {
        *machine.0.lock().sessions.entry((kind, version)).or_default() += 1;
        Self { machine, kind, version }
    }

    fn contents(&self, values: &[f32]) -> Vec<f32> {
        let rows = values.chunks(Content::WIDTH);
        self.machine.count(rows.clone().filter_map(Content::of_row));
        rows.flat_map(|row| Content::answer(row, self.version)).collect()
    }

    fn sums(&self, numbers: &[f32], states: &[f32]) -> Vec<f32> {
        let states = states.chunks(Sum::WIDTH).map(|state| Sum([state[0], state[1]]));
        let rows = numbers.iter().zip(states);
        rows.flat_map(|(number, sum)| sum.and(*number, self.version).0).collect()
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        *self.machine.0.lock().sessions.entry((self.kind, self.version)).or_default() -= 1;
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
        let folder = |above: usize| path.ancestors().nth(above).and_then(Path::file_name);
        let folder = |above: usize| folder(above).unwrap_or_default().to_string_lossy();
        let (version, model) = (folder(1), folder(2));
        let kind = if model == Sum::MODEL { Kind::Sums } else { Kind::Contents };
        let number = version.parse().expect("a file is in the folder of its version");
        let spec = |(name, width): &(&str, usize)| {
            let symbol = Dimension::Dynamic(Some("N".to_owned()));
            let shape = ShapeSpec::new([symbol, Dimension::Fixed(*width as u64)]);
            TensorSpec { name: (*name).into(), datatype: DataType::Fp32, shape }
        };
        Ok(LoadedModel {
            inputs: kind.inputs().iter().map(spec).collect(),
            outputs: kind.outputs().iter().map(spec).collect(),
            digest: ContentDigest::of(format!("{model} {version}").as_bytes()),
            size_bytes: 1,
            device: DeviceStatus { provider: "simulated".to_owned(), fallback_reason: None },
            deterministic: true,
            notes: Vec::new(),
            session: Box::new(EngineSession::load(self.machine.clone(), kind, number)),
        })
    }
}

impl Session for EngineSession {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        let values = |input: &Tensor| input.to_f32().expect("the models take FP32");
        let first = values(&inputs[0]);
        let rows = first.len() / self.kind.inputs()[0].1;
        self.machine.run(rows, run)?;
        let answers = match self.kind {
            Kind::Contents => self.contents(&first),
            Kind::Sums => self.sums(&first, &values(&inputs[1])),
        };
        let output = |(_, width): &(&str, usize)| {
            let output = Tensor::from_f32([rows as u64, *width as u64].into(), &answers);
            output.expect("as many as there were")
        };
        Ok(self.kind.outputs().iter().map(output).collect())
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        Some(Box::new(Self::load(self.machine.clone(), self.kind, self.version)))
    }
}
