//! What a model takes and gives.

use inferring_types::{Dimension, ModelMetadata, TensorSpec};

use super::inference::ModelMetadataResponse;
use super::inference::model_metadata_response::TensorMetadata;

/// What the widely used clients call a model in ONNX format, run by ONNX Runtime.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";

/// A model's metadata; `versions` are those that are served beside this one, it included.
pub fn encode_metadata(
    model: &ModelMetadata,
    versions: impl IntoIterator<Item = String>,
) -> ModelMetadataResponse {
    ModelMetadataResponse {
        name: model.name.to_string(),
        versions: versions.into_iter().collect(),
        platform: PLATFORM.to_owned(),
        inputs: model.inputs.iter().map(encode_tensor).collect(),
        outputs: model.outputs.iter().map(encode_tensor).collect(),
    }
}

/// A declared shape's sizes, -1 for a dynamic dimension.
pub(super) fn sizes(dimensions: &[Dimension]) -> Vec<i64> {
    let size = |d: &Dimension| d.fixed().map_or(-1, |size| i64::try_from(size).unwrap_or(-1));
    dimensions.iter().map(size).collect()
}

fn encode_tensor(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.datatype.name().to_owned(),
        shape: sizes(spec.shape.dimensions()),
    }
}
