//! Requests that are run before a model is served.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use inferring_types::DataType;
use serde::{Deserialize, Serialize};

use super::element::ElementValue;
use super::text;
use crate::relative_path::RelativePath;

/// A request that is run before the model is served, so that the first client need not pay for
/// memory being reserved and kernels being chosen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupSample {
    /// What to call it in the log.
    pub name: String,
    /// How many times it is run; once where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroU32>,
    /// Rows in the request. Where it is given, the shapes and data of the inputs are those of
    /// one row, without the batch axis; where it is absent they are complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<NonZeroU64>,
    /// The inputs, by name. One that is not named here is all zeros, of its declared shape.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, WarmupInput>,
}

/// One input of a sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct WarmupInput {
    /// The element type; the model's where absent, and an error where it is another.
    pub datatype: Option<DataType>,
    /// The shape. Where it is absent, the model's with 1 for each dimension left open.
    pub shape: Option<Vec<u64>>,
    /// Its elements.
    pub data: WarmupData,
}

/// Where the elements of a sample's input come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum WarmupData {
    /// All zero; empty texts for BYTES.
    #[default]
    Zero,
    /// Random ones, the same at every load.
    Random,
    /// A file below the model's folder: the elements one after the other, little-endian, each
    /// element of BYTES behind its length in four bytes.
    File(RelativePath),
    /// These, in row-major order.
    Values(Vec<ElementValue>),
}

/// The form in `config.toml`, where the kind of data is told by the key that is there.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    datatype: Option<DataType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fill: Option<Fill>,
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    file: Option<RelativePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<ElementValue>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fill {
    Zero,
    Random,
}

impl TryFrom<Written> for WarmupInput {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let data = match (written.fill, written.file, written.values) {
            (None | Some(Fill::Zero), None, None) => WarmupData::Zero,
            (Some(Fill::Random), None, None) => WarmupData::Random,
            (None, Some(file), None) => WarmupData::File(file),
            (None, None, Some(values)) => WarmupData::Values(values),
            _ => return Err("only one of `fill`, `file` and `values` can be given"),
        };
        Ok(Self { datatype: written.datatype, shape: written.shape, data })
    }
}

impl From<WarmupInput> for Written {
    fn from(input: WarmupInput) -> Self {
        let written = Self { datatype: input.datatype, shape: input.shape, ..Self::default() };
        match input.data {
            WarmupData::Zero => Self { fill: Some(Fill::Zero), ..written },
            WarmupData::Random => Self { fill: Some(Fill::Random), ..written },
            WarmupData::File(file) => Self { file: Some(file), ..written },
            WarmupData::Values(values) => Self { values: Some(values), ..written },
        }
    }
}
