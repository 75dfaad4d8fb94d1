//! How one model is served: its own settings over those of the worker.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use inferring_backend::{GraphOptimization, LoadOptions};
use inferring_policy::SchedulerConfig;
use inferring_repository::{
    BatchAxis, BatchingMode, BatchingSettings, ModelSettings, OptimizationLevel, Pinning,
    StateSettings, TensorSettings, WarmupSample,
};
use inferring_types::{Dimension, RowAxes, ShapeSpec, TensorSpec};

use crate::assembly::{Padding, fixed_rows};
use crate::cache::Sharing;
use crate::config::{QueueConfig, WorkerConfig};

/// Everything about a model's settings that matters once its files are known. Where it is equal,
/// what was loaded by it need not be loaded anew.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Serving {
    pub(crate) load: LoadOptions,
    /// Runs beside each other; `None` leaves the number to whoever knows the cores.
    pub(crate) instances: Option<NonZeroUsize>,
    pub(crate) pinning: Pinning,
    /// How long a run may take.
    pub(crate) run_limit: Option<Duration>,
    pub(crate) queue: QueueConfig,
    pub(crate) preferred_batch_sizes: Vec<u64>,
    /// The only numbers of rows that a run may have, smallest first; any where empty.
    pub(crate) allowed_sizes: Vec<usize>,
    /// What is kept of its answers; `None` for nothing.
    pub(crate) keeping: Option<Keeping>,
    /// Of a model with state.
    pub(crate) sequences: Option<SequenceServing>,
    inputs: BTreeMap<String, TensorSettings>,
    outputs: BTreeMap<String, TensorSettings>,
    /// Not read here, but another warm-up is another load.
    warmup: Vec<WarmupSample>,
}

/// What is kept of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// How long an answer stays good; for ever where absent.
    pub(crate) time_to_live: Option<Duration>,
    /// Bytes at most, never more than the worker's.
    pub(crate) bytes: u64,
}

/// How requests that follow each other are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceServing {
    /// How long a sequence may be without a request before it is forgotten.
    pub(crate) idle_timeout: Duration,
    /// Sequences at most; one of several rows counts as so many.
    pub(crate) count_max: usize,
    /// The parts of the state; not yet held against the model.
    pub(crate) states: Vec<StateSettings>,
}

/// The levels of priority that a model's requests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priorities {
    /// How many; 1 is the most urgent.
    pub(crate) levels: NonZeroU32,
    /// That of a request that states none.
    pub(crate) default: NonZeroU32,
}

impl Priorities {
    /// The class of a request, 0 being the most urgent. A level beyond the last is the last.
    pub(crate) fn class(self, stated: Option<NonZeroU32>) -> usize {
        let level = stated.unwrap_or(self.default).min(self.levels);
        level.get() as usize - 1
    }
}

/// Settings that cannot be, or do not fit the model.
#[derive(Debug, thiserror::Error)]
#[error("the settings do not fit: {0}")]
pub struct Misfit(pub(crate) String);

impl Serving {
    /// What holds for a model of these settings in a worker of that configuration.
    ///
    /// # Errors
    /// [`Misfit`] where a device is named that this worker does not know, or settings contradict
    /// those of the worker.
    pub(crate) fn new(own: &ModelSettings, worker: &WorkerConfig) -> Result<Self, Misfit> {
        let device = own.device.as_ref().map(|device| device.as_str().parse()).transpose();
        let sizes = |sizes: &[NonZeroUsize]| sizes.iter().map(|size| size.get()).collect();
        let allowed_sizes: Vec<usize> = sizes(&own.batching.allowed_sizes);
        let mut preferred_sizes: Vec<usize> = sizes(&own.batching.preferred_sizes);
        preferred_sizes.sort_unstable();
        let keeps = own.cache.enabled.unwrap_or(true) && worker.cache.entries > 0;
        let bytes = worker.cache.bytes.as_u64();
        let keeping = Keeping {
            time_to_live: own.cache.time_to_live.or(worker.cache.time_to_live),
            bytes: own.cache.bytes.map_or(bytes, |own| own.as_u64().min(bytes)),
        };
        let sequences = own.sequences.as_ref().map(|own| SequenceServing {
            idle_timeout: own.idle_timeout.unwrap_or(worker.sequences.idle_timeout),
            count_max: own.count_max.unwrap_or(worker.sequences.count_max).get(),
            states: own.state.clone(),
        });
        Ok(Self {
            load: LoadOptions {
                device: device.map_err(|error| Misfit(format!("{error}")))?,
                intra_op_threads: own.intra_op_threads,
                optimization: own.optimization.map_or_else(GraphOptimization::default, level),
                ..LoadOptions::default()
            },
            instances: own.instances.or(worker.instances),
            pinning: own.pinning.unwrap_or(worker.pinning),
            run_limit: own.run_limit.or(worker.run_limit),
            queue: queue(&own.batching, &worker.batching)?,
            preferred_batch_sizes: preferred_sizes.into_iter().map(|size| size as u64).collect(),
            allowed_sizes,
            keeping: keeps.then_some(keeping),
            sequences,
            inputs: own.inputs.clone(),
            outputs: own.outputs.clone(),
            warmup: own.warmup.clone(),
        })
    }

