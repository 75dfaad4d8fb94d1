//! NumPy's strings of fixed width, padded with NUL, from and to BYTES elements.

use inferring_types::Tensor;

use super::NpyError;

/// A file of strings with more bytes is not written.
const SIZE_MAX: u64 = 1 << 32;

/// Bytes as they are, each element less its padding.
pub(super) fn from_bytes(data: &[u8], width: usize) -> Result<Vec<u8>, NpyError> {
    let mut out = Vec::with_capacity(data.len() + data.len() / width * PREFIX);
    for (item, index) in data.chunks_exact(width).zip(0..) {
        let length = item.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        append(&mut out, &item[..length], index)?;
    }
    Ok(out)
}

/// Text of four bytes a character as UTF-8, each element less its padding.
pub(super) fn from_unicode(
    data: &[u8],
    characters: usize,
    big_endian: bool,
) -> Result<Vec<u8>, NpyError> {
    let mut out = Vec::with_capacity(data.len() / 4 + data.len() / characters);
    let read = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let mut text = String::new();
    for (item, index) in data.chunks_exact(characters * 4).zip(0..) {
        let (units, _) = item.as_chunks::<4>();
        let length = units.iter().rposition(|unit| *unit != [0; 4]).map_or(0, |last| last + 1);
        text.clear();
        for &unit in &units[..length] {
            text.push(char::from_u32(read(unit)).ok_or(NpyError::NoText { index })?);
        }
        append(&mut out, text.as_bytes(), index)?;
    }
    Ok(out)
}

/// Bytes of the length before each element of a tensor.
const PREFIX: usize = 4;

fn append(out: &mut Vec<u8>, element: &[u8], index: u64) -> Result<(), NpyError> {
    // 4 GiB in one string: no tensor holds it.
    let length = u32::try_from(element.len()).map_err(|_| NpyError::NoText { index })?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(element);
    Ok(())
}

/// The width that holds every element of a BYTES tensor; at least 1, as NumPy's own.
pub(super) fn width(tensor: &Tensor) -> Result<usize, NpyError> {
    let mut width = 1;
    for (element, index) in tensor.strings().zip(0..) {
        if element.ends_with(&[0]) {
            return Err(NpyError::EndsWithNul { index });
        }
        width = width.max(element.len());
    }
    let elements = tensor.elements();
    match elements.checked_mul(width as u64) {
        Some(size) if size <= SIZE_MAX => Ok(width),
        _ => Err(NpyError::TooWide { elements, width }),
    }
}

/// Appends each element of a BYTES tensor, padded to `width`.
pub(super) fn write(file: &mut Vec<u8>, tensor: &Tensor, width: usize) {
    for element in tensor.strings() {
        let end = file.len() + width;
        file.extend_from_slice(element);
        file.resize(end, 0);
    }
}
