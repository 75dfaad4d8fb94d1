//! One tensor as a JSON array by itself, nested as its shape is: what people type and read.
//!
//! Messages carry flat arrays beside a shape and refuse what JSON has no word for. A reader of
//! a terminal wants to see rows, and NaN where there is NaN.

mod convert;

pub use convert::{ConvertError, convert};

use half::{bf16, f16};
use inferring_types::{DataType, ServiceError, Tensor};

use crate::json::reader::Cursor;
use crate::json::values::Values;
use crate::json::writer;

/// Reads an array, nested or flat, or a single value, whose elements are of `datatype`. The
/// tensor's shape is the nesting's.
///
/// # Errors
/// `InvalidArgument`, with the position, where it is malformed or ragged, or where an element is
/// of another type or does not fit `datatype`.
pub fn read(text: &[u8], datatype: DataType) -> Result<Tensor, ServiceError> {
    let mut cursor = Cursor::new(text);
    let values = Values::read(&mut cursor, datatype)?;
    cursor.finish()?;
    Tensor::new(datatype, values.nesting, values.data.into())
        .map_err(|error| ServiceError::invalid(error.to_string()))
}

/// How an array is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Of a longer row, and of more rows, only the first and the last half of so many are
    /// written, with `...` between them; 0 for all.
    pub edge_items: usize,
    /// How many columns the innermost lines are indented by; `None` for one line.
    pub indent: Option<usize>,
    /// NaN and infinities in double quotes, as JSON needs them.
    pub quote_not_finite: bool,
}

impl Style {
    /// JSON on one line, with everything in it.
    pub const JSON: Self = Self { edge_items: 0, indent: None, quote_not_finite: true };
}

/// Writes a tensor as an array that is nested as its shape is; a scalar as a single value.
/// Strings that are no UTF-8 have replacement characters in the places of other bytes.
pub fn write(tensor: &Tensor, style: Style) -> String {
    let elements = Elements::of(tensor, style);
    let mut out = Vec::new();
    elements.write(&mut out, tensor.shape().dimensions(), 0, 0);
    String::from_utf8(out).expect("numbers, escaped text and brackets are UTF-8")
}

/// Access to the elements of a tensor by their place.
struct Elements<'a> {
    tensor: &'a Tensor,
    style: Style,
    /// Where each string begins, behind its length; empty for other datatypes.
    strings: Vec<&'a [u8]>,
}

impl<'a> Elements<'a> {
    fn of(tensor: &'a Tensor, style: Style) -> Self {
        let strings = match tensor.datatype() {
            DataType::Bytes => tensor.strings().collect(),
            _ => Vec::new(),
        };
        Self { tensor, style, strings }
    }

    /// Appends the part of the tensor whose first element is `first`.
    fn write(&self, out: &mut Vec<u8>, dimensions: &[u64], first: usize, depth: usize) {
        let Some((&length, inner)) = dimensions.split_first() else {
            return self.element(out, first);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let step: usize =
            inner.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).product();
        out.push(b'[');
        let edge = self.style.edge_items;
        let mut index = 0;
        while index < length {
            if index > 0 {
                out.push(b',');
                self.space(out, inner.len(), depth);
            }
            if edge > 0 && length > 2 * edge + 1 && index == edge {
                out.extend_from_slice(b"...");
                index = length - edge;
                continue;
            }
            self.write(out, inner, first + index * step, depth + 1);
            index += 1;
        }
        out.push(b']');
    }

    /// What stands between two parts that have `rank` dimensions themselves.
    fn space(&self, out: &mut Vec<u8>, rank: usize, depth: usize) {
        match self.style.indent {
            Some(_) if rank == 0 => out.push(b' '),
            Some(indent) => {
                out.push(b'\n');
                out.resize(out.len() + indent + depth + 1, b' ');
            }
            None => {}
        }
    }

