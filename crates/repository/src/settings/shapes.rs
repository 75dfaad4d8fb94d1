//! Declared shapes and batch axes: `[2, "B", 128]`, where -1 is a dimension without a name.

use std::fmt;

use inferring_types::{Dimension, ShapeSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most dimensions a shape is read with.
pub(crate) const RANK_MAX: usize = 64;

/// The axis along which the rows of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAxis {
    /// This one, counted from 0.
    At(usize),
    /// The tensor has no rows: requests share a run only where it is the same for all.
    None,
}

impl Serialize for BatchAxis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(axis) => axis.serialize(serializer),
            Self::None => "none".serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BatchAxis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = BatchAxis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an axis, counted from 0, or \"none\"")
            }

            fn visit_i64<E: de::Error>(self, axis: i64) -> Result<BatchAxis, E> {
                let unsigned = u64::try_from(axis);
                unsigned
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(axis), &self))
                    .and_then(|axis| self.visit_u64(axis))
            }

            fn visit_u64<E: de::Error>(self, axis: u64) -> Result<BatchAxis, E> {
                match usize::try_from(axis) {
                    Ok(axis) if axis < RANK_MAX => Ok(BatchAxis::At(axis)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(axis), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BatchAxis, E> {
                match text {
                    "none" => Ok(BatchAxis::None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(i64),
    Symbol(String),
}

pub(super) fn serialize<S: Serializer>(
    shape: &Option<ShapeSpec>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => Size::Number(i64::try_from(*size).unwrap_or(i64::MAX)),
        Dimension::Dynamic(None) => Size::Number(-1),
        Dimension::Dynamic(Some(symbol)) => Size::Symbol(symbol.clone()),
    };
    let sizes = shape.as_ref().map(|shape| shape.dimensions().iter().map(size).collect::<Vec<_>>());
    sizes.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ShapeSpec>, D::Error> {
    let Some(sizes) = Option::<Vec<Size>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if sizes.len() > RANK_MAX {
        return Err(de::Error::custom(format!("more than {RANK_MAX} dimensions")));
    }
    let dimension = |size| match size {
        Size::Number(-1) => Ok(Dimension::Dynamic(None)),
        Size::Number(size) => u64::try_from(size)
            .map(Dimension::Fixed)
            .map_err(|_| format!("{size} is no dimension: expected a size, -1 or a symbol")),
        Size::Symbol(symbol) if symbol.is_empty() || symbol == "?" => Ok(Dimension::Dynamic(None)),
        Size::Symbol(symbol) => Ok(Dimension::Dynamic(Some(symbol))),
    };
    let dimensions: Result<Vec<_>, _> = sizes.into_iter().map(dimension).collect();
    dimensions.map(|dimensions| Some(ShapeSpec::new(dimensions))).map_err(de::Error::custom)
}