    /// How its jobs become batches, with so many runs beside each other.
    pub(crate) fn scheduler(&self, joins_rows: bool, instances: usize) -> SchedulerConfig {
        let any_number =
            SchedulerConfig { run_limit: self.run_limit, ..self.queue.scheduler(instances) };
        if !joins_rows {
            return SchedulerConfig { rows_max: 1, rows_enough: 1, ..any_number };
        }
        let enough =
            self.preferred_batch_sizes.first().and_then(|&size| usize::try_from(size).ok());
        SchedulerConfig {
            rows_enough: enough.unwrap_or(any_number.rows_enough),
            allowed: self.allowed_sizes.clone(),
            ..any_number
        }
    }

    /// The priorities that its requests may have.
    pub(crate) fn priorities(&self) -> Priorities {
        Priorities { levels: self.queue.priority_levels, default: self.queue.default_priority }
    }

    /// Which requests may be given one answer.
    pub(crate) fn sharing(&self, deterministic: bool) -> Sharing {
        match (deterministic, self.keeping) {
            (false, _) => Sharing::Nothing,
            (true, Some(_)) => Sharing::Kept,
            (true, None) => Sharing::InFlight,
        }
    }

    /// The inputs and outputs of a model, with what the settings say about them.
    ///
    /// # Errors
    /// [`Misfit`] where the settings name what the model does not have, or say of it what is not
    /// so.
    pub(crate) fn describe(
        &self,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), Misfit> {
        let mut inputs = apply("input", &self.inputs, inputs)?;
        let mut outputs = apply("output", &self.outputs, outputs)?;
        if let (BatchingMode::Rows, &[rows]) = (self.queue.mode, &self.allowed_sizes[..]) {
            let axis =
                |settings: &BTreeMap<String, TensorSettings>, spec: &TensorSpec| match settings
                    .get(spec.name.as_str())
                    .and_then(|settings| settings.batch_axis)
                {
                    Some(BatchAxis::At(axis)) => Some(axis),
                    Some(BatchAxis::None) => None,
                    None => Some(0),
                };
            let inputs = inputs.iter_mut().map(|spec| (axis(&self.inputs, spec), spec));
            let outputs = outputs.iter_mut().map(|spec| (axis(&self.outputs, spec), spec));
            fixed_rows::open(rows, inputs.chain(outputs).collect());
        }
        Ok((inputs, outputs))
    }

