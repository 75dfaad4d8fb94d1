//! What a model's inputs and outputs are said to be.

use inferring_types::{DataType, ShapeSpec};
use serde::{Deserialize, Serialize};

use super::element::ElementValue;
use super::shapes::BatchAxis;

/// What an input or output is said to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TensorSettings {
    /// The element type.
    #[serde(with = "super::text::option", skip_serializing_if = "Option::is_none")]
    pub datatype: Option<DataType>,
    /// The whole shape, the batch axis included.
    #[serde(with = "super::shapes", skip_serializing_if = "Option::is_none")]
    pub shape: Option<ShapeSpec>,
    /// Along which axis rows of different requests are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_axis: Option<BatchAxis>,
    /// How an input is filled up to the length of the longest that it shares a run with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<PaddingSettings>,
    /// Along which axis an output is cut back to the length of its request's own inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padded_axis: Option<usize>,
}

/// How an input is filled up so that requests of different lengths share a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaddingSettings {
    /// The axis along which lengths differ, counted from 0.
    pub axis: usize,
    /// The element that is put behind those of the request; zero, or an empty text, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ElementValue>,
}
