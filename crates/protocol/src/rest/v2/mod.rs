//! Open Inference Protocol v2: a head in JSON, and tensors in JSON or, by the binary extension,
//! raw behind the head.
//!
//! The gateway speaks this to its workers too, always binary, so that a tensor is decoded once
//! at the edge and after that only sliced out of message bodies.

mod request;
mod response;

pub use request::{DecodedRequest, decode_request, encode_request};
pub use response::{decode_response, encode_response, requires_binary};

pub(super) use response::{not_finite, write_served};

use std::borrow::Cow;

use bytes::Bytes;
use inferring_types::{NamedTensor, ServiceError, Shape, Tensor};

use crate::json::reader::{Cursor, JsonError};
use crate::json::values::{Values, read_shape};
use crate::json::writer;
use crate::rest::Chunks;

/// A message, ready to send.
#[derive(Debug)]
pub struct Message {
    /// Head and tensors.
    pub body: Chunks,
    /// The head's length, for [`JSON_LENGTH`](super::headers::JSON_LENGTH), where raw tensors
    /// follow it.
    pub json_length: Option<usize>,
}

/// A tensor as a message describes it, its elements not yet read.
#[derive(Debug, Default)]
struct TensorEntry<'a> {
    name: Cow<'a, str>,
    datatype: Option<Cow<'a, str>>,
    shape: Option<Shape>,
    /// Where `data` starts in the head. It may come before the datatype that tells how to
    /// read it, so it is passed over first.
    data_at: Option<usize>,
    binary_size: Option<usize>,
}

impl<'a> TensorEntry<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut entry = Self::default();
        cursor.object("a tensor object", |key, cursor| {
            match key {
                b"name" => entry.name = cursor.string("a string")?,
                b"datatype" => entry.datatype = Some(cursor.string("a string")?),
                b"shape" => entry.shape = Some(read_shape(cursor)?),
                b"data" => entry.data_at = Some(cursor.skip_value()?),
                b"parameters" => cursor.member_of_object(b"binary_data_size", |cursor| {
                    let size = cursor.unsigned("a number of bytes")?;
                    entry.binary_size = Some(usize::try_from(size).unwrap_or(usize::MAX));
                    Ok(())
                })?,
                _ => drop(cursor.skip_value()?),
            }
            Ok(())
        })?;
        Ok(entry)
    }

    /// The tensor, from the head's JSON or from the front of `raw`, which is moved past it.
    fn resolve(self, head: &[u8], raw: &mut Bytes) -> Result<NamedTensor, ServiceError> {
        let Self { name, datatype, shape, data_at, binary_size } = self;
        let wrong = |what: String| ServiceError::invalid(format!("tensor `{name}`: {what}"));
        let datatype = datatype.ok_or_else(|| wrong("field `datatype` is missing".into()))?;
        let datatype = datatype.parse().map_err(|error| wrong(format!("{error}")))?;
        let shape = shape.ok_or_else(|| wrong("field `shape` is missing".into()))?;
        let data: Bytes = match (data_at, binary_size) {
            (Some(_), Some(_)) => {
                return Err(wrong("has both `data` and `binary_data_size`".into()));
            }
            (Some(at), None) => {
                let values = Values::read(&mut Cursor::at(head, at), datatype)?;
                if shape.elements() != Some(values.elements) {
                    let count = values.elements;
                    return Err(wrong(format!("shape {shape} does not hold {count} elements")));
                }
                values.data.into()
            }
            (None, Some(size)) => take(raw, size).map_err(wrong)?,
            (None, None) => {
                // Some clients leave the size out: shape and datatype tell it.
                let size = datatype
                    .element_size()
                    .zip(shape.elements().and_then(|n| usize::try_from(n).ok()))
                    .and_then(|(element, count)| element.checked_mul(count));
                let size = size.ok_or_else(|| {
                    wrong("has neither `data` nor a `binary_data_size` parameter".into())
                })?;
                take(raw, size).map_err(wrong)?
            }
        };
        let tensor =
            Tensor::new(datatype, shape, data).map_err(|error| wrong(format!("{error}")))?;
        Ok(NamedTensor::new((&*name).into(), tensor))
    }
}

fn take(raw: &mut Bytes, size: usize) -> Result<Bytes, String> {
    if size <= raw.len() {
        Ok(raw.split_to(size))
    } else {
        Err(format!("{size} bytes are announced, but {} follow the JSON part", raw.len()))
    }
}

/// Splits a body into head and raw tensors.
fn split(body: &Bytes, json_length: Option<usize>) -> (Bytes, Bytes) {
    let at = json_length.unwrap_or(body.len()).min(body.len());
    (body.slice(..at), body.slice(at..))
}

fn check_no_rest(raw: &Bytes) -> Result<(), ServiceError> {
    if raw.is_empty() {
        return Ok(());
    }
    Err(ServiceError::invalid(format!(
        "{} bytes remain behind the last announced tensor",
        raw.len(),
    )))
}

/// Appends name, datatype and shape, without the closing brace.
fn write_tensor_head(out: &mut Vec<u8>, tensor: &NamedTensor) {
    out.extend_from_slice(b"{\"name\":");
    writer::string(out, tensor.name.as_str());
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.tensor.datatype().name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":");
    writer::integers(out, tensor.tensor.shape().dimensions());
}

fn write_binary_size(out: &mut Vec<u8>, tensor: &NamedTensor) {
    out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
    writer::integer(out, tensor.tensor.data().len());
    out.extend_from_slice(b"}}");
}

/// Calls `write` for each item, with commas between.
fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), ServiceError>,
) -> Result<(), ServiceError> {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}
