//! How one model is served: its own settings over those of the worker.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use inferring_backend::{GraphOptimization, LoadOptions};
use inferring_repository::{
    BatchAxis, ModelSettings, OptimizationLevel, TensorSettings, WarmupSample,
};
use inferring_types::{Dimension, RowAxes, ShapeSpec, TensorSpec};

use crate::cache::Sharing;
use crate::config::{QueueConfig, WorkerConfig};

/// Everything about a model's settings that matters once its files are known. Where it is equal,
/// what was loaded by it need not be loaded anew.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Serving {
    pub(crate) load: LoadOptions,
    pub(crate) instances: NonZeroUsize,
    pub(crate) queue: QueueConfig,
    pub(crate) preferred_batch_sizes: Vec<u64>,
    keeps_answers: bool,
    inputs: BTreeMap<String, TensorSettings>,
    outputs: BTreeMap<String, TensorSettings>,
    /// Not read here, but another warm-up is another load.
    warmup: Vec<WarmupSample>,
}

/// Settings that cannot be, or do not fit the model.
#[derive(Debug, thiserror::Error)]
#[error("the settings do not fit: {0}")]
pub struct Misfit(String);

impl Serving {
    /// What holds for a model of these settings in a worker of that configuration.
    ///
    /// # Errors
    /// [`Misfit`] where a device is named that this worker does not know.
    pub(crate) fn new(own: &ModelSettings, worker: &WorkerConfig) -> Result<Self, Misfit> {
        let device = own.device.as_ref().map(|device| device.as_str().parse()).transpose();
        let batching = &own.batching;
        let queue = QueueConfig {
            mode: batching.mode.unwrap_or(worker.batching.mode),
            size_max: batching.size_max.unwrap_or(worker.batching.size_max),
            delay_max: batching.delay_max.unwrap_or(worker.batching.delay_max),
            dispatch_when_idle: batching
                .dispatch_when_idle
                .unwrap_or(worker.batching.dispatch_when_idle),
            queue_requests_max: batching
                .queue_requests_max
                .map_or(worker.batching.queue_requests_max, NonZeroUsize::get),
            queue_bytes_max: worker.batching.queue_bytes_max,
        };
        Ok(Self {
            load: LoadOptions {
                device: device.map_err(|error| Misfit(format!("{error}")))?,
                intra_op_threads: own.intra_op_threads,
                optimization: own.optimization.map_or_else(GraphOptimization::default, level),
                ..LoadOptions::default()
            },
            instances: own.instances.unwrap_or(worker.instances),
            queue,
            preferred_batch_sizes: batching
                .preferred_sizes
                .iter()
                .map(|size| size.get() as u64)
                .collect(),
            keeps_answers: own.cache.unwrap_or(true) && worker.cache.entries > 0,
            inputs: own.inputs.clone(),
            outputs: own.outputs.clone(),
            warmup: own.warmup.clone(),
        })
    }

    /// Which requests may be given one answer.
    pub(crate) fn sharing(&self, deterministic: bool) -> Sharing {
        match (deterministic, self.keeps_answers) {
            (false, _) => Sharing::Nothing,
            (true, true) => Sharing::Kept,
            (true, false) => Sharing::InFlight,
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
        Ok((apply("input", &self.inputs, inputs)?, apply("output", &self.outputs, outputs)?))
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
        assert_eq!(serving.instances.get(), 3);
        assert_eq!(serving.load.device, Some(inferring_backend::Device::Cpu));
        assert_eq!(serving.load.optimization, GraphOptimization::Basic);
        assert_eq!((serving.queue.size_max.get(), serving.queue.delay_max.as_millis()), (5, 3));
        assert_eq!(serving.queue.queue_requests_max, 4096, "the worker's, where nothing is said");
        assert_eq!(serving.sharing(true), Sharing::InFlight);
        assert_eq!(serving.sharing(false), Sharing::Nothing);
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
