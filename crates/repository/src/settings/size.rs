//! Numbers of bytes as they are written: `"64MiB"`, in the largest unit that has a whole number
//! of them, so that what is written reads back as it was.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes a number of bytes. A text with a fraction, as [`ByteSize`] writes itself, is rounded.
///
/// # Errors
/// The serialiser's.
pub fn serialize<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = size.as_u64();
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |(_, power): &(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << power);
    match units.into_iter().find(whole) {
        Some((unit, power)) => serializer.collect_str(&format_args!("{}{unit}", bytes >> power)),
        None => serializer.collect_str(&format_args!("{bytes}B")),
    }
}

/// Reads a number of bytes, with a unit or without.
///
/// # Errors
/// Where it is none.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    ByteSize::deserialize(deserializer)
}

/// For a number that may be absent.
pub(super) mod option {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::settings) fn serialize<S: Serializer>(
        size: &Option<ByteSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => super::serialize(size, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::settings) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ByteSize>, D::Error> {
        Option::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Written(#[serde(with = "super")] ByteSize);

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for (bytes, text) in [
            (0, "0B"),
            (1000, "1000B"),
            (1024, "1KiB"),
            (1_234_567, "1234567B"),
            (64 << 20, "64MiB"),
            (3 << 40, "3TiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            let size = Written(ByteSize(bytes));
            let written = serde_json::to_string(&size).unwrap();
            assert_eq!(written, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Written>(&written).unwrap(), size);
        }
    }
}
