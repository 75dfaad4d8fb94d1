//! Outputs that are no tensors, as texts.
//!
//! The protocol knows tensors only. A sequence, a map or an optional value is served as a BYTES
//! tensor whose elements are JSON texts:
//!
//! - a sequence of n items as `[n]`, a text per item;
//! - a map as `[1]`: one object, its keys as texts (an integer in decimal);
//! - an optional value as `[0]` where it is absent, else as its content (a tensor as `[1]`);
//! - a tensor within any of them as `{"datatype":"FP32","shape":[2],"data":[0.5,1.0]}`, its
//!   elements flat.
//!
//! Numbers are written so that they read back to the same value; a float that is not finite is
//! the text `"NaN"`, `"Infinity"` or `"-Infinity"`. A string is itself where it is UTF-8, and
//! `{"b64":"…"}` where it is not, which JSON has no texts for. Only a map's key cannot be that:
//! what is not UTF-8 in it becomes U+FFFD.
#![expect(unsafe_code, reason = "the C API; every block says why it is sound")]

use std::fmt::Write as _;
use std::ptr;

use bytes::{BufMut as _, BytesMut};
use half::{bf16, f16};
use inferring_types::{DataType, Tensor};
use ort::AsPointer as _;
use ort::memory::Allocator;
use ort::sys::ONNXType;

use super::tensor::{Value, check, strings};
use crate::ExecuteError;

/// The BYTES tensor that `value` is served as; `None` is an optional value that is absent.
///
/// # Errors
/// It holds something that is not served, or the engine fails.
pub(super) fn to_texts(value: Option<&Value>) -> Result<Tensor, ExecuteError> {
    let texts = match value.filter(|value| value.is_present()) {
        None => Vec::new(),
        Some(value) => match kind_of(value)? {
            ONNXType::ONNX_TYPE_SEQUENCE => {
                let items = 0..count_of(value)?;
                let text = |index| text_of(&item_of(value, index)?);
                items.map(text).collect::<Result<Vec<_>, _>>()?
            }
            _ => vec![text_of(value)?],
        },
    };
    let mut data = BytesMut::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
    for text in &texts {
        let length = u32::try_from(text.len())
            .map_err(|_| ExecuteError("the model gave an item of over 4 GiB".to_owned()))?;
        data.put_u32_le(length);
        data.put_slice(text.as_bytes());
    }
    let shape = [texts.len() as u64].into();
    Tensor::new(DataType::Bytes, shape, data.freeze())
        .map_err(|error| ExecuteError(error.to_string()))
}

/// A tensor or a map as JSON.
fn text_of(value: &Value) -> Result<String, ExecuteError> {
    let mut text = String::new();
    match kind_of(value)? {
        ONNXType::ONNX_TYPE_TENSOR => write_tensor(&mut text, &value.to_tensor()?),
        ONNXType::ONNX_TYPE_MAP => {
            let (keys, values) = (item_of(value, 0)?.to_tensor()?, item_of(value, 1)?.to_tensor()?);
            if keys.elements() != values.elements() {
                return Err(ExecuteError("the engine gave a map of unequal lists".to_owned()));
            }
            write_map(&mut text, &keys, &values);
        }
        _ => return Err(ExecuteError("the model gave a value that is not served".to_owned())),
    }
    Ok(text)
}

fn kind_of(value: &Value) -> Result<ONNXType, ExecuteError> {
    let mut kind = ONNXType::ONNX_TYPE_UNKNOWN;
    // SAFETY: the value is valid and holds something; the call writes one number.
    unsafe { check((ort::api().GetValueType)(value.as_ptr(), &raw mut kind))? };
    Ok(kind)
}

fn count_of(value: &Value) -> Result<usize, ExecuteError> {
    let mut count = 0;
    // SAFETY: the value is valid; the call writes one number, and refuses what has no items.
    unsafe { check((ort::api().GetValueCount)(value.as_ptr(), &raw mut count))? };
    Ok(count)
}

/// An item of a sequence; of a map, its keys (0) or values (1).
fn item_of(value: &Value, index: usize) -> Result<Value, ExecuteError> {
    let index = i32::try_from(index)
        .map_err(|_| ExecuteError("the model gave a sequence that is too long".to_owned()))?;
    let allocator = Allocator::default();
    let mut item = ptr::null_mut();
    // SAFETY: the value is valid, the default allocator lives as long as the process, and the
    // call refuses an index that is out of range. What it makes belongs to us.
    unsafe {
        check((ort::api().GetValue)(
            value.as_ptr(),
            index,
            allocator.ptr().cast_mut(),
            &raw mut item,
        ))?;
    }
    Value::new(item)
}