    /// Where rows lie, where the settings say so of any tensor. Of the others, those whose first
    /// dimension may vary have their rows there, and the rest have none.
    pub(crate) fn axes(&self, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Option<RowAxes> {
        let mut all = self.inputs.values().chain(self.outputs.values());
        if all.all(|settings| settings.batch_axis.is_none()) {
            return None;
        }
        let axes = |settings: &BTreeMap<String, TensorSettings>, specs: &[TensorSpec]| {
            let axis = |spec: &TensorSpec| match settings
                .get(spec.name.as_str())
                .and_then(|settings| settings.batch_axis)
            {
                Some(BatchAxis::At(axis)) => Some(axis),
                Some(BatchAxis::None) => None,
                None => spec.shape.first_is_dynamic().then_some(0),
            };
            specs.iter().map(axis).collect()
        };
        Some(RowAxes { inputs: axes(&self.inputs, inputs), outputs: axes(&self.outputs, outputs) })
    }

    /// Which inputs are filled up where they differ in length, and which outputs cut back.
    ///
    /// # Errors
    /// [`Misfit`] where the settings name an axis that cannot be padded, or a value that the
    /// input cannot have.
    pub(crate) fn padding(
        &self,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Padding, Misfit> {
        let axes = self.axes(inputs, outputs);
        let axes = axes.unwrap_or_else(|| RowAxes::first(inputs.len(), outputs.len()));
        Padding::declared((inputs, &self.inputs), (outputs, &self.outputs), &axes)
    }
}

/// How requests wait for a run and share it: the model's own settings over those of the worker.
fn queue(own: &BatchingSettings, worker: &QueueConfig) -> Result<QueueConfig, Misfit> {
    let levels = own.priority_levels.unwrap_or(worker.priority_levels);
    if let Some(default) = own.default_priority.filter(|default| *default > levels) {
        return Err(Misfit(format!(
            "`batching.default_priority` is {default}, and there are {levels} levels"
        )));
    }
    // A run of the largest allowed size must be possible, and none can be larger.
    let largest = own.allowed_sizes.last().copied();
    let size_max = own.size_max.or(largest).unwrap_or(worker.size_max);
    Ok(QueueConfig {
        mode: own.mode.unwrap_or(worker.mode),
        size_max: largest.map_or(size_max, |largest| size_max.min(largest)),
        delay_max: own.delay_max.unwrap_or(worker.delay_max),
        dispatch_when_idle: own.dispatch_when_idle.unwrap_or(worker.dispatch_when_idle),
        queue_requests_max: own
            .queue_requests_max
            .map_or(worker.queue_requests_max, NonZeroUsize::get),
        queue_bytes_max: own.queue_bytes_max.unwrap_or(worker.queue_bytes_max),
        priority_levels: levels,
        // The worker's may have more levels than the model.
        default_priority: own.default_priority.unwrap_or(worker.default_priority).min(levels),
        target_latency: own.target_latency.or(worker.target_latency),
    })
}

fn level(level: OptimizationLevel) -> GraphOptimization {
    match level {
        OptimizationLevel::None => GraphOptimization::Disable,
        OptimizationLevel::Basic => GraphOptimization::Basic,
        OptimizationLevel::Extended => GraphOptimization::Extended,
        OptimizationLevel::All => GraphOptimization::All,
    }
}

fn apply(
    what: &str,
    settings: &BTreeMap<String, TensorSettings>,
    specs: &[TensorSpec],
) -> Result<Vec<TensorSpec>, Misfit> {
    let known = |name: &str| specs.iter().any(|spec| spec.name.as_str() == name);
    if let Some(stranger) = settings.keys().find(|name| !known(name)) {
        let names: Vec<_> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Misfit(format!("the model has no {what} `{stranger}`: it has {names}")));
    }
    let describe = |spec: &TensorSpec| match settings.get(spec.name.as_str()) {
        Some(settings) => apply_to(what, settings, spec),
        None => Ok(spec.clone()),
    };
    specs.iter().map(describe).collect()
}

fn apply_to(
    what: &str,
    settings: &TensorSettings,
    spec: &TensorSpec,
) -> Result<TensorSpec, Misfit> {
    let name = &spec.name;
    if let Some(datatype) = settings.datatype.filter(|datatype| *datatype != spec.datatype) {
        let model = spec.datatype;
        return Err(Misfit(format!("{what} `{name}` is said to be {datatype}, and is {model}")));
    }
    let shape = match &settings.shape {
        None => spec.shape.clone(),
        Some(said) => narrow(&spec.shape, said).ok_or_else(|| {
            Misfit(format!("{what} `{name}` is said to have shape {said}, and has {}", spec.shape))
        })?,
    };
    if let Some(BatchAxis::At(axis)) = settings.batch_axis
        && shape.is_ranked()
        && axis >= shape.dimensions().len()
    {
        return Err(Misfit(format!("{what} `{name}` has shape {shape} and no axis {axis}")));
    }
    Ok(TensorSpec { shape, ..spec.clone() })
}

/// A model's shape with the sizes that the settings give to dimensions which it leaves open;
/// `None` where they contradict each other.
fn narrow(model: &ShapeSpec, said: &ShapeSpec) -> Option<ShapeSpec> {
    if !model.is_ranked() {
        return Some(said.clone());
    }
    let (own, said) = (model.dimensions(), said.dimensions());
    if own.len() != said.len() {
        return None;
    }
    let dimensions = own.iter().zip(said).map(|pair| match pair {
        (Dimension::Fixed(own), Dimension::Fixed(said)) if own == said => Some(pair.0.clone()),
        (Dimension::Fixed(_), _) => None,
        (Dimension::Dynamic(_), Dimension::Fixed(_) | Dimension::Dynamic(Some(_))) => {
            Some(pair.1.clone())
        }
        (Dimension::Dynamic(_), Dimension::Dynamic(None)) => Some(pair.0.clone()),
    });
    dimensions.collect::<Option<Vec<_>>>().map(ShapeSpec::new)
}

#[cfg(test)]
mod tests {
    use inferring_types::DataType;

