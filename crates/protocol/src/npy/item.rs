//! The type of an array's elements, by NumPy's short names: `<f4`, `|S10`, `>U3`.

use std::fmt;

use inferring_types::DataType;

use super::NpyError;

/// What an element is and how many bytes it takes; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A number or boolean.
    Number { datatype: DataType, big_endian: bool },
    /// Bytes, padded with NUL to `width`.
    Bytes { width: usize },
    /// Text, four bytes for each character, padded with NUL.
    Unicode { characters: usize, big_endian: bool },
}

impl Item {
    /// Bytes per element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Number { datatype, .. } => {
                datatype.element_size().expect("strings are items of their own")
            }
            Self::Bytes { width } => width,
            Self::Unicode { characters, .. } => characters * 4,
        }
    }

    /// Reads a type's short name: byte order, kind, size.
    pub(super) fn parse(descriptor: &str) -> Result<Self, NpyError> {
        let unsupported = |reason| {
            // The name comes from the file: no more of it than a name takes.
            let descriptor = descriptor.chars().take(32).collect();
            Err(NpyError::Unsupported { descriptor, reason })
        };
        let (big_endian, name) = match descriptor.as_bytes() {
            [b'<' | b'|', ..] => (false, &descriptor[1..]),
            [b'>', ..] => (true, &descriptor[1..]),
            _ => (false, descriptor),
        };
        let number = |datatype: DataType| {
            // One byte has no order.
            let big_endian = big_endian && datatype.element_size() != Some(1);
            Ok(Self::Number { datatype, big_endian })
        };
        match name {
            "b1" => return number(DataType::Bool),
            "u1" => return number(DataType::Uint8),
            "u2" => return number(DataType::Uint16),
            "u4" => return number(DataType::Uint32),
            "u8" => return number(DataType::Uint64),
            "i1" => return number(DataType::Int8),
            "i2" => return number(DataType::Int16),
            "i4" => return number(DataType::Int32),
            "i8" => return number(DataType::Int64),
            "f2" => return number(DataType::Fp16),
            "f4" => return number(DataType::Fp32),
            "f8" => return number(DataType::Fp64),
            "V2" | "bfloat16" => return number(DataType::Bf16),
            _ => {}
        }
        let mut characters = name.chars();
        let kind = characters.next();
        let size = characters.as_str();
        match kind {
            Some('S' | 'a' | 'U') => {
                let digits = size.bytes().all(|byte| byte.is_ascii_digit());
                // A quarter of the range, so that bytes can be counted too.
                let size = size.parse().ok().filter(|&size| digits && size <= usize::MAX / 4);
                match (kind, size) {
                    (_, None | Some(0)) => unsupported("strings need a length of at least 1"),
                    (Some('U'), Some(characters)) => Ok(Self::Unicode { characters, big_endian }),
                    (_, Some(width)) => Ok(Self::Bytes { width }),
                }
            }
            Some('O') => unsupported(
                "Python objects are pickled, which would run code to read; convert it first, \
                 for strings with astype('S') or astype('U')",
            ),
            Some('c') => unsupported("complex numbers have no datatype; send the parts apart"),
            Some('f' | 'g') => unsupported("extended precision has no datatype; use float64"),
            Some('M' | 'm') => unsupported("times have no datatype; send them as int64"),
            Some('V') => unsupported("records have no datatype; send the fields apart"),
            _ => unsupported("no datatype stands for it"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Number { datatype, big_endian } => {
                let name = match datatype {
                    DataType::Bool => "b1",
                    DataType::Uint8 => "u1",
                    DataType::Uint16 => "u2",
                    DataType::Uint32 => "u4",
                    DataType::Uint64 => "u8",
                    DataType::Int8 => "i1",
                    DataType::Int16 => "i2",
                    DataType::Int32 => "i4",
                    DataType::Int64 => "i8",
                    DataType::Fp16 => "f2",
                    DataType::Bf16 => "V2",
                    DataType::Fp32 => "f4",
                    DataType::Fp64 => "f8",
                    DataType::Bytes => unreachable!("strings are items of their own"),
                };
                let one_byte = datatype.element_size() == Some(1);
                let order = if one_byte { '|' } else { order(big_endian) };
                write!(f, "{order}{name}")
            }
            Self::Bytes { width } => write!(f, "|S{width}"),
            Self::Unicode { characters, big_endian } => {
                write!(f, "{}U{characters}", order(big_endian))
            }
        }
    }
}

fn order(big_endian: bool) -> char {
    if big_endian { '>' } else { '<' }
}
