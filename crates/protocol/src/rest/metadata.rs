//! A model's metadata as a JSON document: what `GET /v2/models/{m}` answers, and what a gateway
//! reads from its workers.

use inferring_types::{
    Batching, ContentDigest, Dimension, ModelMetadata, ModelVersion, RowAxes, ServiceError,
    ShapeSpec, TensorSpec,
};
use serde::{Deserialize, Serialize};

/// The document. `name`, `versions`, `platform`, `inputs` and `outputs` are the protocol's;
/// the rest is what a gateway needs besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDocument {
    name: String,
    versions: Vec<String>,
    /// The version that the rest describes.
    version: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    platform: String,
    inputs: Vec<TensorDocument>,
    outputs: Vec<TensorDocument>,
    digest: String,
    size_bytes: u64,
    batching: BatchingDocument,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TensorDocument {
    name: String,
    datatype: String,
    /// -1 for a dynamic dimension.
    pub(super) shape: Vec<i64>,
    /// Whether the model does not even fix how many dimensions there are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    any_rank: bool,
    /// The model's own symbols, in the places of the dynamic dimensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    symbols: Vec<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchingDocument {
    joins_rows: bool,
    reason: String,
    size_max: u64,
    /// The axis of the rows of each input, where rows are joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    input_axes: Vec<Option<usize>>,
    /// The same of each output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    output_axes: Vec<Option<usize>>,
}

impl From<&ModelMetadata> for ModelDocument {
    fn from(model: &ModelMetadata) -> Self {
        Self {
            name: model.name.to_string(),
            versions: vec![model.version.to_string()],
            version: model.version.to_string(),
            aliases: model.aliases.iter().map(ModelVersion::to_string).collect(),
            platform: "onnxruntime_onnx".to_owned(),
            inputs: model.inputs.iter().map(TensorDocument::from).collect(),
            outputs: model.outputs.iter().map(TensorDocument::from).collect(),
            digest: model.digest.to_string(),
            size_bytes: model.size_bytes,
            batching: BatchingDocument::new(&model.batching, model.batch_size_max),
        }
    }
}

impl ModelDocument {
    /// The same, with all versions that are served of the model.
    #[must_use]
    pub fn with_versions(self, versions: impl IntoIterator<Item = String>) -> Self {
        Self { versions: versions.into_iter().collect(), ..self }
    }
}

impl BatchingDocument {
    pub(super) fn new(batching: &Batching, size_max: u64) -> Self {
        let axes = batching.axes();
        Self {
            joins_rows: batching.joins_rows(),
            reason: batching.reason().to_owned(),
            size_max,
            input_axes: axes.map(|axes| axes.inputs.clone()).unwrap_or_default(),
            output_axes: axes.map(|axes| axes.outputs.clone()).unwrap_or_default(),
        }
    }
}

impl From<BatchingDocument> for (Batching, u64) {
    fn from(document: BatchingDocument) -> Self {
        let BatchingDocument { joins_rows, reason, size_max, input_axes, output_axes } = document;
        if joins_rows {
            let axes = RowAxes { inputs: input_axes, outputs: output_axes };
            (Batching::Rows { reason, axes }, size_max)
        } else {
            (Batching::Alone { reason }, size_max)
        }
    }
}

impl TryFrom<ModelDocument> for ModelMetadata {
    type Error = ServiceError;

    fn try_from(document: ModelDocument) -> Result<Self, ServiceError> {
        let malformed = |what: &str| {
            ServiceError::failed(format!("a worker sent model metadata with a malformed {what}"))
        };
        let tensors = |documents: Vec<TensorDocument>| {
            documents.into_iter().map(TensorSpec::try_from).collect::<Result<Vec<_>, _>>()
        };
        let version = |text: String| text.parse().map_err(|_| malformed("version"));
        let (batching, batch_size_max) = document.batching.into();
        Ok(Self {
            name: document.name.parse().map_err(|_| malformed("name"))?,
            version: version(document.version)?,
            aliases: document.aliases.into_iter().map(version).collect::<Result<_, _>>()?,
            digest: ContentDigest::from_hex(&document.digest).ok_or_else(|| malformed("digest"))?,
            size_bytes: document.size_bytes,
            inputs: tensors(document.inputs).map_err(malformed)?,
            outputs: tensors(document.outputs).map_err(malformed)?,
            batching,
            batch_size_max,
        })
    }
}

impl From<&TensorSpec> for TensorDocument {
    fn from(spec: &TensorSpec) -> Self {
        let dimensions = spec.shape.dimensions();
        let size = |d: &Dimension| d.fixed().map_or(-1, |size| i64::try_from(size).unwrap_or(-1));
        let symbol = |d: &Dimension| match d {
            Dimension::Dynamic(symbol) => symbol.clone(),
            Dimension::Fixed(_) => None,
        };
        let symbols: Vec<_> = dimensions.iter().map(symbol).collect();
        Self {
            name: spec.name.to_string(),
            datatype: spec.datatype.to_string(),
            shape: dimensions.iter().map(size).collect(),
            any_rank: !spec.shape.is_ranked(),
            symbols: if symbols.iter().any(Option::is_some) { symbols } else { Vec::new() },
        }
    }
}

impl TryFrom<TensorDocument> for TensorSpec {
    type Error = &'static str;

    fn try_from(document: TensorDocument) -> Result<Self, Self::Error> {
        let mut symbols = document.symbols.into_iter();
        let dimensions = document.shape.into_iter().map(|size| {
            let symbol = symbols.next().flatten();
            u64::try_from(size).map_or(Dimension::Dynamic(symbol), Dimension::Fixed)
        });
        Ok(Self {
            name: document.name.as_str().into(),
            shape: if document.any_rank {
                ShapeSpec::any_rank()
            } else {
                ShapeSpec::new(dimensions)
            },
            datatype: document.datatype.parse().map_err(|_| "datatype")?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use inferring_types::DataType;

    use super::*;

    pub(crate) fn iris() -> ModelMetadata {
        let spec = |name: &str, width| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new([Dimension::Dynamic(Some("N".into())), Dimension::Fixed(width)]),
        };
        ModelMetadata {
            name: "iris".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: vec!["stable".parse().unwrap()],
            digest: ContentDigest::of(b"iris"),
            size_bytes: 1234,
            inputs: vec![spec("input", 4)],
            outputs: vec![spec("probabilities", 3)],
            batching: Batching::Rows { reason: "proved".into(), axes: RowAxes::first(1, 1) },
            batch_size_max: 32,
        }
    }

    #[test]
    fn metadata_reads_back_from_its_document() {
        let text = serde_json::to_string(&ModelDocument::from(&iris())).unwrap();
        assert!(text.contains(r#""shape":[-1,4],"symbols":["N",null]"#), "{text}");
        let document: ModelDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(ModelMetadata::try_from(document).unwrap(), iris());
    }
}
