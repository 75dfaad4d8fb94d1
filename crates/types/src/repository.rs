//! The models a node could serve, how each is served, and what it has done so far.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{
    BatchStatus, Batching, BoxFuture, DeviceStatus, ModelName, ModelSelector, ModelVersion,
    SequenceSpec, ServiceError, TensorSpec,
};

/// Tells which models a node could serve and does serve, and changes that.
pub trait ModelRepository: Send + Sync {
    /// Every version of every model that is known, served or not.
    ///
    /// # Errors
    /// [`ServiceError`] where the repository, or a remote node, cannot be read.
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>>;

    /// Loads a model, or loads it anew, and returns when it is served. What it replaces serves
    /// until then, and goes on serving where this fails.
    ///
    /// # Errors
    /// `NotFound` where there is no such model, `InvalidArgument` where its files or settings
    /// are wrong.
    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>>;

    /// Stops serving all versions of a model. Requests that have begun are finished.
    ///
    /// # Errors
    /// `NotFound` where there is no such model.
    fn unload(&self, model: ModelName) -> BoxFuture<'_, Result<(), ServiceError>>;

    /// The settings in force for a model.
    ///
    /// # Errors
    /// `NotFound` where it is not served.
    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>>;

    /// What a model has done since it was loaded: one version where the selector names one,
    /// else all of them; every version of every model where there is no selector.
    ///
    /// # Errors
    /// `NotFound` where it is not served.
    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>>;
}

/// One version of a model, as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model.
    pub name: ModelName,
    /// The version; `None` where the model has none that can be told.
    pub version: Option<ModelVersion>,
    /// Whether it is served.
    pub state: ModelState,
    /// Why it is not served, or why its last load failed; empty where all is well.
    pub reason: String,
}

/// Whether a version of a model is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelState {
    /// It answers requests.
    Ready,
    /// It is being loaded for the first time.
    Loading,
    /// It finishes the requests that have begun.
    Unloading,
    /// It is not served.
    Unavailable,
}

impl ModelState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Loading, Self::Unloading, Self::Unavailable];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unloading => "UNLOADING",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A wish to load a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRequest {
    /// The model.
    pub model: ModelName,
    /// Settings that replace those in the repository: Triton's `ModelConfig` as JSON.
    pub config: Option<String>,
    /// Files that replace the model's folder; empty to load from the repository.
    pub files: Vec<RepositoryFile>,
}

/// A file of a model, brought along by a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFile {
    /// Its place in the model's folder: `1/model.onnx`.
    pub path: String,
    /// Its content.
    pub content: Bytes,
}

/// Which versions of a model are served, of those that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The newest ones, this many.
    Latest(NonZeroUsize),
    /// All.
    All,
    /// These.
    Specific(Vec<ModelVersion>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(NonZeroUsize::MIN)
    }
}

/// The settings in force for one version of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The model.
    pub name: ModelName,
    /// Which of its versions are served.
    pub version_policy: VersionPolicy,
    /// Rows in one run at most; 0 where every request runs alone.
    pub batch_size_max: u64,
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// Loaded sessions.
    pub instances: usize,
    /// Where they run.
    pub device: DeviceStatus,
    /// How long a request may be held back for others to join it.
    pub delay_max: Duration,
    /// Batch sizes that are preferred to others; empty where none is.
    pub preferred_batch_sizes: Vec<u64>,
    /// The only numbers of rows that a run may have, what is missing to one being filled up; any
    /// where empty.
    pub allowed_batch_sizes: Vec<u64>,
    /// How many priorities there are; 1 is the most urgent.
    pub priority_levels: u32,
    /// The priority of a request that states none.
    pub default_priority: u32,
    /// How requests that follow each other are served; `None` for a model without state.
    pub sequences: Option<SequenceSpec>,
    /// Whether answers are kept.
    pub response_cache: bool,
    /// The model file's name in a version's folder.
    pub file_name: String,
    /// Whether requests may share a run, and why.
    pub batching: Batching,
}

impl ModelConfig {
    /// The largest batch, where the first axis of every tensor is that of the batch: the only
    /// kind that the protocol's configurations have words for. `None` where requests run alone, or
    /// rows lie elsewhere.
    pub fn leading_batch_size_max(&self) -> Option<u64> {
        let axes = self.batching.axes()?;
        let leads = axes.inputs.iter().chain(&axes.outputs).all(|&axis| axis == Some(0));
        (leads && self.batch_size_max > 0).then_some(self.batch_size_max)
    }
}

/// What one version of a model has done since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatistics {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: ModelVersion,
    /// When the last request was answered.
    pub last_inference: Option<SystemTime>,
    /// Rows answered by runs.
    pub inferences: u64,
    /// Runs.
    pub executions: u64,
    /// Requests answered, from arrival to answer.
    pub success: Spent,
    /// Requests that failed, from arrival to error.
    pub fail: Spent,
    /// Waiting for an instance.
    pub queue: Spent,
    /// Joining the inputs of a run.
    pub compute_input: Spent,
    /// Running.
    pub compute_infer: Spent,
    /// Splitting the outputs of a run.
    pub compute_output: Spent,
    /// Requests answered from the cache, or by an equal request's run.
    pub cache_hit: Spent,
    /// Requests that had to be computed.
    pub cache_miss: Spent,
    /// The runs, by their number of rows.
    pub batches: Vec<BatchSizeStatistics>,
    /// Why runs left the queue, and what became of requests that never ran.
    pub batching: BatchStatus,
    /// What a run is reckoned to cost, by the size of its rows.
    pub curves: Vec<CostCurve>,
}

/// How often something was done, and how long that took in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often.
    pub count: u64,
    /// How long, in all.
    pub total: Duration,
}

