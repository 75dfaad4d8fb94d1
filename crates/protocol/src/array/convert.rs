//! Numbers of one datatype as those of another.
//!
//! Arrays that were made elsewhere rarely have the model's datatype: NumPy's own numbers are FP64
//! and INT64. Between floats a number is rounded to the nearest; nothing else may be lost, so a
//! number out of range and a fraction where whole numbers are wanted are errors.

use half::{bf16, f16};
use inferring_types::{DataType, Tensor};

/// Why a tensor cannot have another datatype.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// An element has no counterpart.
    #[error("element {index} is {value}, which does not fit {datatype}")]
    DoesNotFit {
        /// Which one, row by row.
        index: usize,
        /// Its value.
        value: String,
        /// The datatype that was wanted.
        datatype: DataType,
    },
    /// Texts are no numbers.
    #[error("{from} elements do not become {to}")]
    Unrelated {
        /// What they are.
        from: DataType,
        /// What was wanted.
        to: DataType,
    },
}

/// The same tensor with elements of `datatype`. Booleans count as 0 and 1, in both directions.
///
/// # Errors
/// [`ConvertError`] for BYTES, and where a number does not fit `datatype`.
pub fn convert(tensor: &Tensor, datatype: DataType) -> Result<Tensor, ConvertError> {
    let from = tensor.datatype();
    if from == datatype {
        return Ok(tensor.clone());
    }
    let (Some(size), Some(new_size)) = (from.element_size(), datatype.element_size()) else {
        return Err(ConvertError::Unrelated { from, to: datatype });
    };
    let data = tensor.data();
    let mut out = Vec::with_capacity(data.len() / size * new_size);
    for (index, element) in data.chunks_exact(size).enumerate() {
        let number = Number::read(element, from);
        number.append(&mut out, datatype).ok_or_else(|| ConvertError::DoesNotFit {
            index,
            value: number.to_string(),
            datatype,
        })?;
    }
    let shape = tensor.shape().clone();
    Ok(Tensor::new(datatype, shape, out.into()).expect("as many elements as before"))
}

