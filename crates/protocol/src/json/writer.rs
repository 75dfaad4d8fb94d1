//! JSON written straight from a tensor's bytes.

use half::{bf16, f16};
use inferring_types::{DataType, Tensor};

/// What JSON cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// NaN or an infinity.
    NotFinite,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

/// Appends `text` in double quotes, escaped.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to memory does not fail");
    }
}

/// Appends an integer.
pub(crate) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `[1,2,3]`.
pub(crate) fn integers(out: &mut Vec<u8>, numbers: &[u64]) {
    list(out, numbers.iter(), |out, &number| {
        integer(out, number);
        Ok(())
    })
    .expect("integers are finite");
}

/// Appends a tensor's elements as one flat array; NaN and infinities bare, as many programs write
/// and read them, where `allow_nan`. What was written is of no use on an error.
pub(crate) fn elements(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    allow_nan: bool,
) -> Result<(), Unwritable> {
    let data = &tensor.data()[..];
    match tensor.datatype() {
        DataType::Bool => list(out, data.iter(), |out, &byte| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
            Ok(())
        }),
        DataType::Uint8 => list_of(out, data, u8::from_le_bytes, whole),
        DataType::Uint16 => list_of(out, data, u16::from_le_bytes, whole),
        DataType::Uint32 => list_of(out, data, u32::from_le_bytes, whole),
        DataType::Uint64 => list_of(out, data, u64::from_le_bytes, whole),
        DataType::Int8 => list_of(out, data, i8::from_le_bytes, whole),
        DataType::Int16 => list_of(out, data, i16::from_le_bytes, whole),
        DataType::Int32 => list_of(out, data, i32::from_le_bytes, whole),
        DataType::Int64 => list_of(out, data, i64::from_le_bytes, whole),
        DataType::Fp16 => list_of(out, data, |b| f16::from_le_bytes(b).to_f32(), float(allow_nan)),
        DataType::Bf16 => list_of(out, data, |b| bf16::from_le_bytes(b).to_f32(), float(allow_nan)),
        DataType::Fp32 => list_of(out, data, f32::from_le_bytes, float(allow_nan)),
        DataType::Fp64 => list_of(out, data, f64::from_le_bytes, float(allow_nan)),
        DataType::Bytes => strings(out, data),
    }
}

fn whole(out: &mut Vec<u8>, number: impl itoa::Integer) -> Result<(), Unwritable> {
    integer(out, number);
    Ok(())
}

/// Writes the shortest text that reads back to the same float.
fn float<F>(allow_nan: bool) -> impl Fn(&mut Vec<u8>, F) -> Result<(), Unwritable>
where
    F: ryu::Float + Into<f64>,
{
    move |out, number| {
        let value: f64 = number.into();
        if value.is_finite() {
            out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
            return Ok(());
        }
        out.extend_from_slice(match value {
            _ if !allow_nan => return Err(Unwritable::NotFinite),
            f64::INFINITY => b"Infinity",
            f64::NEG_INFINITY => b"-Infinity",
            _ => b"NaN",
        });
        Ok(())
    }
}

/// The bytes of a BYTES tensor as texts.
fn strings(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unwritable> {
    let mut rest = data;
    let elements = std::iter::from_fn(|| {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (element, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        rest = tail;
        Some(element)
    });
    list(out, elements, |out, element| {
        string(out, str::from_utf8(element).map_err(|_| Unwritable::NotUtf8)?);
        Ok(())
    })
}

fn list_of<T, const N: usize>(
    out: &mut Vec<u8>,
    data: &[u8],
    from_bytes: impl Fn([u8; N]) -> T,
    write: impl Fn(&mut Vec<u8>, T) -> Result<(), Unwritable>,
) -> Result<(), Unwritable> {
    let (chunks, _) = data.as_chunks::<N>();
    list(out, chunks.iter(), |out, &bytes| write(out, from_bytes(bytes)))
}

fn list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), Unwritable>,
) -> Result<(), Unwritable> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(datatype: DataType, shape: &[u64], data: &'static [u8]) -> String {
        let tensor = Tensor::new(datatype, shape.into(), bytes::Bytes::from_static(data)).unwrap();
        let mut out = Vec::new();
        elements(&mut out, &tensor, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_of_element_is_written() {
        assert_eq!(written(DataType::Bool, &[2], &[0, 1]), "[false,true]");
        assert_eq!(written(DataType::Int8, &[2, 1], &[255, 1]), "[-1,1]");
        assert_eq!(written(DataType::Fp16, &[1], &[0, 0x3c]), "[1.0]");
        assert_eq!(written(DataType::Bytes, &[2], b"\x02\0\0\0a\"\0\0\0\0"), r#"["a\"",""]"#);
        assert_eq!(written(DataType::Fp32, &[0], &[]), "[]");
    }

    #[test]
    fn floats_take_their_shortest_text() {
        let tensor = Tensor::from_f32([4].into(), &[0.1, 1e-7, -0.0, 3e38]).unwrap();
        let mut out = Vec::new();
        elements(&mut out, &tensor, false).unwrap();
        assert_eq!(out, b"[0.1,1e-7,-0.0,3e38]");
    }

    #[test]
    fn nan_and_infinities_are_written_where_they_are_allowed() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
        let tensor = Tensor::from_f32([4].into(), &values).unwrap();
        assert_eq!(elements(&mut Vec::new(), &tensor, false), Err(Unwritable::NotFinite));
        let mut out = Vec::new();
        elements(&mut out, &tensor, true).unwrap();
        assert_eq!(out, b"[NaN,Infinity,-Infinity,1.0]");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let data = bytes::Bytes::from_static(b"\x01\0\0\0\xff");
        let tensor = Tensor::new(DataType::Bytes, [1].into(), data).unwrap();
        assert_eq!(elements(&mut Vec::new(), &tensor, true), Err(Unwritable::NotUtf8));
    }
}