impl Spent {
    /// Counts once more.
    pub fn add(&mut self, time: Duration) {
        *self = self.plus(Self { count: 1, total: time });
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, total: self.total.saturating_add(other.total) }
    }
}

/// The runs of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSizeStatistics {
    /// Rows in each of these runs.
    pub batch_size: u64,
    /// Joining inputs.
    pub compute_input: Spent,
    /// Running.
    pub compute_infer: Spent,
    /// Splitting outputs.
    pub compute_output: Spent,
}

impl ModelStatistics {
    /// Of a model that has done nothing.
    pub fn new(name: ModelName, version: ModelVersion) -> Self {
        Self {
            name,
            version,
            last_inference: None,
            inferences: 0,
            executions: 0,
            success: Spent::default(),
            fail: Spent::default(),
            queue: Spent::default(),
            compute_input: Spent::default(),
            compute_infer: Spent::default(),
            compute_output: Spent::default(),
            cache_hit: Spent::default(),
            cache_miss: Spent::default(),
            batches: Vec::new(),
            batching: BatchStatus::default(),
            curves: Vec::new(),
        }
    }

    /// Adds what another one has done: the same version of a model on another worker.
    pub fn add(&mut self, other: &Self) {
        self.last_inference = self.last_inference.max(other.last_inference);
        self.inferences += other.inferences;
        self.executions += other.executions;
        for (mine, theirs) in [
            (&mut self.success, other.success),
            (&mut self.fail, other.fail),
            (&mut self.queue, other.queue),
            (&mut self.compute_input, other.compute_input),
            (&mut self.compute_infer, other.compute_infer),
            (&mut self.compute_output, other.compute_output),
            (&mut self.cache_hit, other.cache_hit),
            (&mut self.cache_miss, other.cache_miss),
        ] {
            *mine = mine.plus(theirs);
        }
        for batch in &other.batches {
            self.of_batch_size(batch.batch_size).add(batch);
        }
        self.batching = self.batching.plus(other.batching);
        for curve in &other.curves {
            self.curve_of(curve.row_bytes).add(curve);
        }
    }

    fn curve_of(&mut self, row_bytes: u64) -> &mut CostCurve {
        let found = self.curves.binary_search_by_key(&row_bytes, |curve| curve.row_bytes);
        let index = found.unwrap_or_else(|index| {
            self.curves.insert(index, CostCurve { row_bytes, points: Vec::new() });
            index
        });
        &mut self.curves[index]
    }

    /// The runs of that size, to count further ones.
    pub fn of_batch_size(&mut self, batch_size: u64) -> &mut BatchSizeStatistics {
        let found = self.batches.binary_search_by_key(&batch_size, |batch| batch.batch_size);
        let index = found.unwrap_or_else(|index| {
            let none = BatchSizeStatistics { batch_size, ..BatchSizeStatistics::default() };
            self.batches.insert(index, none);
            index
        });
        &mut self.batches[index]
    }
}

/// What runs are reckoned to cost, of rows of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostCurve {
    /// The largest rows that it is about, in bytes of all inputs together.
    pub row_bytes: u64,
    /// What is known, by the number of rows in a run, smallest first.
    pub points: Vec<CostPoint>,
}

/// What runs of one size are reckoned to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostPoint {
    /// Rows in a run.
    pub rows: u64,
    /// How long it is reckoned to take.
    pub time: Duration,
    /// How many runs tell so.
    pub runs: u64,
}

impl CostCurve {
    /// Adds what another worker knows: of each size the slower of both.
    fn add(&mut self, other: &Self) {
        for point in &other.points {
            match self.points.binary_search_by_key(&point.rows, |known| known.rows) {
                Ok(index) => {
                    let known = &mut self.points[index];
                    known.time = known.time.max(point.time);
                    known.runs += point.runs;
                }
                Err(index) => self.points.insert(index, *point),
            }
        }
    }
}

impl BatchSizeStatistics {
    fn add(&mut self, other: &Self) {
        self.compute_input = self.compute_input.plus(other.compute_input);
        self.compute_infer = self.compute_infer.plus(other.compute_infer);
        self.compute_output = self.compute_output.plus(other.compute_output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_two_workers_add_up() {
        let once = Spent { count: 1, total: Duration::from_micros(5) };
        let mut one = ModelStatistics::new("m".parse().unwrap(), ModelVersion::first());
        let mut other = one.clone();
        one.success = once;
        one.of_batch_size(4).compute_infer = once;
        one.of_batch_size(1).compute_infer = once;
        other.success = once;
        other.last_inference = Some(SystemTime::UNIX_EPOCH);
        other.of_batch_size(4).compute_infer = once;
        let curve = |rows, millis| CostCurve {
            row_bytes: 8,
            points: vec![CostPoint { rows, time: Duration::from_millis(millis), runs: 1 }],
        };
        one.curves = vec![curve(4, 5)];
        other.curves = vec![curve(4, 7)];
        one.add(&other);
        let both = one;
        assert_eq!(both.success, Spent { count: 2, total: Duration::from_micros(10) });
        assert_eq!(both.last_inference, Some(SystemTime::UNIX_EPOCH));
        let runs: Vec<_> =
            both.batches.iter().map(|b| (b.batch_size, b.compute_infer.count)).collect();
        assert_eq!(runs, [(1, 1), (4, 2)]);
        let slower = CostPoint { rows: 4, time: Duration::from_millis(7), runs: 2 };
        assert_eq!(both.curves, [CostCurve { row_bytes: 8, points: vec![slower] }]);
    }

    #[test]
    fn every_state_reads_back() {
        for state in ModelState::ALL {
            assert_eq!(ModelState::from_name(state.name()), Some(state));
        }
    }
}
