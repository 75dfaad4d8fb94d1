//! Elements given one by one: from the list that their datatype belongs to, and back.
//!
//! FP16 and BF16 have no list in the protocol.

use bytes::Bytes;
use inferring_types::{DataType, Tensor};

use super::inference::InferTensorContents;

/// The bytes of `elements` elements, little-endian and row-major.
///
/// # Errors
/// A text for the client: elements in another list than the datatype's, another number of them,
/// or one that the datatype cannot hold.
pub(super) fn to_bytes(
    contents: &InferTensorContents,
    datatype: DataType,
    elements: Option<u64>,
) -> Result<Bytes, String> {
    let list = List::of(datatype).ok_or_else(|| {
        format!("{datatype} goes raw: its elements belong into `raw_input_contents`")
    })?;
    let others = List::ALL.into_iter().filter(|&other| other != list);
    if let Some(other) = others.into_iter().find(|other| other.length(contents) > 0) {
        return Err(format!(
            "{datatype} elements belong into `{}`, but `{}` has some",
            list.name(),
            other.name(),
        ));
    }
    let count = list.length(contents);
    if elements != Some(count as u64) {
        return Err(format!("its shape does not hold {count} elements"));
    }
    match datatype {
        DataType::Bool => Ok(fixed(&contents.bool_contents, |value| [u8::from(value)])),
        DataType::Int8 => narrow(&contents.int_contents, datatype, i8::to_le_bytes),
        DataType::Int16 => narrow(&contents.int_contents, datatype, i16::to_le_bytes),
        DataType::Int32 => Ok(fixed(&contents.int_contents, i32::to_le_bytes)),
        DataType::Int64 => Ok(fixed(&contents.int64_contents, i64::to_le_bytes)),
        DataType::Uint8 => narrow(&contents.uint_contents, datatype, u8::to_le_bytes),
        DataType::Uint16 => narrow(&contents.uint_contents, datatype, u16::to_le_bytes),
        DataType::Uint32 => Ok(fixed(&contents.uint_contents, u32::to_le_bytes)),
        DataType::Uint64 => Ok(fixed(&contents.uint64_contents, u64::to_le_bytes)),
        DataType::Fp32 => Ok(fixed(&contents.fp32_contents, f32::to_le_bytes)),
        DataType::Fp64 => Ok(fixed(&contents.fp64_contents, f64::to_le_bytes)),
        DataType::Bytes => strings(&contents.bytes_contents),
        DataType::Fp16 | DataType::Bf16 => unreachable!("has no list"),
    }
}

/// The tensor's elements in their list, or `None` for a datatype that has none.
pub(super) fn from_tensor(tensor: &Tensor) -> Option<InferTensorContents> {
    let data = tensor.data();
    let mut contents = InferTensorContents::default();
    match tensor.datatype() {
        DataType::Bool => contents.bool_contents = data.iter().map(|&byte| byte != 0).collect(),
        DataType::Int8 => contents.int_contents = read(data, |b| i8::from_le_bytes(b).into()),
        DataType::Int16 => contents.int_contents = read(data, |b| i16::from_le_bytes(b).into()),
        DataType::Int32 => contents.int_contents = read(data, i32::from_le_bytes),
        DataType::Int64 => contents.int64_contents = read(data, i64::from_le_bytes),
        DataType::Uint8 => contents.uint_contents = read(data, |b| u8::from_le_bytes(b).into()),
        DataType::Uint16 => contents.uint_contents = read(data, |b| u16::from_le_bytes(b).into()),
        DataType::Uint32 => contents.uint_contents = read(data, u32::from_le_bytes),
        DataType::Uint64 => contents.uint64_contents = read(data, u64::from_le_bytes),
        DataType::Fp32 => contents.fp32_contents = read(data, f32::from_le_bytes),
        DataType::Fp64 => contents.fp64_contents = read(data, f64::from_le_bytes),
        DataType::Bytes => contents.bytes_contents = split_strings(data.clone()),
        DataType::Fp16 | DataType::Bf16 => return None,
    }
    Some(contents)
}

/// One of the lists that elements may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Bool,
    Int,
    Int64,
    Uint,
    Uint64,
    Fp32,
    Fp64,
    Bytes,
}