    fn element(&self, out: &mut Vec<u8>, index: usize) {
        fn at<const N: usize>(data: &[u8], index: usize) -> [u8; N] {
            data.as_chunks::<N>().0[index]
        }

        let data = &self.tensor.data()[..];
        match self.tensor.datatype() {
            DataType::Bool => {
                out.extend_from_slice(if data[index] == 0 { b"false" } else { b"true" });
            }
            DataType::Uint8 => writer::integer(out, data[index]),
            DataType::Uint16 => writer::integer(out, u16::from_le_bytes(at(data, index))),
            DataType::Uint32 => writer::integer(out, u32::from_le_bytes(at(data, index))),
            DataType::Uint64 => writer::integer(out, u64::from_le_bytes(at(data, index))),
            DataType::Int8 => writer::integer(out, i8::from_le_bytes(at(data, index))),
            DataType::Int16 => writer::integer(out, i16::from_le_bytes(at(data, index))),
            DataType::Int32 => writer::integer(out, i32::from_le_bytes(at(data, index))),
            DataType::Int64 => writer::integer(out, i64::from_le_bytes(at(data, index))),
            DataType::Fp16 => self.float(out, f16::from_le_bytes(at(data, index)).to_f32()),
            DataType::Bf16 => self.float(out, bf16::from_le_bytes(at(data, index)).to_f32()),
            DataType::Fp32 => self.float(out, f32::from_le_bytes(at(data, index))),
            DataType::Fp64 => self.float(out, f64::from_le_bytes(at(data, index))),
            DataType::Bytes => writer::string(out, &String::from_utf8_lossy(self.strings[index])),
        }
    }

    /// The shortest text that reads back to the same float.
    fn float<F: ryu::Float + Into<f64> + Copy>(&self, out: &mut Vec<u8>, number: F) {
        let value: f64 = number.into();
        if value.is_finite() {
            out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
            return;
        }
        let name: &[u8] = match value {
            f64::INFINITY => b"Infinity",
            f64::NEG_INFINITY => b"-Infinity",
            _ => b"NaN",
        };
        let quote: &[u8] = if self.style.quote_not_finite { b"\"" } else { b"" };
        out.extend([quote, name, quote].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Style = Style { edge_items: 0, indent: Some(2), quote_not_finite: false };

    #[test]
    fn an_array_is_read_with_its_nesting_and_written_with_it() {
        for (text, datatype, shape) in [
            ("[[1,2],[3,4],[5,6]]", DataType::Uint8, vec![3, 2]),
            ("[[[1.5]]]", DataType::Fp16, vec![1, 1, 1]),
            ("7", DataType::Int64, vec![]),
            ("[[],[]]", DataType::Fp32, vec![2, 0]),
            (r#"["a\"b",""]"#, DataType::Bytes, vec![2]),
            ("[true,false]", DataType::Bool, vec![2]),
        ] {
            let tensor = read(text.as_bytes(), datatype).unwrap();
            assert_eq!(tensor.shape().dimensions(), shape);
            assert_eq!(write(&tensor, Style::JSON), text);
        }
        let error = read(b"[1,300]", DataType::Uint8).unwrap_err().to_string();
        assert!(error.contains("byte 3") && error.contains("300"), "{error}");
    }

    #[test]
    fn rows_stand_below_each_other() {
        let tensor = read(b"[[[1,2],[3,4]],[[5,6],[7,8]]]", DataType::Uint8).unwrap();
        let expected = "[[[1, 2],\n    [3, 4]],\n   [[5, 6],\n    [7, 8]]]";
        assert_eq!(write(&tensor, WIDE), expected);
    }

    #[test]
    fn long_arrays_are_cut_in_the_middle() {
        let style = Style { edge_items: 2, ..WIDE };
        for (text, shown) in [
            ("[1,2,3,4,5]", "[1, 2, 3, 4, 5]"),
            ("[1,2,3,4,5,6]", "[1, 2, ..., 5, 6]"),
            ("[[1],[2],[3],[4],[5],[6]]", "[[1],\n   [2],\n   ...,\n   [5],\n   [6]]"),
        ] {
            let tensor = read(text.as_bytes(), DataType::Int8).unwrap();
            assert_eq!(write(&tensor, style), shown);
        }
    }

    #[test]
    fn what_is_not_finite_has_a_name() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.1];
        let tensor = Tensor::from_f32([4].into(), &values).unwrap();
        assert_eq!(write(&tensor, WIDE), "[NaN, Infinity, -Infinity, 0.1]");
        assert_eq!(write(&tensor, Style::JSON), r#"["NaN","Infinity","-Infinity",0.1]"#);
    }
}
