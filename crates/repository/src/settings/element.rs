//! One element of a tensor, as it is written in a configuration.

use half::{bf16, f16};
use inferring_types::DataType;
use serde::{Deserialize, Serialize};

/// One element of a tensor, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ElementValue {
    /// For BOOL.
    Bool(bool),
    /// For any number.
    Integer(i64),
    /// For floats.
    Float(f64),
    /// For BYTES.
    Text(String),
}

impl ElementValue {
    /// Appends the element as tensors hold it: little-endian, of BYTES behind its length in four
    /// bytes. `None` where the datatype does not have it; nothing is appended then.
    pub fn encode(&self, datatype: DataType, data: &mut Vec<u8>) -> Option<()> {
        match (datatype, self) {
            (DataType::Bool, Self::Bool(value)) => data.push(u8::from(*value)),
            (DataType::Bytes, Self::Text(text)) => {
                data.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
                data.extend(text.as_bytes());
            }
            (_, Self::Integer(value)) => push_integer(data, datatype, *value)?,
            (_, Self::Float(value)) => push_float(data, datatype, *value)?,
            _ => return None,
        }
        Some(())
    }
}

fn push_integer(data: &mut Vec<u8>, datatype: DataType, value: i64) -> Option<()> {
    match datatype {
        DataType::Uint8 => data.extend(u8::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint16 => data.extend(u16::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint32 => data.extend(u32::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint64 => data.extend(u64::try_from(value).ok()?.to_le_bytes()),
        DataType::Int8 => data.extend(i8::try_from(value).ok()?.to_le_bytes()),
        DataType::Int16 => data.extend(i16::try_from(value).ok()?.to_le_bytes()),
        DataType::Int32 => data.extend(i32::try_from(value).ok()?.to_le_bytes()),
        DataType::Int64 => data.extend(value.to_le_bytes()),
        // Rounded, as any literal of a float is.
        _ => push_float(data, datatype, value as f64)?,
    }
    Some(())
}

fn push_float(data: &mut Vec<u8>, datatype: DataType, value: f64) -> Option<()> {
    match datatype {
        DataType::Fp16 => data.extend(f16::from_f64(value).to_le_bytes()),
        DataType::Bf16 => data.extend(bf16::from_f64(value).to_le_bytes()),
        DataType::Fp32 => data.extend((value as f32).to_le_bytes()),
        DataType::Fp64 => data.extend(value.to_le_bytes()),
        _ => return None,
    }
    Some(())
}
