//! A model's settings as a JSON document: what `GET /v2/models/{m}/config` answers, and what a
//! gateway reads from its workers.
//!
//! The form is the model configuration extension's, which clients use to learn how large a batch
//! may be and what one item of it looks like. It cannot say everything: rows that lie along
//! another axis than the first, dimensions with names, why requests are not joined. All of that
//! stands whole in the member `inferring`, and is read back from there.

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_types::{
    Batching, DataType, DeviceStatus, ModelConfig, ModelVersion, SequenceSpec, ServiceError,
    StateSpec, TensorSpec, VersionPolicy,
};
use serde::{Deserialize, Serialize};

use super::metadata::{BatchingDocument, TensorDocument};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDocument {
    name: String,
    platform: String,
    backend: String,
    version_policy: PolicyDocument,
    /// 0 where requests are not joined, or not along the first axis of all tensors.
    max_batch_size: u64,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
    instance_group: [InstanceGroup; 1],
    default_model_filename: String,
    /// Absent beside `sequence_batching`, as the extension has one of them only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dynamic_batching: Option<DynamicBatching>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence_batching: Option<SequenceBatching>,
    response_cache: ResponseCache,
    inferring: Whole,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyDocument {
    Latest { num_versions: NonZeroUsize },
    All {},
    Specific { versions: Vec<PolicyVersion> },
}

/// A number where it is one, as the extension has it; else text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum PolicyVersion {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TensorConfig {
    name: String,
    data_type: String,
    /// Of one item, without the axis of the rows where `max_batch_size` is not 0.
    dims: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InstanceGroup {
    name: String,
    kind: String,
    count: usize,
    gpus: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DynamicBatching {
    preferred_batch_size: Vec<u64>,
    max_queue_delay_microseconds: u64,
    #[serde(default)]
    priority_levels: u32,
    #[serde(default)]
    default_priority_level: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SequenceBatching {
    max_sequence_idle_microseconds: u64,
    state: Vec<StateDocument>,
    /// Requests of different sequences may share a run, whichever came first.
    oldest: Oldest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StateDocument {
    input_name: String,
    output_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Oldest {
    max_candidate_sequences: u64,
    preferred_batch_size: Vec<u64>,
    max_queue_delay_microseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ResponseCache {
    enable: bool,
}

/// What the extension has no place for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    inputs: Vec<TensorDocument>,
    outputs: Vec<TensorDocument>,
    batching: BatchingDocument,
    preferred_batch_sizes: Vec<u64>,
    #[serde(default)]
    allowed_batch_sizes: Vec<u64>,
    delay_max_us: u64,
    #[serde(default)]
    priority_levels: u32,
    #[serde(default)]
    default_priority: u32,
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback_reason: Option<String>,
}

impl From<&ModelConfig> for ConfigDocument {
    fn from(config: &ModelConfig) -> Self {
        let batch = config.leading_batch_size_max();
        let delay_max_us = micros(config.delay_max);
        let tensors = |specs: &[TensorSpec]| {
            specs.iter().map(|spec| TensorConfig::new(spec, batch.is_some())).collect()
        };
        let is_gpu = !config.device.is_cpu();
        Self {
            name: config.name.to_string(),
            platform: "onnxruntime_onnx".to_owned(),
            backend: "onnxruntime".to_owned(),
            version_policy: (&config.version_policy).into(),
            max_batch_size: batch.unwrap_or(0),
            input: tensors(&config.inputs),
            output: tensors(&config.outputs),
            instance_group: [InstanceGroup {
                name: format!("{}_0", config.name),
                kind: if is_gpu { "KIND_GPU" } else { "KIND_CPU" }.to_owned(),
                count: config.instances,
                gpus: Vec::new(),
            }],
            default_model_filename: config.file_name.clone(),
            dynamic_batching: batch.filter(|_| config.sequences.is_none()).map(|_| {
                DynamicBatching {
                    preferred_batch_size: config.preferred_batch_sizes.clone(),
                    max_queue_delay_microseconds: delay_max_us,
                    priority_levels: config.priority_levels,
                    default_priority_level: config.default_priority,
                }
            }),
            sequence_batching: config.sequences.as_ref().map(|sequences| SequenceBatching {
                max_sequence_idle_microseconds: micros(sequences.idle_timeout),
                state: sequences.states.iter().map(StateDocument::from).collect(),
                oldest: Oldest {
                    max_candidate_sequences: sequences.count_max,
                    preferred_batch_size: config.preferred_batch_sizes.clone(),
                    max_queue_delay_microseconds: delay_max_us,
                },
            }),
            response_cache: ResponseCache { enable: config.response_cache },
            inferring: Whole {
                inputs: config.inputs.iter().map(TensorDocument::from).collect(),
                outputs: config.outputs.iter().map(TensorDocument::from).collect(),
                batching: BatchingDocument::new(&config.batching, config.batch_size_max),
                preferred_batch_sizes: config.preferred_batch_sizes.clone(),
                allowed_batch_sizes: config.allowed_batch_sizes.clone(),
                delay_max_us,
                priority_levels: config.priority_levels,
                default_priority: config.default_priority,
                provider: config.device.provider.clone(),
                fallback_reason: config.device.fallback_reason.clone(),
            },
        }
    }
}

impl TryFrom<ConfigDocument> for ModelConfig {
    type Error = ServiceError;

    fn try_from(document: ConfigDocument) -> Result<Self, ServiceError> {
        let malformed = |what: &str| {
            ServiceError::failed(format!("a worker sent a configuration with a malformed {what}"))
        };
        let tensors = |documents: Vec<TensorDocument>| {
            documents.into_iter().map(TensorSpec::try_from).collect::<Result<Vec<_>, _>>()
        };
        let whole = document.inferring;
        let [instances] = document.instance_group;
        let (batching, batch_size_max): (Batching, u64) = whole.batching.into();
        Ok(Self {
            name: document.name.parse().map_err(|_| malformed("name"))?,
            version_policy: document.version_policy.try_into().map_err(malformed)?,
            batch_size_max,
            inputs: tensors(whole.inputs).map_err(malformed)?,
            outputs: tensors(whole.outputs).map_err(malformed)?,
            instances: instances.count,
            device: DeviceStatus {
                provider: whole.provider,
                fallback_reason: whole.fallback_reason,
            },
            delay_max: Duration::from_micros(whole.delay_max_us),
            preferred_batch_sizes: whole.preferred_batch_sizes,
            allowed_batch_sizes: whole.allowed_batch_sizes,
            priority_levels: whole.priority_levels,
            default_priority: whole.default_priority,
            sequences: document.sequence_batching.map(SequenceSpec::from),
            response_cache: document.response_cache.enable,
            file_name: document.default_model_filename,
            batching,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl From<SequenceBatching> for SequenceSpec {
    fn from(document: SequenceBatching) -> Self {
        let state = |state: StateDocument| StateSpec {
            input: state.input_name.as_str().into(),
            output: state.output_name.as_str().into(),
        };
        Self {
            idle_timeout: Duration::from_micros(document.max_sequence_idle_microseconds),
            count_max: document.oldest.max_candidate_sequences,
            states: document.state.into_iter().map(state).collect(),
        }
    }
}

impl From<&StateSpec> for StateDocument {
    fn from(state: &StateSpec) -> Self {
        let StateSpec { input, output } = state;
        Self { input_name: input.to_string(), output_name: output.to_string() }
    }
}

impl TensorConfig {
    fn new(spec: &TensorSpec, rows_first: bool) -> Self {
        let shape = TensorDocument::from(spec).shape;
        Self {
            name: spec.name.to_string(),
            data_type: data_type(spec.datatype),
            dims: shape.into_iter().skip(usize::from(rows_first)).collect(),
        }
    }
}

/// The extension's name for a datatype.
fn data_type(datatype: DataType) -> String {
    match datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}

impl From<&VersionPolicy> for PolicyDocument {
    fn from(policy: &VersionPolicy) -> Self {
        match policy {
            VersionPolicy::Latest(count) => Self::Latest { num_versions: *count },
            VersionPolicy::All => Self::All {},
            VersionPolicy::Specific(versions) => Self::Specific {
                versions: versions
                    .iter()
                    .map(|version| match version.number() {
                        // Not where it would read back otherwise: `007`.
                        Some(number) if number.to_string() == version.as_str() => {
                            PolicyVersion::Number(number)
                        }
                        _ => PolicyVersion::Text(version.to_string()),
                    })
                    .collect(),
            },
        }
    }
}

impl TryFrom<PolicyDocument> for VersionPolicy {
    type Error = &'static str;

    fn try_from(document: PolicyDocument) -> Result<Self, Self::Error> {
        Ok(match document {
            PolicyDocument::Latest { num_versions } => Self::Latest(num_versions),
            PolicyDocument::All {} => Self::All,
            PolicyDocument::Specific { versions } => Self::Specific(
                versions
                    .into_iter()
                    .map(|version| match version {
                        PolicyVersion::Number(number) => number.to_string(),
                        PolicyVersion::Text(text) => text,
                    })
                    .map(|text| text.parse::<ModelVersion>().map_err(|_| "version policy"))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::RowAxes;
    use serde_json::{Value, json};

    use super::*;
    use crate::rest::metadata::tests::iris;

    fn config() -> ModelConfig {
        let iris = iris();
        ModelConfig {
            name: iris.name,
            version_policy: VersionPolicy::default(),
            batch_size_max: 32,
            inputs: iris.inputs,
            outputs: iris.outputs,
            instances: 2,
            device: DeviceStatus { provider: "CPUExecutionProvider".into(), fallback_reason: None },
            delay_max: Duration::from_micros(500),
            preferred_batch_sizes: vec![8, 16],
            allowed_batch_sizes: vec![1, 8, 16, 32],
            priority_levels: 5,
            default_priority: 4,
            sequences: None,
            response_cache: true,
            file_name: "model.onnx".into(),
            batching: Batching::Rows { reason: "declared".into(), axes: RowAxes::first(1, 1) },
        }
    }

    fn with_state() -> ModelConfig {
        let state = StateSpec { input: "h".into(), output: "hN".into() };
        let sequences = SequenceSpec {
            idle_timeout: Duration::from_secs(60),
            count_max: 7,
            states: vec![state],
        };
        ModelConfig { sequences: Some(sequences), ..config() }
    }

    fn written(config: &ModelConfig) -> Value {
        serde_json::to_value(ConfigDocument::from(config)).unwrap()
    }

    #[test]
    fn a_configuration_reads_back() {
        let version = |text: &str| text.parse::<ModelVersion>().unwrap();
        let mut second_axis = config();
        let axes = RowAxes { inputs: vec![Some(1)], outputs: vec![None] };
        second_axis.batching = Batching::Rows { reason: "declared".into(), axes };
        second_axis.version_policy = VersionPolicy::All;
        let mut alone = config();
        alone.batching = Batching::Alone { reason: "it is recurrent".into() };
        alone.batch_size_max = 0;
        alone.device.fallback_reason = Some("no GPU".into());
        alone.version_policy =
            VersionPolicy::Specific(vec![version("3"), version("007"), version("beta")]);
        for config in [config(), second_axis, alone, with_state()] {
            let document: ConfigDocument = serde_json::from_value(written(&config)).unwrap();
            assert_eq!(ModelConfig::try_from(document).unwrap(), config);
        }
    }

    #[test]
    fn clients_see_items_beside_the_batch_size() {
        let document = written(&config());
        assert_eq!(document["max_batch_size"], 32);
        assert_eq!(
            document["input"],
            json!([{"name": "input", "data_type": "TYPE_FP32", "dims": [4]}]),
        );
        assert_eq!(document["version_policy"], json!({"latest": {"num_versions": 1}}));
        assert_eq!(
            document["dynamic_batching"],
            json!({"preferred_batch_size": [8, 16], "max_queue_delay_microseconds": 500,
                   "priority_levels": 5, "default_priority_level": 4}),
        );
        assert_eq!(document.get("sequence_batching"), None);
        let mut alone = config();
        alone.batching = Batching::Alone { reason: String::new() };
        let document = written(&alone);
        assert_eq!(document["max_batch_size"], 0);
        assert_eq!(document["input"][0]["dims"], json!([-1, 4]));
        assert_eq!(document.get("dynamic_batching"), None);
    }

    #[test]
    fn a_model_with_state_batches_sequences() {
        let document = written(&with_state());
        assert_eq!(
            document["sequence_batching"],
            json!({"max_sequence_idle_microseconds": 60_000_000,
                   "state": [{"input_name": "h", "output_name": "hN"}],
                   "oldest": {"max_candidate_sequences": 7, "preferred_batch_size": [8, 16],
                              "max_queue_delay_microseconds": 500}}),
        );
        assert_eq!(document.get("dynamic_batching"), None);
    }
}
