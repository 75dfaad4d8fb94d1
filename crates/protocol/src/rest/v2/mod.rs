//! Open Inference Protocol v2: a head in JSON, and tensors in JSON or, by the binary extension,
//! raw behind the head.
//!
//! The gateway speaks this to its workers too, always binary, so that a tensor is decoded once
//! at the edge and after that only sliced out of message bodies.

mod request;
mod response;

pub use request::{DecodedRequest, decode_raw_request, decode_request, encode_request};
pub use response::{decode_response, encode_response};

pub(super) use response::{unwritable, write_served};

use std::borrow::Cow;

use bytes::Bytes;
use inferring_types::{
    DataType, NamedTensor, SegmentedBytes, ServiceError, Shape, Tensor, TensorName, UnknownDataType,
};

use crate::json::counted;
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

/// How a request wants its outputs written.
#[derive(Debug, Default)]
pub struct OutputForm {
    /// The outputs of which the request says whether they are wanted raw.
    binary_by_output: Vec<(TensorName, bool)>,
    /// Whether the others are.
    binary_by_default: bool,
    /// Whether NaN and infinities may stand in JSON, which has no word for them.
    allow_nan: bool,
}

impl OutputForm {
    /// All raw.
    pub fn raw() -> Self {
        Self { binary_by_default: true, ..Self::default() }
    }

    /// Whether the output of that name is to be written raw.
    pub fn is_binary(&self, output: &TensorName) -> bool {
        let stated = self.binary_by_output.iter().find(|(name, _)| name == output);
        stated.map_or(self.binary_by_default, |&(_, binary)| binary)
    }
}

/// A tensor as a message describes it.
#[derive(Debug, Default)]
struct TensorEntry<'a> {
    name: Option<Cow<'a, str>>,
    datatype: Option<Result<DataType, UnknownDataType>>,
    shape: Option<Shape>,
    data: Option<Data>,
    binary_size: Option<usize>,
}

/// The elements of a tensor that stand in the head.
#[derive(Debug)]
enum Data {
    /// As this datatype. Apart, so that entries of raw tensors are small.
    Read(DataType, Box<Values>),
    /// From this byte on. They came before the datatype that tells how to read them.
    At(usize),
}

