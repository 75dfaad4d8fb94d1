//! Holds values of settings against each other, and against what a machine has.

use std::num::NonZeroUsize;

use super::{BatchAxis, BatchingSettings, ModelSettings, RANK_MAX, SequenceSettings};
use crate::error::ConfigError;

/// The most instances of a model, and the most threads of each: beyond that somebody has mistyped.
pub const INSTANCES_MAX: usize = 1024;

/// The most runs before a model is served.
const WARMUP_RUNS_MAX: u64 = 100_000;

/// The most levels of priority: each has a queue of its own.
pub const PRIORITY_LEVELS_MAX: u32 = 100;

/// The most sizes that a run may be filled up to.
const SIZES_MAX: usize = 1000;

impl ModelSettings {
    /// Whether what is said can be so, as far as that shows without the model.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let threads = [("instances", self.instances), ("intra_op_threads", self.intra_op_threads)];
        for (key, threads) in threads {
            if threads.is_some_and(|threads| threads.get() > INSTANCES_MAX) {
                return wrong(key, format!("more than {INSTANCES_MAX}"));
            }
        }
        if self.run_limit.is_some_and(|limit| limit.is_zero()) {
            return wrong("run_limit", "no run takes no time".to_owned());
        }
        check_batching(&self.batching)?;
        self.check_tensors()?;
        if let Some(sequences) = &self.sequences {
            check_sequences(sequences)?;
        }
        let runs = self.warmup.iter().map(|sample| sample.count.map_or(1, |c| u64::from(c.get())));
        if runs.sum::<u64>() > WARMUP_RUNS_MAX {
            return wrong("warmup", format!("more than {WARMUP_RUNS_MAX} runs"));
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), ConfigError> {
        for (name, input) in &self.inputs {
            if input.padded_axis.is_some() {
                let problem = "an input is filled up by `padding`; `padded_axis` is for outputs";
                return wrong(&format!("inputs.{name}.padded_axis"), problem.to_owned());
            }
            if let Some(padding) = &input.padding {
                check_axis(&format!("inputs.{name}.padding.axis"), padding.axis, input.batch_axis)?;
            }
        }
        for (name, output) in &self.outputs {
            if output.padding.is_some() {
                let problem = "an output is cut back by `padded_axis`; `padding` is for inputs";
                return wrong(&format!("outputs.{name}.padding"), problem.to_owned());
            }
            let Some(axis) = output.padded_axis else { continue };
            let key = format!("outputs.{name}.padded_axis");
            check_axis(&key, axis, output.batch_axis)?;
            if self.inputs.values().all(|input| input.padding.is_none()) {
                let problem = "no input has `padding`: there is nothing to cut back";
                return wrong(&key, problem.to_owned());
            }
        }
        Ok(())
    }
}

/// An axis along which lengths differ.
fn check_axis(key: &str, axis: usize, batch_axis: Option<BatchAxis>) -> Result<(), ConfigError> {
    if axis >= RANK_MAX {
        return wrong(key, format!("{axis} is no axis: a tensor has {RANK_MAX} at most"));
    }
    // Where nothing is said of a tensor its rows lie along the first axis, if they do at all.
    match batch_axis.unwrap_or(BatchAxis::At(0)) {
        BatchAxis::At(rows) if rows == axis => {
            wrong(key, format!("rows lie along axis {axis}: lengths differ along another one"))
        }
        _ => Ok(()),
    }
}

fn check_batching(batching: &BatchingSettings) -> Result<(), ConfigError> {
    let sizes = [
        ("batching.preferred_sizes", &batching.preferred_sizes),
        ("batching.allowed_sizes", &batching.allowed_sizes),
    ];
    for (key, sizes) in sizes {
        if sizes.len() > SIZES_MAX {
            return wrong(key, format!("more than {SIZES_MAX} sizes"));
        }
        if let Some(size_max) = batching.size_max
            && let Some(size) = sizes.iter().find(|size| **size > size_max)
        {
            let problem = format!("{size} is more than `batching.size_max`, which is {size_max}");
            return wrong(key, problem);
        }
    }
    let allowed = &batching.allowed_sizes;
    let disorder = allowed.windows(2).find(|pair| pair[0] >= pair[1]);
    if let Some(&[first, second]) = disorder {
        let problem = format!("{second} stands behind {first}: sizes go up, each once");
        return wrong("batching.allowed_sizes", problem);
    }
    let stranger = |size: &&NonZeroUsize| !allowed.is_empty() && !allowed.contains(size);
    if let Some(size) = batching.preferred_sizes.iter().find(stranger) {
        let problem = format!("{size} is not among `batching.allowed_sizes`");
        return wrong("batching.preferred_sizes", problem);
    }
    if batching.priority_levels.is_some_and(|levels| levels.get() > PRIORITY_LEVELS_MAX) {
        let problem = format!("more than {PRIORITY_LEVELS_MAX}");
        return wrong("batching.priority_levels", problem);
    }
    if let (Some(levels), Some(default)) = (batching.priority_levels, batching.default_priority)
        && default > levels
    {
        let problem = format!("{default} is more than `batching.priority_levels`: {levels}");
        return wrong("batching.default_priority", problem);
    }
    if batching.target_latency.is_some_and(|target| target.is_zero()) {
        return wrong("batching.target_latency", "no answer takes no time".to_owned());
    }
    Ok(())
}

fn check_sequences(sequences: &SequenceSettings) -> Result<(), ConfigError> {
    if sequences.idle_timeout.is_some_and(|timeout| timeout.is_zero()) {
        let problem = "a sequence would be forgotten at once".to_owned();
        return wrong("sequences.idle_timeout", problem);
    }
    if sequences.state.is_empty() {
        let problem = "nothing is kept between requests: name the output that a request gives and \
                       the input of the next one that takes it";
        return wrong("sequences.state", problem.to_owned());
    }
    for (index, state) in sequences.state.iter().enumerate() {
        let before = &sequences.state[..index];
        for (key, name, taken) in [
            ("input", &state.input, before.iter().any(|other| other.input == state.input)),
            ("output", &state.output, before.iter().any(|other| other.output == state.output)),
        ] {
            let key = format!("sequences.state.{index}.{key}");
            if name.is_empty() {
                return wrong(&key, "no name".to_owned());
            }
            if taken {
                return wrong(&key, format!("`{name}` is named a second time"));
            }
        }
    }
    Ok(())
}

fn wrong<T>(key: &str, problem: String) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key: key.to_owned(), at: None, problem })
}