fn write_map(text: &mut String, keys: &Tensor, values: &Tensor) {
    let (keys, values) = (Elements::of(keys), Elements::of(values));
    text.push('{');
    for index in 0..keys.count {
        if index > 0 {
            text.push(',');
        }
        keys.write_key(text, index);
        text.push(':');
        values.write(text, index);
    }
    text.push('}');
}

fn write_tensor(text: &mut String, tensor: &Tensor) {
    let (datatype, shape) = (tensor.datatype(), tensor.shape());
    write!(text, r#"{{"datatype":"{datatype}","shape":{shape},"data":["#).expect("it is memory");
    let elements = Elements::of(tensor);
    for index in 0..elements.count {
        if index > 0 {
            text.push(',');
        }
        elements.write(text, index);
    }
    text.push_str("]}");
}

/// The elements of a tensor, each by its number.
struct Elements<'t> {
    datatype: DataType,
    count: usize,
    data: &'t [u8],
    /// Of a BYTES tensor, whose elements differ in length.
    strings: Vec<&'t [u8]>,
}

impl<'t> Elements<'t> {
    fn of(tensor: &'t Tensor) -> Self {
        let (datatype, data) = (tensor.datatype(), &**tensor.data());
        let strings = match datatype {
            DataType::Bytes => strings(data).collect(),
            _ => Vec::new(),
        };
        let count = datatype.element_size().map_or(strings.len(), |size| data.len() / size);
        Self { datatype, count, data, strings }
    }

    fn write_key(&self, text: &mut String, index: usize) {
        match self.datatype {
            DataType::Bytes => write_string(text, &String::from_utf8_lossy(self.strings[index])),
            _ => {
                text.push('"');
                self.write(text, index);
                text.push('"');
            }
        }
    }

    fn write(&self, text: &mut String, index: usize) {
        match self.datatype {
            DataType::Bool => text.push_str(if self.data[index] == 0 { "false" } else { "true" }),
            DataType::Uint8 => write_integer(text, u8::from_le_bytes(self.at(index))),
            DataType::Uint16 => write_integer(text, u16::from_le_bytes(self.at(index))),
            DataType::Uint32 => write_integer(text, u32::from_le_bytes(self.at(index))),
            DataType::Uint64 => write_integer(text, u64::from_le_bytes(self.at(index))),
            DataType::Int8 => write_integer(text, i8::from_le_bytes(self.at(index))),
            DataType::Int16 => write_integer(text, i16::from_le_bytes(self.at(index))),
            DataType::Int32 => write_integer(text, i32::from_le_bytes(self.at(index))),
            DataType::Int64 => write_integer(text, i64::from_le_bytes(self.at(index))),
            DataType::Fp16 => write_float(text, f16::from_le_bytes(self.at(index)).to_f32()),
            DataType::Bf16 => write_float(text, bf16::from_le_bytes(self.at(index)).to_f32()),
            DataType::Fp32 => write_float(text, f32::from_le_bytes(self.at(index))),
            DataType::Fp64 => write_float(text, f64::from_le_bytes(self.at(index))),
            DataType::Bytes => match str::from_utf8(self.strings[index]) {
                Ok(string) => write_string(text, string),
                Err(_) => write_base64(text, self.strings[index]),
            },
        }
    }

    fn at<const N: usize>(&self, index: usize) -> [u8; N] {
        self.data.as_chunks().0[index]
    }
}

fn write_integer(text: &mut String, value: impl std::fmt::Display) {
    write!(text, "{value}").expect("it is memory");
}