impl List {
    const ALL: [Self; 8] = [
        Self::Bool,
        Self::Int,
        Self::Int64,
        Self::Uint,
        Self::Uint64,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The list for elements of that datatype.
    fn of(datatype: DataType) -> Option<Self> {
        Some(match datatype {
            DataType::Bool => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Self::Int,
            DataType::Int64 => Self::Int64,
            DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Self::Uint,
            DataType::Uint64 => Self::Uint64,
            DataType::Fp32 => Self::Fp32,
            DataType::Fp64 => Self::Fp64,
            DataType::Bytes => Self::Bytes,
            DataType::Fp16 | DataType::Bf16 => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool_contents",
            Self::Int => "int_contents",
            Self::Int64 => "int64_contents",
            Self::Uint => "uint_contents",
            Self::Uint64 => "uint64_contents",
            Self::Fp32 => "fp32_contents",
            Self::Fp64 => "fp64_contents",
            Self::Bytes => "bytes_contents",
        }
    }

    fn length(self, contents: &InferTensorContents) -> usize {
        match self {
            Self::Bool => contents.bool_contents.len(),
            Self::Int => contents.int_contents.len(),
            Self::Int64 => contents.int64_contents.len(),
            Self::Uint => contents.uint_contents.len(),
            Self::Uint64 => contents.uint64_contents.len(),
            Self::Fp32 => contents.fp32_contents.len(),
            Self::Fp64 => contents.fp64_contents.len(),
            Self::Bytes => contents.bytes_contents.len(),
        }
    }
}

fn fixed<T: Copy, const N: usize>(values: &[T], encode: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut data = vec![0; values.len() * N];
    let (places, _) = data.as_chunks_mut::<N>();
    for (place, &value) in places.iter_mut().zip(values) {
        *place = encode(value);
    }
    data.into()
}

/// Elements that are wider in their list than in the tensor.
fn narrow<W, T, const N: usize>(
    values: &[W],
    datatype: DataType,
    encode: impl Fn(T) -> [u8; N],
) -> Result<Bytes, String>
where
    W: Copy + std::fmt::Display,
    T: TryFrom<W>,
{
    let mut data = Vec::with_capacity(values.len() * N);
    for &value in values {
        let fitting = T::try_from(value).map_err(|_| format!("{value} does not fit {datatype}"))?;
        data.extend_from_slice(&encode(fitting));
    }
    Ok(data.into())
}

fn strings(values: &[Bytes]) -> Result<Bytes, String> {
    let mut data = Vec::with_capacity(values.iter().map(|value| 4 + value.len()).sum());
    for value in values {
        let length = u32::try_from(value.len()).map_err(|_| "an element exceeds 4 GiB")?;
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(value);
    }
    Ok(data.into())
}

fn read<T, const N: usize>(data: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (values, _) = data.as_chunks::<N>();
    values.iter().map(|&bytes| decode(bytes)).collect()
}

/// The elements of a BYTES tensor, as slices of its bytes.
fn split_strings(mut data: Bytes) -> Vec<Bytes> {
    let mut values = Vec::new();
    while let Some(&length) = data.first_chunk::<4>() {
        let whole = data.split_to(4 + u32::from_le_bytes(length) as usize);
        values.push(whole.slice(4..));
    }
    values
}

#[cfg(test)]
mod tests {
    use inferring_types::Shape;

    use super::*;

    #[test]
    fn every_datatype_with_a_list_reads_back() {
        for datatype in DataType::ALL {
            let data: Bytes = match datatype {
                DataType::Bool => vec![1, 0].into(),
                DataType::Bytes => b"\x03\0\0\0a\0\xff\0\0\0\0".to_vec().into(),
                _ => (0..2 * datatype.element_size().unwrap() as u8)
                    .map(|byte| byte.wrapping_mul(37) | 0x80)
                    .collect(),
            };
            let tensor = Tensor::new(datatype, Shape::from([2]), data).unwrap();
            let Some(contents) = from_tensor(&tensor) else {
                assert!(matches!(datatype, DataType::Fp16 | DataType::Bf16));
                continue;
            };
            assert_eq!(to_bytes(&contents, datatype, Some(2)).unwrap(), tensor.data());
        }
    }

    #[test]
    fn elements_in_another_list_too_many_or_too_large_are_refused() {
        let ints = |values: &[i32]| InferTensorContents {
            int_contents: values.to_vec(),
            ..InferTensorContents::default()
        };
        for (contents, datatype, elements, message) in [
            (ints(&[1]), DataType::Int8, Some(2), "its shape does not hold 1 elements"),
            (ints(&[1]), DataType::Int8, None, "its shape does not hold 1 elements"),
            (ints(&[1, 128]), DataType::Int8, Some(2), "128 does not fit INT8"),
            (ints(&[-32_769]), DataType::Int16, Some(1), "-32769 does not fit INT16"),
            (
                ints(&[1]),
                DataType::Fp32,
                Some(1),
                "FP32 elements belong into `fp32_contents`, but `int_contents` has some",
            ),
            (
                ints(&[1]),
                DataType::Bf16,
                Some(1),
                "BF16 goes raw: its elements belong into `raw_input_contents`",
            ),
        ] {
            assert_eq!(to_bytes(&contents, datatype, elements).unwrap_err(), message);
        }
    }
}
