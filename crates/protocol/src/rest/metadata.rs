//! A model's metadata as a JSON document: what `GET /v2/models/{m}` answers, and what a gateway
//! reads from its workers.

use inferring_types::{
    Batching, ContentDigest, Dimension, ModelMetadata, ServiceError, ShapeSpec, TensorSpec,
};
use serde::{Deserialize, Serialize};

/// The document. `name`, `versions`, `platform`, `inputs` and `outputs` are the protocol's;
/// the rest is what a gateway needs besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDocument {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<TensorDocument>,
    outputs: Vec<TensorDocument>,
    digest: String,
    size_bytes: u64,
    batching: BatchingDocument,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TensorDocument {
    name: String,
    datatype: String,
    /// -1 for a dynamic dimension.
    shape: Vec<i64>,
    /// The model's own symbols, in the places of the dynamic dimensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    symbols: Vec<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BatchingDocument {
    joins_rows: bool,
    reason: String,
}

impl From<&ModelMetadata> for ModelDocument {
    fn from(model: &ModelMetadata) -> Self {
        Self {
            name: model.name.to_string(),
            versions: vec![model.version.clone()],
            platform: "onnx".to_owned(),
            inputs: model.inputs.iter().map(TensorDocument::from).collect(),
            outputs: model.outputs.iter().map(TensorDocument::from).collect(),
            digest: model.digest.to_string(),
            size_bytes: model.size_bytes,
            batching: BatchingDocument {
                joins_rows: model.batching.joins_rows(),
                reason: model.batching.reason().to_owned(),
            },
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
        let BatchingDocument { joins_rows, reason } = document.batching;
        Ok(Self {
            name: document.name.parse().map_err(|_| malformed("name"))?,
            version: document.versions.into_iter().next().ok_or_else(|| malformed("version"))?,
            digest: ContentDigest::from_hex(&document.digest).ok_or_else(|| malformed("digest"))?,
            size_bytes: document.size_bytes,
            inputs: tensors(document.inputs).map_err(malformed)?,
            outputs: tensors(document.outputs).map_err(malformed)?,
            batching: if joins_rows {
                Batching::Rows { reason }
            } else {
                Batching::Alone { reason }
            },
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
            shape: ShapeSpec::new(dimensions.collect::<Vec<_>>()),
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
            version: "1".into(),
            digest: ContentDigest::of(b"iris"),
            size_bytes: 1234,
            inputs: vec![spec("input", 4)],
            outputs: vec![spec("probabilities", 3)],
            batching: Batching::Rows { reason: "proved".into() },
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
