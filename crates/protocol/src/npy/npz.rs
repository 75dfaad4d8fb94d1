//! `.npz`: several arrays under names, as members of a ZIP archive.

use std::collections::HashSet;
use std::io::{Cursor, Read, Write};

use bytes::Bytes;
use inferring_types::{NamedTensor, Tensor};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::NpyError;

/// Why bytes are no archive of arrays.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// No archive, or a malformed one.
    #[error("not an archive of arrays")]
    Archive(#[from] ZipError),
    /// A member's bytes do not decompress.
    #[error("member `{member}` is damaged: {problem}")]
    Damaged {
        /// The member.
        member: String,
        /// What the decompressor said.
        problem: String,
    },
    /// More members than [`MEMBERS_MAX`].
    #[error("the archive has {0} members: expected at most {MEMBERS_MAX}")]
    TooMany(usize),
    /// The arrays take more room than allowed.
    #[error("the arrays take more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, for all arrays together.
        limit: usize,
    },
    /// A member is no array.
    #[error("member `{0}` is no .npy file")]
    NotAnArray(String),
    /// Two members have one name.
    #[error("array `{0}` stands twice in the archive")]
    Repeated(String),
    /// A member is no array that a tensor can hold.
    #[error("array `{name}`")]
    Array {
        /// The array's name.
        name: String,
        /// What is wrong with it.
        #[source]
        error: Box<NpyError>,
    },
}

/// An archive with more members is refused.
pub const MEMBERS_MAX: usize = 1024;

/// Reads every array of an archive, stored or deflated, in its order. `limit` bounds the bytes
/// of all of them, decompressed, whatever the archive says of their sizes.
///
/// # Errors
/// [`NpzError`] where it is no archive, too large, or one of its members is no array.
pub fn read(file: &[u8], limit: usize) -> Result<Vec<(String, Tensor)>, NpzError> {
    let mut archive = ZipArchive::new(Cursor::new(file))?;
    if archive.len() > MEMBERS_MAX {
        return Err(NpzError::TooMany(archive.len()));
    }
    let mut arrays = Vec::new();
    let mut names = HashSet::new();
    let mut left = limit;
    for index in 0..archive.len() {
        let member = archive.by_index(index)?;
        let member_name = member.name()?.into_owned();
        let Some(name) = member_name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(NpzError::NotAnArray(member_name));
        };
        if !names.insert(name.clone()) {
            return Err(NpzError::Repeated(name));
        }
        let mut array = Vec::new();
        // One byte more than is left tells that there is more.
        let bound = (left as u64).saturating_add(1);
        member.take(bound).read_to_end(&mut array).map_err(|error| NpzError::Damaged {
            member: member_name,
            problem: error.to_string(),
        })?;
        left = left.checked_sub(array.len()).ok_or(NpzError::TooLarge { limit })?;
        match super::read(&Bytes::from(array)) {
            Ok(tensor) => arrays.push((name, tensor)),
            Err(error) => return Err(NpzError::Array { name, error: error.into() }),
        }
    }
    Ok(arrays)
}

/// Writes tensors as an archive, not compressed, as `numpy.savez` does. Equal tensors make equal
/// bytes: members carry no time.
///
/// # Errors
/// [`NpzError::Array`] where a tensor cannot be written; [`NpzError::Archive`] where two have one
/// name.
pub fn write(tensors: &[NamedTensor]) -> Result<Vec<u8>, NpzError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for NamedTensor { name, tensor } in tensors {
        let array = super::write(tensor)
            .map_err(|error| NpzError::Array { name: name.to_string(), error: error.into() })?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(u32::try_from(array.len()).is_err());
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&array).map_err(ZipError::from)?;
    }
    Ok(archive.finish()?.into_inner())
}