/// Any element, without loss.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    fn read(element: &[u8], datatype: DataType) -> Self {
        fn bytes<const N: usize>(element: &[u8]) -> [u8; N] {
            element.try_into().expect("the caller cuts elements of the datatype's size")
        }

        match datatype {
            DataType::Bool => Self::Whole((element[0] != 0).into()),
            DataType::Uint8 => Self::Whole(element[0].into()),
            DataType::Uint16 => Self::Whole(u16::from_le_bytes(bytes(element)).into()),
            DataType::Uint32 => Self::Whole(u32::from_le_bytes(bytes(element)).into()),
            DataType::Uint64 => Self::Whole(u64::from_le_bytes(bytes(element)).into()),
            DataType::Int8 => Self::Whole(i8::from_le_bytes(bytes(element)).into()),
            DataType::Int16 => Self::Whole(i16::from_le_bytes(bytes(element)).into()),
            DataType::Int32 => Self::Whole(i32::from_le_bytes(bytes(element)).into()),
            DataType::Int64 => Self::Whole(i64::from_le_bytes(bytes(element)).into()),
            DataType::Fp16 => Self::Float(f16::from_le_bytes(bytes(element)).into()),
            DataType::Bf16 => Self::Float(bf16::from_le_bytes(bytes(element)).into()),
            DataType::Fp32 => Self::Float(f32::from_le_bytes(bytes(element)).into()),
            DataType::Fp64 => Self::Float(f64::from_le_bytes(bytes(element))),
            DataType::Bytes => unreachable!("strings have no size and are refused before"),
        }
    }

    /// Appends the number, or tells with `None` that it does not fit.
    fn append(self, out: &mut Vec<u8>, datatype: DataType) -> Option<()> {
        match datatype {
            DataType::Bool => out.push(self.whole::<u8>().filter(|&byte| byte <= 1)?),
            DataType::Uint8 => out.push(self.whole()?),
            DataType::Uint16 => out.extend(self.whole::<u16>()?.to_le_bytes()),
            DataType::Uint32 => out.extend(self.whole::<u32>()?.to_le_bytes()),
            DataType::Uint64 => out.extend(self.whole::<u64>()?.to_le_bytes()),
            DataType::Int8 => out.extend(self.whole::<i8>()?.to_le_bytes()),
            DataType::Int16 => out.extend(self.whole::<i16>()?.to_le_bytes()),
            DataType::Int32 => out.extend(self.whole::<i32>()?.to_le_bytes()),
            DataType::Int64 => out.extend(self.whole::<i64>()?.to_le_bytes()),
            DataType::Fp16 => {
                let value = f16::from_f64(self.float());
                self.fits(value.into()).then(|| out.extend(value.to_le_bytes()))?;
            }
            DataType::Bf16 => {
                let value = bf16::from_f64(self.float());
                self.fits(value.into()).then(|| out.extend(value.to_le_bytes()))?;
            }
            DataType::Fp32 => {
                let value = match self {
                    // Not by way of FP64: a number is rounded once.
                    Self::Whole(number) => number as f32,
                    Self::Float(number) => number as f32,
                };
                self.fits(value.into()).then(|| out.extend(value.to_le_bytes()))?;
            }
            DataType::Fp64 => out.extend(self.float().to_le_bytes()),
            DataType::Bytes => unreachable!("strings have no size and are refused before"),
        }
        Some(())
    }

    /// The number as an integer, where it is one and in range.
    fn whole<T: TryFrom<i128>>(self) -> Option<T> {
        match self {
            Self::Whole(number) => number.try_into().ok(),
            Self::Float(number) if number.fract() == 0.0 => (number as i128).try_into().ok(),
            Self::Float(_) => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// Whether `rounded` is this number and not one that was too large.
    fn fits(self, rounded: f64) -> bool {
        rounded.is_finite() || !self.float().is_finite()
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::{Style, read, write};

    fn converted(text: &str, from: DataType, to: DataType) -> Result<String, String> {
        let tensor = read(text.as_bytes(), from).unwrap();
        let converted = convert(&tensor, to).map_err(|error| error.to_string())?;
        assert_eq!(converted.shape(), tensor.shape());
        Ok(write(&converted, Style::JSON))
    }

    #[test]
    fn numbers_become_their_nearest_or_are_refused() {
        use DataType::*;
        for (text, from, to, expected) in [
            ("[[0.1,1e30]]", Fp64, Fp32, Ok("[[0.1,1e30]]")),
            ("[1.5]", Fp32, Fp64, Ok("[1.5]")),
            ("[16777217]", Int64, Fp32, Ok("[16777216.0]")),
            ("[255,0]", Int64, Uint8, Ok("[255,0]")),
            ("[-1.0,3.0]", Fp64, Int32, Ok("[-1,3]")),
            ("[true,false]", Bool, Fp16, Ok("[1.0,0.0]")),
            ("[1,0]", Uint8, Bool, Ok("[true,false]")),
            ("[18446744073709551615]", Uint64, Bf16, Ok("[1.8446744e19]")),
            ("[1,256]", Int64, Uint8, Err("element 1 is 256, which does not fit UINT8")),
            ("[1.5]", Fp64, Int32, Err("element 0 is 1.5, which does not fit INT32")),
            ("[1e39]", Fp64, Fp32, Err("does not fit FP32")),
            ("[70000]", Int32, Fp16, Err("element 0 is 70000, which does not fit FP16")),
            ("[1e300]", Fp64, Int64, Err("does not fit INT64")),
            ("[2]", Int64, Bool, Err("element 0 is 2, which does not fit BOOL")),
            ("[\"1\"]", Bytes, Fp32, Err("BYTES elements do not become FP32")),
        ] {
            match (converted(text, from, to), expected) {
                (Ok(shown), Ok(expected)) => assert_eq!(shown, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let tensor = Tensor::from_f32([2].into(), &[f32::NAN, f32::NEG_INFINITY]).unwrap();
        let shown = write(&convert(&tensor, DataType::Fp16).unwrap(), Style::JSON);
        assert_eq!(shown, r#"["NaN","-Infinity"]"#);
        assert!(convert(&tensor, DataType::Int8).is_err());
    }
}