impl<'a> TensorEntry<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut entry = Self::default();
        cursor.object("a tensor object", |key, cursor| {
            match key {
                b"name" => entry.name = Some(cursor.string("a string")?),
                b"datatype" => entry.datatype = Some(cursor.string("a string")?.parse()),
                b"shape" => {
                    let shape = read_shape(cursor).map_err(|error| entry.within("shape", error))?;
                    entry.shape = Some(shape);
                }
                b"data" => entry.data = Some(entry.read_data(cursor)?),
                b"parameters" => entry.read_parameters(cursor)?,
                _ => cursor.skip_value()?,
            }
            Ok(())
        })?;
        Ok(entry)
    }

    fn read_data(&self, cursor: &mut Cursor<'_>) -> Result<Data, JsonError> {
        let Some(Ok(datatype)) = self.datatype else {
            return cursor.skip_data().map(Data::At);
        };
        let elements = self.shape.as_ref().and_then(Shape::elements).unwrap_or(0);
        Values::read_expecting(cursor, datatype, elements)
            .map(|values| Data::Read(datatype, Box::new(values)))
            .map_err(|error| self.within("data", error))
    }

    fn read_parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        cursor.object("an object", |key, cursor| {
            match key {
                b"binary_data_size" => {
                    let size = cursor.unsigned("a number of bytes")?;
                    self.binary_size = Some(usize::try_from(size).unwrap_or(usize::MAX));
                }
                _ => {
                    refuse_shared_memory(key, cursor)?;
                    cursor.skip_value()?;
                }
            }
            Ok(())
        })
    }

    #[cold]
    fn within(&self, field: &str, error: JsonError) -> JsonError {
        match &self.name {
            Some(name) => error.within(format_args!("tensor `{name}`, field `{field}`")),
            None => error.within(format_args!("field `{field}`")),
        }
    }

    /// The tensor, from the head's JSON or from the front of `raw`, which is moved past it.
    fn resolve(self, head: &[u8], raw: &mut SegmentedBytes) -> Result<NamedTensor, ServiceError> {
        let Self { name, datatype, shape, data, binary_size } = self;
        let name = name.ok_or_else(|| {
            ServiceError::invalid("a tensor has no field `name`: every one of them needs it")
        })?;
        let wrong = |what: String| ServiceError::invalid(format!("tensor `{name}`: {what}"));
        let datatype = datatype.ok_or_else(|| wrong("field `datatype` is missing".into()))?;
        let datatype = datatype.map_err(|error| wrong(error.to_string()))?;
        let shape = shape.ok_or_else(|| wrong("field `shape` is missing".into()))?;
        let data: SegmentedBytes = match (data, binary_size) {
            (Some(_), Some(_)) => {
                return Err(wrong("has both `data` and `binary_data_size`".into()));
            }
            (Some(data), None) => {
                let values = match data {
                    Data::Read(read_as, values) if read_as == datatype => *values,
                    Data::Read(..) => {
                        return Err(wrong("field `datatype` is given twice, and differs".into()));
                    }
                    Data::At(position) => Values::read(&mut Cursor::at(head, position), datatype)
                        .map_err(|error| {
                        error.within(format_args!("tensor `{name}`, field `data`"))
                    })?,
                };
                values.check_shape(&shape).map_err(wrong)?;
                values.data.into()
            }
            (None, Some(size)) => take(raw, size).map_err(wrong)?,
            (None, None) => {
                // Some clients leave the size out.
                let size = size_in(raw, datatype, &shape);
                let size = size.filter(|&size| size == 0 || !raw.is_empty()).ok_or_else(|| {
                    wrong("has neither `data` nor raw bytes behind the JSON part".into())
                })?;
                take(raw, size).map_err(wrong)?
            }
        };
        let tensor =
            Tensor::segmented(datatype, shape, data).map_err(|error| wrong(format!("{error}")))?;
        Ok(NamedTensor::new((&*name).into(), tensor))
    }
}

/// Refuses the parameters that say that a tensor is not in the message.
fn refuse_shared_memory(parameter: &[u8], cursor: &Cursor<'_>) -> Result<(), JsonError> {
    if parameter.starts_with(b"shared_memory_") {
        return Err(cursor.misfit(
            "shared memory is not supported: send tensors in the message, as JSON or raw",
        ));
    }
    Ok(())
}

/// The bytes that a tensor takes at the front of `raw`, as far as that can be told.
fn size_in(raw: &SegmentedBytes, datatype: DataType, shape: &Shape) -> Option<usize> {
    let elements = usize::try_from(shape.elements()?).ok()?;
    if let Some(element_size) = datatype.element_size() {
        return element_size.checked_mul(elements);
    }
    // Each takes at least the four bytes of its length.
    let mut rest = &raw.contiguous()[..];
    for _ in 0..elements {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        rest = tail.get(u32::from_le_bytes(*length) as usize..)?;
    }
    Some(raw.len() - rest.len())
}

fn take(raw: &mut SegmentedBytes, size: usize) -> Result<SegmentedBytes, String> {
    if size <= raw.len() {
        Ok(raw.split_to(size))
    } else {
        let bytes = counted(size as u64, "byte");
        Err(format!("takes {bytes}, but {} follow the JSON part", raw.len()))
    }
}

/// Splits a body into head and raw tensors.
fn split(mut body: SegmentedBytes, json_length: Option<usize>) -> (Bytes, SegmentedBytes) {
    let at = json_length.unwrap_or(body.len()).min(body.len());
    let head = body.split_to(at);
    (head.contiguous().clone(), body)
}

fn check_no_rest(raw: &SegmentedBytes) -> Result<(), ServiceError> {
    if raw.is_empty() {
        return Ok(());
    }
    Err(ServiceError::invalid(format!(
        "{} too many behind the last tensor",
        counted(raw.len() as u64, "byte"),
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
    writer::integer(out, tensor.tensor.size_bytes());
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
