//! Tensors as typed bytes, shared and never copied without a reason.

use std::ops::Range;

use bytes::Bytes;

use crate::{DataType, SegmentedBytes, Shape, TensorName};

/// A tensor: datatype, shape and little-endian row-major bytes that are known to fit them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    datatype: DataType,
    shape: Shape,
    data: SegmentedBytes,
}

/// Why bytes do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape has more elements than fit in memory.
    #[error("shape {shape} has more elements than can be addressed")]
    TooManyElements {
        /// The shape as given.
        shape: Shape,
    },
    /// The bytes do not have the length that datatype and shape ask for.
    #[error("{datatype} tensor of shape {shape} takes {expected} bytes, got {actual}")]
    WrongLength {
        /// The datatype as given.
        datatype: DataType,
        /// The shape as given.
        shape: Shape,
        /// Bytes that datatype and shape ask for.
        expected: u64,
        /// Bytes that were given.
        actual: usize,
    },
    /// A BYTES tensor's length prefixes do not add up.
    #[error("BYTES tensor of shape {shape} needs {expected} length-prefixed elements: {problem}")]
    BadStrings {
        /// The shape as given.
        shape: Shape,
        /// Elements that the shape asks for.
        expected: u64,
        /// What is wrong with the bytes.
        problem: &'static str,
    },
}

impl Tensor {
    /// A tensor over `data`, checked against datatype and shape before anything is allocated.
    ///
    /// # Errors
    /// [`TensorError`] where the length differs from what `datatype` and `shape` ask for.
    pub fn new(datatype: DataType, shape: Shape, data: Bytes) -> Result<Self, TensorError> {
        Self::segmented(datatype, shape, data.into())
    }

    /// The same over bytes as they came.
    ///
    /// # Errors
    /// As of [`Tensor::new`].
    pub fn segmented(
        datatype: DataType,
        shape: Shape,
        data: SegmentedBytes,
    ) -> Result<Self, TensorError> {
        let Some(elements) = shape.elements() else {
            return Err(TensorError::TooManyElements { shape });
        };
        let Some(element_size) = datatype.element_size() else {
            // Where an element is, only those before it tell: whoever looks for one goes through all.
            let data = data.contiguous().clone();
            return match check_strings(&data, elements) {
                Ok(()) => Ok(Self { datatype, shape, data: data.into() }),
                Err(problem) => Err(TensorError::BadStrings { shape, expected: elements, problem }),
            };
        };
        let Some(expected) = elements.checked_mul(element_size as u64) else {
            return Err(TensorError::TooManyElements { shape });
        };
        if expected != data.len() as u64 {
            let actual = data.len();
            return Err(TensorError::WrongLength { datatype, shape, expected, actual });
        }
        Ok(Self { datatype, shape, data })
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// [`TensorError`] where `values` has another length than `shape` asks for.
    pub fn from_f32(shape: Shape, values: &[f32]) -> Result<Self, TensorError> {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        Self::new(DataType::Fp32, shape, data.into())
    }

    /// The element type.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes in one piece: little-endian, row-major; for BYTES each element behind a `u32`
    /// length. Where they came in several, the first who asks copies them.
    pub fn data(&self) -> &Bytes {
        self.data.contiguous()
    }

    /// The same bytes where they lie. For BYTES they are in one piece.
    pub fn segments(&self) -> &[Bytes] {
        self.data.segments()
    }

    /// The bytes in that range where they lie.
    ///
    /// # Panics
    /// Where the range goes beyond them.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.data.slices(range)
    }

    /// The bytes in that range, shared.
    ///
    /// # Panics
    /// Where the range goes beyond them.
    pub fn slice(&self, range: Range<usize>) -> SegmentedBytes {
        self.data.slice(range)
    }

    /// How many bytes there are.
    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.elements().expect("checked in Tensor::new")
    }

    /// The values of an FP32 tensor, or `None` for any other datatype.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        (self.datatype == DataType::Fp32).then(|| {
            let (values, _) = self.data().as_chunks::<4>();
            values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        })
    }

    /// The elements of a BYTES tensor, row by row and without their lengths; nothing for any
    /// other datatype.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = if self.datatype == DataType::Bytes { &self.data()[..] } else { &[] };
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (element, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
            rest = tail;
            Some(element)
        })
    }
}

fn check_strings(data: &[u8], elements: u64) -> Result<(), &'static str> {
    let mut rest = data;
    for _ in 0..elements {
        let Some((length, tail)) = rest.split_first_chunk::<4>() else {
            return Err("the bytes end before the last element");
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(tail) = tail.get(length..) else {
            return Err("an element's length runs past the end of the bytes");
        };
        rest = tail;
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes remain after the last element") }
}

/// A tensor under the name of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    /// The input's or output's name.
    pub name: TensorName,
    /// The tensor.
    pub tensor: Tensor,
}

impl NamedTensor {
    /// A tensor under a name.
    pub fn new(name: TensorName, tensor: Tensor) -> Self {
        Self { name, tensor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_must_match_datatype_and_shape() {
        assert!(Tensor::new(DataType::Fp32, [1, 2].into(), Bytes::from_static(&[0; 8])).is_ok());
        let error =
            Tensor::new(DataType::Fp32, [1, 2].into(), Bytes::from_static(&[0; 7])).unwrap_err();
        assert_eq!(error.to_string(), "FP32 tensor of shape [1,2] takes 8 bytes, got 7");
    }

    #[test]
    fn a_shape_of_two_to_the_sixty_is_refused_before_allocation() {
        for shape in [Shape::from([1 << 60]), Shape::from([1 << 62, 1 << 62])] {
            assert!(Tensor::new(DataType::Fp64, shape, Bytes::new()).is_err());
        }
    }

    #[test]
    fn string_elements_must_add_up() {
        let two = Bytes::from_static(b"\x01\0\0\0a\0\0\0\0");
        let tensor = Tensor::new(DataType::Bytes, [2].into(), two.clone()).unwrap();
        assert!(tensor.strings().eq([&b"a"[..], b""]));
        assert!(Tensor::new(DataType::Bytes, [1].into(), two.clone()).is_err());
        assert!(Tensor::new(DataType::Bytes, [3].into(), two).is_err());
        let lying = Bytes::from_static(b"\xff\xff\xff\xffa");
        assert!(Tensor::new(DataType::Bytes, [1].into(), lying).is_err());
    }
}
