//! NumPy's array files, `.npy` and `.npz`, from and to tensors.
//!
//! A file is untrusted input like any message: its header is a Python literal, which is parsed
//! here and never evaluated; the length that shape and item size ask for is held against the
//! bytes that are there before anything is allocated; and arrays of Python objects, which are
//! pickled programs, are refused. The format is that of `numpy.lib.format`, versions 1.0 to 3.0.

mod header;
mod item;
mod order;
mod strings;

pub mod npz;

use std::borrow::Cow;

use bytes::Bytes;
use inferring_types::{DataType, Shape, Tensor, TensorError};

use header::Header;
use item::Item;

/// Why bytes are not an array that a tensor can hold, or a tensor none that a file can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// Another kind of file.
    #[error("not a NumPy array: it does not begin with \\x93NUMPY")]
    NotNpy,
    /// A version of the format that does not exist yet.
    #[error("NPY format version {major}.{minor} is not known: expected 1.0, 2.0 or 3.0")]
    UnknownVersion {
        /// The first version byte.
        major: u8,
        /// The second one.
        minor: u8,
    },
    /// The header is not the Python literal that it must be.
    #[error("malformed NPY header at byte {position}: {problem}")]
    Header {
        /// The position in the file.
        position: usize,
        /// What was expected there.
        problem: Cow<'static, str>,
    },
    /// Elements of a kind that no datatype stands for.
    #[error("NumPy type `{descriptor}` cannot be sent: {reason}")]
    Unsupported {
        /// The type as the file names it.
        descriptor: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// The header asks for another number of bytes than there are.
    #[error(
        "an array of shape {shape} and `{descriptor}` does not take the {actual} bytes that follow its header"
    )]
    WrongLength {
        /// The shape as the header tells it.
        shape: Shape,
        /// The type as the header tells it.
        descriptor: String,
        /// Bytes behind the header.
        actual: usize,
    },
    /// An element of a Unicode array is no text.
    #[error("element {index} of the array is no Unicode text")]
    NoText {
        /// Which one, row by row.
        index: u64,
    },
    /// A string cannot be written: the format pads strings with NUL bytes and so loses its end.
    #[error("element {index} ends with a NUL byte, which NumPy's strings cannot keep")]
    EndsWithNul {
        /// Which one, row by row.
        index: u64,
    },
    /// Strings cannot be written because each takes the room of the longest.
    #[error("{elements} strings of up to {width} bytes each are too many for NumPy's fixed width")]
    TooWide {
        /// How many strings there are.
        elements: u64,
        /// The length of the longest, in bytes.
        width: usize,
    },
    /// What the file holds is no tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Reads a `.npy` file. Its elements come out little-endian and row by row, whatever their order
/// in the file; where that is theirs already, the tensor shares the file's bytes. Strings,
/// NumPy's `S` and `U`, become BYTES (`U` as UTF-8) without the NUL padding at their ends.
///
/// Two-byte items without a type (`V2`) are BF16: so `ml_dtypes` writes its `bfloat16`.
///
/// # Errors
/// [`NpyError`] where it is malformed, has lengths that do not add up, or holds elements that no
/// datatype stands for: complex numbers, times, records, Python objects.
pub fn read(file: &Bytes) -> Result<Tensor, NpyError> {
    let Header { item, fortran_order, shape, data_at } = Header::read(file)?;
    let data = file.slice(data_at..);
    let expected = shape.elements().and_then(|elements| elements.checked_mul(item.size() as u64));
    if expected != Some(data.len() as u64) {
        let actual = data.len();
        return Err(NpyError::WrongLength { shape, descriptor: item.to_string(), actual });
    }
    let data = if fortran_order && shape.rank() > 1 {
        order::rows_first(&data, shape.dimensions(), item.size()).into()
    } else {
        data
    };
    let (datatype, data) = match item {
        Item::Number { datatype, big_endian: true } => {
            (datatype, order::swapped(&data, item.size()).into())
        }
        Item::Number { datatype: DataType::Bool, .. } => (DataType::Bool, zero_or_one(data)),
        Item::Number { datatype, big_endian: false } => (datatype, data),
        Item::Bytes { width } => (DataType::Bytes, strings::from_bytes(&data, width)?.into()),
        Item::Unicode { characters, big_endian } => {
            (DataType::Bytes, strings::from_unicode(&data, characters, big_endian)?.into())
        }
    };
    Ok(Tensor::new(datatype, shape, data)?)
}

/// Writes a tensor as a `.npy` file of version 1.0, as `numpy.save` would: strings as `S`, BF16
/// as `V2` (`numpy.load(…).view(ml_dtypes.bfloat16)` reads it).
///
/// # Errors
/// [`NpyError::EndsWithNul`] and [`NpyError::TooWide`] for strings that the format cannot hold.
pub fn write(tensor: &Tensor) -> Result<Vec<u8>, NpyError> {
    let item = match tensor.datatype() {
        DataType::Bytes => Item::Bytes { width: strings::width(tensor)? },
        datatype => Item::Number { datatype, big_endian: false },
    };
    let mut file = header::write(item, tensor.shape());
    match item {
        Item::Bytes { width } => strings::write(&mut file, tensor, width),
        _ => file.extend_from_slice(tensor.data()),
    }
    Ok(file)
}

/// NumPy takes any byte but 0 for true; a tensor holds 1.
fn zero_or_one(data: Bytes) -> Bytes {
    if data.iter().all(|&byte| byte <= 1) {
        return data;
    }
    data.iter().map(|&byte| u8::from(byte != 0)).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests;
