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
    Batching, DataType, DeviceStatus, ModelConfig, ModelVersion, ServiceError, TensorSpec,
    VersionPolicy,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dynamic_batching: Option<DynamicBatching>,
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
    delay_max_us: u64,
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback_reason: Option<String>,
}

impl From<&ModelConfig> for ConfigDocument {
    fn from(config: &ModelConfig) -> Self {
        let batch = config.leading_batch_size_max();
        let delay_max_us = u64::try_from(config.delay_max.as_micros()).unwrap_or(u64::MAX);
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
            dynamic_batching: batch.map(|_| DynamicBatching {
                preferred_batch_size: config.preferred_batch_sizes.clone(),
                max_queue_delay_microseconds: delay_max_us,
            }),
            response_cache: ResponseCache { enable: config.response_cache },
            inferring: Whole {
                inputs: config.inputs.iter().map(TensorDocument::from).collect(),
                outputs: config.outputs.iter().map(TensorDocument::from).collect(),
                batching: BatchingDocument::new(&config.batching, config.batch_size_max),
                preferred_batch_sizes: config.preferred_batch_sizes.clone(),
                delay_max_us,
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
            response_cache: document.response_cache.enable,
            file_name: document.default_model_filename,
            batching,
        })
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
            response_cache: true,
            file_name: "model.onnx".into(),
            batching: Batching::Rows { reason: "declared".into(), axes: RowAxes::first(1, 1) },
        }
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
        for config in [config(), second_axis, alone] {
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
            json!({"preferred_batch_size": [8, 16], "max_queue_delay_microseconds": 500}),
        );
        let mut alone = config();
        alone.batching = Batching::Alone { reason: String::new() };
        let document = written(&alone);
        assert_eq!(document["max_batch_size"], 0);
        assert_eq!(document["input"][0]["dims"], json!([-1, 4]));
        assert_eq!(document.get("dynamic_batching"), None);
    }
}