/// Rust's debug form of a finite float is the shortest that reads back, and JSON.
fn write_float(text: &mut String, value: impl Into<f64> + Copy + std::fmt::Debug) {
    let wide = value.into();
    if wide.is_finite() {
        write!(text, "{value:?}").expect("it is memory");
    } else if wide.is_nan() {
        text.push_str("\"NaN\"");
    } else {
        text.push_str(if wide > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\0'..='\x1f' => {
                write!(text, "\\u{:04x}", u32::from(character)).expect("it is memory");
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

/// `{"b64":"…"}`, with padding (RFC 4648, section 4).
fn write_base64(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text.push_str("{\"b64\":\"");
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let sextet = (group >> (18 - 6 * digit)) & 0x3f;
            let present = digit <= chunk.len();
            text.push(if present { char::from(DIGITS[sextet as usize]) } else { '=' });
        }
    }
    text.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strings_of(elements: &[&[u8]]) -> Tensor {
        let mut data = BytesMut::new();
        for element in elements {
            data.put_u32_le(element.len() as u32);
            data.put_slice(element);
        }
        let shape = [elements.len() as u64].into();
        Tensor::new(DataType::Bytes, shape, data.freeze()).unwrap()
    }

    fn tensor(datatype: DataType, values: &[&[u8]]) -> Tensor {
        let shape = [values.len() as u64].into();
        Tensor::new(datatype, shape, values.concat().into()).unwrap()
    }

    fn data_of(tensor: &Tensor) -> serde_json::Value {
        let mut text = String::new();
        write_tensor(&mut text, tensor);
        let parsed = serde_json::from_str::<serde_json::Value>(&text).unwrap();
        assert_eq!(parsed["datatype"], tensor.datatype().name());
        assert_eq!(parsed["shape"], json!(tensor.shape().dimensions()));
        parsed["data"].clone()
    }

    #[test]
    fn every_number_reads_back() {
        for (tensor, expected) in [
            (tensor(DataType::Bool, &[&[0], &[1], &[7]]), json!([false, true, true])),
            (tensor(DataType::Int8, &[&[0x80]]), json!([-128])),
            (tensor(DataType::Uint64, &[&u64::MAX.to_le_bytes()]), json!([u64::MAX])),
            (tensor(DataType::Int64, &[&i64::MIN.to_le_bytes()]), json!([i64::MIN])),
            (tensor(DataType::Fp16, &[&f16::from_f32(0.5).to_le_bytes()]), json!([0.5])),
            (tensor(DataType::Bf16, &[&bf16::from_f32(-2.0).to_le_bytes()]), json!([-2.0])),
        ] {
            assert_eq!(data_of(&tensor), expected, "{}", tensor.datatype());
        }
        for value in [0.1_f64, -0.0, 1e300, f64::MIN_POSITIVE, 5e-324, 1e16, 123_456_789.125] {
            let data = data_of(&tensor(DataType::Fp64, &[&value.to_le_bytes()]));
            assert_eq!(data[0].as_f64().unwrap().to_bits(), value.to_bits());
        }
        for value in [0.1_f32, f32::MAX, f32::MIN_POSITIVE, 1e-45, 16_777_216.0] {
            let data = data_of(&Tensor::from_f32([1].into(), &[value]).unwrap());
            assert_eq!((data[0].as_f64().unwrap() as f32).to_bits(), value.to_bits());
        }
    }

    #[test]
    fn floats_that_json_lacks_are_texts() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
        let data = data_of(&Tensor::from_f32([4].into(), &values).unwrap());
        assert_eq!(data, json!(["NaN", "Infinity", "-Infinity", 1.0]));
    }

    #[test]
    fn strings_keep_every_byte() {
        let elements: [&[u8]; 5] =
            [b"", "ü\"\\\n\0\u{1f}".as_bytes(), b"\xff", b"\xff\xfe", b"a\xff\x00"];
        let expected = json!([
            "",
            "ü\"\\\n\0\u{1f}",
            { "b64": "/w==" },
            { "b64": "//4=" },
            { "b64": "Yf8A" },
        ]);
        assert_eq!(data_of(&strings_of(&elements)), expected);
    }

    #[test]
    fn a_map_is_an_object_in_its_own_order() {
        let numbers = Tensor::from_f32([2].into(), &[0.25, f32::NAN]).unwrap();
        let integers = [7_i64, -1].map(i64::to_le_bytes);
        for (keys, expected) in [
            (strings_of(&[b"b\"", b"a"]), r#"{"b\"":0.25,"a":"NaN"}"#),
            (strings_of(&[b"\xff", b""]), "{\"\u{fffd}\":0.25,\"\":\"NaN\"}"),
            (tensor(DataType::Int64, &[&integers[0], &integers[1]]), r#"{"7":0.25,"-1":"NaN"}"#),
        ] {
            let mut text = String::new();
            write_map(&mut text, &keys, &numbers);
            assert_eq!(text, expected);
        }
    }
}
