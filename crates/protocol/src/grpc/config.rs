//! How a model is run, in the terms of the widely used clients.

use std::time::Duration;

use inferring_types::{DataType, ModelConfig, SequenceSpec, StateSpec, TensorSpec, VersionPolicy};

use super::inference::model_config::SchedulingChoice;
use super::inference::model_instance_group::Kind;
use super::inference::model_sequence_batching::{State, StrategyChoice, StrategyOldest};
use super::inference::model_version_policy::{All, Latest, PolicyChoice, Specific};
use super::inference::{self, ModelInstanceGroup, ModelVersionPolicy};
use super::metadata::{PLATFORM, sizes};

/// A model's configuration. A batch dimension is left out of `dims`, as clients expect where
/// `max_batch_size` is not 0; where rows lie elsewhere than along the first axis of every
/// tensor, these terms cannot say so, and `max_batch_size` is 0.
pub fn encode_config(config: &ModelConfig) -> inference::ModelConfig {
    let batch = config.leading_batch_size_max();
    let dims = |spec: &TensorSpec| sizes(&spec.shape.dimensions()[usize::from(batch.is_some())..]);
    let inputs = config.inputs.iter().map(|spec| inference::ModelInput {
        name: spec.name.to_string(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec),
    });
    let outputs = config.outputs.iter().map(|spec| inference::ModelOutput {
        name: spec.name.to_string(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec),
    });
    inference::ModelConfig {
        name: config.name.to_string(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        version_policy: Some(encode_policy(&config.version_policy)),
        max_batch_size: batch.map_or(0, saturated),
        input: inputs.collect(),
        output: outputs.collect(),
        instance_group: vec![encode_instances(config)],
        default_model_filename: config.file_name.clone(),
        scheduling_choice: match &config.sequences {
            Some(sequences) => Some(encode_sequences(config, sequences)),
            None => batch.map(|_| encode_batching(config)),
        },
        parameters: [parameter("batching", config.batching.reason())].into(),
        response_cache: Some(inference::ModelResponseCache { enable: config.response_cache }),
    }
}

fn encode_batching(config: &ModelConfig) -> SchedulingChoice {
    SchedulingChoice::DynamicBatching(inference::ModelDynamicBatching {
        preferred_batch_size: config.preferred_batch_sizes.iter().map(|&n| saturated(n)).collect(),
        max_queue_delay_microseconds: microseconds(config.delay_max),
        priority_levels: config.priority_levels.into(),
        default_priority_level: config.default_priority.into(),
    })
}

fn encode_sequences(config: &ModelConfig, sequences: &SequenceSpec) -> SchedulingChoice {
    let state = |state: &StateSpec| State {
        input_name: state.input.to_string(),
        output_name: state.output.to_string(),
    };
    let oldest = StrategyOldest {
        max_candidate_sequences: saturated(sequences.count_max),
        preferred_batch_size: config.preferred_batch_sizes.iter().map(|&n| saturated(n)).collect(),
        max_queue_delay_microseconds: microseconds(config.delay_max),
    };
    SchedulingChoice::SequenceBatching(inference::ModelSequenceBatching {
        max_sequence_idle_microseconds: microseconds(sequences.idle_timeout),
        state: sequences.states.iter().map(state).collect(),
        strategy_choice: Some(StrategyChoice::Oldest(oldest)),
    })
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn encode_instances(config: &ModelConfig) -> ModelInstanceGroup {
    let on_gpu = !config.device.is_cpu();
    ModelInstanceGroup {
        name: format!("{}_0", config.name),
        count: saturated(config.instances as u64),
        gpus: Vec::new(),
        kind: if on_gpu { Kind::Gpu } else { Kind::Cpu }.into(),
    }
}

fn encode_policy(policy: &VersionPolicy) -> ModelVersionPolicy {
    let choice = match policy {
        VersionPolicy::Latest(count) => PolicyChoice::Latest(Latest {
            num_versions: u32::try_from(count.get()).unwrap_or(u32::MAX),
        }),
        VersionPolicy::All => PolicyChoice::All(All {}),
        // The field takes numbers; a version that is none cannot be told.
        VersionPolicy::Specific(versions) => PolicyChoice::Specific(Specific {
            versions: versions
                .iter()
                .filter_map(|version| i64::try_from(version.number()?).ok())
                .collect(),
        }),
    };
    ModelVersionPolicy { policy_choice: Some(choice) }
}

fn parameter(name: &str, value: &str) -> (String, inference::ModelParameter) {
    (name.to_owned(), inference::ModelParameter { string_value: value.to_owned() })
}

fn saturated(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn data_type(datatype: DataType) -> inference::DataType {
    use inference::DataType as T;
    match datatype {
        DataType::Bool => T::TypeBool,
        DataType::Uint8 => T::TypeUint8,
        DataType::Uint16 => T::TypeUint16,
        DataType::Uint32 => T::TypeUint32,
        DataType::Uint64 => T::TypeUint64,
        DataType::Int8 => T::TypeInt8,
        DataType::Int16 => T::TypeInt16,
        DataType::Int32 => T::TypeInt32,
        DataType::Int64 => T::TypeInt64,
        DataType::Fp16 => T::TypeFp16,
        DataType::Bf16 => T::TypeBf16,
        DataType::Fp32 => T::TypeFp32,
        DataType::Fp64 => T::TypeFp64,
        DataType::Bytes => T::TypeString,
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::{Batching, DeviceStatus, Dimension, RowAxes, ShapeSpec};

    use super::*;

    fn config(batching: Batching, batch_size_max: u64) -> ModelConfig {
        let spec = TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(4)]),
        };
        ModelConfig {
            name: "m".parse().unwrap(),
            version_policy: VersionPolicy::Specific(vec![
                "3".parse().unwrap(),
                "beta".parse().unwrap(),
            ]),
            batch_size_max,
            inputs: vec![spec.clone()],
            outputs: vec![spec],
            instances: 2,
            device: DeviceStatus {
                provider: "CUDAExecutionProvider".into(),
                fallback_reason: None,
            },
            delay_max: Duration::from_millis(20),
            preferred_batch_sizes: vec![8],
            allowed_batch_sizes: Vec::new(),
            priority_levels: 3,
            default_priority: 2,
            sequences: None,
            response_cache: true,
            file_name: "model.onnx".into(),
            batching,
        }
    }

    fn rows(outputs: Option<usize>) -> Batching {
        let axes = RowAxes { inputs: vec![Some(0)], outputs: vec![outputs] };
        Batching::Rows { reason: "declared".into(), axes }
    }

    #[test]
    fn a_model_that_joins_rows_has_its_batch_dimension_left_out() {
        let message = encode_config(&config(rows(Some(0)), 32));
        assert_eq!((message.max_batch_size, &*message.input[0].dims), (32, &[4][..]));
        let Some(SchedulingChoice::DynamicBatching(batching)) = message.scheduling_choice else {
            panic!("it batches")
        };
        assert_eq!(batching.max_queue_delay_microseconds, 20_000);
        assert_eq!(batching.preferred_batch_size, [8]);
        assert_eq!((batching.priority_levels, batching.default_priority_level), (3, 2));
        assert_eq!(message.instance_group[0].kind(), Kind::Gpu);
        let policy = message.version_policy.unwrap().policy_choice.unwrap();
        assert_eq!(policy, PolicyChoice::Specific(Specific { versions: vec![3] }));
    }

    #[test]
    fn a_model_with_state_has_its_sequences_in_the_place_of_batching() {
        let state = StateSpec { input: "state".into(), output: "stateN".into() };
        let sequences = SequenceSpec {
            idle_timeout: Duration::from_secs(60),
            count_max: 1024,
            states: vec![state],
        };
        let config = ModelConfig { sequences: Some(sequences), ..config(rows(Some(0)), 32) };
        let message = encode_config(&config);
        let Some(SchedulingChoice::SequenceBatching(batching)) = message.scheduling_choice else {
            panic!("it keeps state")
        };
        assert_eq!(batching.max_sequence_idle_microseconds, 60_000_000);
        let State { input_name, output_name } = &batching.state[0];
        assert_eq!((&**input_name, &**output_name), ("state", "stateN"));
        let Some(StrategyChoice::Oldest(oldest)) = batching.strategy_choice else {
            panic!("runs are shared")
        };
        assert_eq!((oldest.max_candidate_sequences, message.max_batch_size), (1024, 32));
    }

    #[test]
    fn rows_along_another_axis_cannot_be_told_as_a_batch_dimension() {
        for (batching, size_max) in [
            (rows(Some(1)), 32),
            (rows(None), 32),
            (Batching::Alone { reason: "declared".into() }, 0),
        ] {
            let message = encode_config(&config(batching, size_max));
            assert_eq!((message.max_batch_size, &*message.output[0].dims), (0, &[-1, 4][..]));
            assert_eq!(message.scheduling_choice, None);
        }
    }
}