    use super::*;

    fn serving(settings: &str) -> Serving {
        let settings = ModelSettings::from_toml(settings).unwrap();
        Serving::new(&settings, &WorkerConfig::default()).unwrap()
    }

    fn spec(name: &str, dimensions: &[i64]) -> TensorSpec {
        let dimension = |&size: &i64| match u64::try_from(size) {
            Ok(size) => Dimension::Fixed(size),
            Err(_) => Dimension::Dynamic(Some("B".to_owned())),
        };
        let shape = ShapeSpec::new(dimensions.iter().map(dimension));
        TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
    }

    #[test]
    fn a_models_own_settings_go_before_the_workers() {
        let serving = serving(
            "instances = 3\ndevice = \"cpu\"\ncache = false\noptimization = \"basic\"\n\
             [batching]\nsize_max = 5\ndelay_max = \"3ms\"",
        );
        assert_eq!(serving.instances, NonZeroUsize::new(3));
        assert_eq!(serving.load.device, Some(inferring_backend::Device::Cpu));
        assert_eq!(serving.load.optimization, GraphOptimization::Basic);
        assert_eq!((serving.queue.size_max.get(), serving.queue.delay_max.as_millis()), (5, 3));
        assert_eq!(serving.queue.queue_requests_max, 4096, "the worker's, where nothing is said");
        assert_eq!(serving.sharing(true), Sharing::InFlight);
        assert_eq!(serving.sharing(false), Sharing::Nothing);
    }

    #[test]
    fn a_model_has_its_own_priorities_sizes_and_share_of_the_cache() {
        let worker = WorkerConfig {
            instances: NonZeroUsize::new(2),
            run_limit: Some(Duration::from_secs(9)),
            ..WorkerConfig::default()
        };
        let serve = |text: &str| {
            let settings = ModelSettings::from_toml(text).unwrap();
            Serving::new(&settings, &worker)
        };
        let silent = serve("").unwrap();
        assert_eq!((silent.instances, silent.run_limit), (worker.instances, worker.run_limit));
        let bytes = worker.cache.bytes.as_u64();
        assert_eq!(silent.keeping, Some(Keeping { time_to_live: None, bytes }));
        assert_eq!(silent.sequences, None);
        let own = serve(
            "pinning = \"cores\"\nrun_limit = \"1s\"\n[cache]\ntime_to_live = \"2s\"\nbytes = 7\n\
             [batching]\nallowed_sizes = [1, 64]\npriority_levels = 1\nqueue_bytes_max = 9\n\
             target_latency = \"4ms\"\n\
             [sequences]\ncount_max = 3\nstate = [{ input = \"h\", output = \"hN\" }]",
        )
        .unwrap();
        assert_eq!((own.pinning, own.run_limit), (Pinning::Cores, Some(Duration::from_secs(1))));
        let keeping = Keeping { time_to_live: Some(Duration::from_secs(2)), bytes: 7 };
        assert_eq!(own.keeping, Some(keeping));
        assert_eq!((own.queue.size_max.get(), own.allowed_sizes), (64, vec![1, 64]));
        assert_eq!(own.queue.queue_bytes_max.as_u64(), 9);
        assert_eq!(own.queue.target_latency, Some(Duration::from_millis(4)));
        assert_eq!(own.queue.default_priority.get(), 1, "the worker's 2 is no level of it");
        let sequences = own.sequences.unwrap();
        assert_eq!((sequences.idle_timeout.as_secs(), sequences.count_max), (60, 3));
        assert_eq!(serve("cache = false").unwrap().keeping, None);
        let greedy = serve("[cache]\nbytes = \"1TiB\"").unwrap();
        assert_eq!(greedy.keeping.unwrap().bytes, bytes, "within the worker's");
        let sizes = serve("[batching]\nsize_max = 9\nallowed_sizes = [1, 4]").unwrap();
        assert_eq!(sizes.queue.size_max.get(), 4, "no run is larger than is allowed");
        let error = serve("[batching]\ndefault_priority = 4").unwrap_err().to_string();
        assert!(error.contains("`batching.default_priority` is 4, and there are 3 levels"));
    }

    #[test]
    fn the_scheduler_is_set_up_by_the_settings_in_force() {
        let serving = serving(
            "run_limit = \"2s\"\n[batching]\nsize_max = 16\npreferred_sizes = [8, 4]\n\
             allowed_sizes = [1, 4, 8]\ndelay_max = \"3ms\"\ndispatch_when_idle = false\npriority_levels = 5\n\
             target_latency = \"50ms\"\nqueue_requests_max = 7\nqueue_bytes_max = \"1KiB\"",
        );
        let joined = SchedulerConfig {
            rows_max: 8,
            rows_enough: 4,
            allowed: vec![1, 4, 8],
            delay_max: Duration::from_millis(3),
            dispatch_when_idle: false,
            classes: NonZeroUsize::new(5).unwrap(),
            target: Some(Duration::from_millis(50)),
            requests_max: 7,
            bytes_max: 1024,
            instances: 2,
            run_limit: Some(Duration::from_secs(2)),
        };
        assert_eq!(serving.scheduler(true, 2), joined);
        let alone = SchedulerConfig { rows_max: 1, rows_enough: 1, allowed: Vec::new(), ..joined };
        assert_eq!(serving.scheduler(false, 2), alone);
    }

    #[test]
    fn a_request_has_the_class_of_its_priority_or_of_the_default() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let priorities = Priorities { levels: number(3), default: number(2) };
        for (stated, class) in [(None, 1), (Some(1), 0), (Some(3), 2), (Some(4), 2)] {
            assert_eq!(priorities.class(stated.map(number)), class, "{stated:?}");
        }
    }

    #[test]
    fn what_settings_say_of_a_tensor_is_held_against_the_model() {
        let model = [spec("x", &[-1, 4])];
        let describe = |settings: &str| {
            let described = serving(settings).describe(&model, &[]);
            described.map(|(inputs, _)| inputs[0].shape.to_string()).map_err(|e| e.to_string())
        };
        for (settings, shape) in [
            ("", "[B,4]"),
            ("[inputs.x]\nshape = [-1, 4]", "[B,4]"),
            ("[inputs.x]\nshape = [8, 4]", "[8,4]"),
            ("[inputs.x]\nshape = [8, 4]\n[batching]\nallowed_sizes = [8]", "[8,4]"),
            (
                "[inputs.x]\nshape = [8, 4]\n[batching]\nmode = \"rows\"\nallowed_sizes = [8]",
                "[?,4]",
            ),
            ("[inputs.x]\nshape = [\"rows\", 4]\ndatatype = \"FP32\"", "[rows,4]"),
        ] {
            assert_eq!(describe(settings).unwrap(), shape, "{settings}");
        }
        for (settings, message) in [
            ("[inputs.y]\nshape = [1]", "the model has no input `y`: it has `x`"),
            ("[inputs.x]\ndatatype = \"INT8\"", "input `x` is said to be INT8, and is FP32"),
            (
                "[inputs.x]\nshape = [-1, -1]",
                "input `x` is said to have shape [?,?], and has [B,4]",
            ),
            ("[inputs.x]\nshape = [4]", "input `x` is said to have shape [4], and has [B,4]"),
            ("[inputs.x]\nbatch_axis = 2", "input `x` has shape [B,4] and no axis 2"),
        ] {
            let error = describe(settings).unwrap_err();
            assert_eq!(error, format!("the settings do not fit: {message}"), "{settings}");
        }
    }

    #[test]
    fn axes_are_where_settings_say_or_else_first() {
        let inputs = [spec("input", &[-1, 4]), spec("state", &[2, -1, 8]), spec("rate", &[])];
        let outputs = [spec("output", &[-1, 1])];
        assert_eq!(serving("").axes(&inputs, &outputs), None);
        let axes = serving("[inputs.state]\nbatch_axis = 1").axes(&inputs, &outputs).unwrap();
        assert_eq!(axes.inputs, [Some(0), Some(1), None]);
        assert_eq!(axes.outputs, [Some(0)]);
        let none = serving("[inputs.input]\nbatch_axis = \"none\"").axes(&inputs, &outputs);
        assert_eq!(none.unwrap().inputs, [None, None, None]);
    }
}
