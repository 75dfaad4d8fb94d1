//! Versions of ONNX Runtime's library, as files are named and as it reports them.

use std::ffi::OsStr;
use std::fmt;

/// A version in dotted numbers, ordered by them. A library's soname may carry only the first:
/// `1` says nothing about being too old, so missing numbers count as the highest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u32; 3]);

impl Version {
    /// The oldest library that the binding can speak to: it asks for one version of the C API,
    /// and a library provides all versions up to its own.
    pub(super) const OLDEST: Self = Self([1, ort::MINOR_VERSION, 0]);

    /// Reads the name of a file or folder: `1.32.0`, `1.32` or `1`, and nothing else.
    pub(super) fn in_name(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let plain = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        (plain && name.split('.').count() <= 3).then(|| Self::reported(name))?
    }

    /// Reads what a library reports: as above, or followed by a suffix, as in `1.32.0-dev`.
    pub(super) fn reported(text: &str) -> Option<Self> {
        let mut numbers = [u32::MAX; 3];
        for (number, part) in numbers.iter_mut().zip(text.split('.')) {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            *number = part[..digits].parse().ok()?;
        }
        Some(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().filter(|number| **number != u32::MAX);
        let known = known.map(u32::to_string).collect::<Vec<_>>();
        f.write_str(&known.join("."))
    }
}

/// `Some` for a file name of the library itself (not of a provider beside it), with the version
/// in it if there is one: `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`.
pub(super) fn version_of_file(file_name: &OsStr) -> Option<Option<Version>> {
    let rest = file_name.to_str()?.strip_prefix("libonnxruntime.")?;
    let version = match rest.strip_suffix("dylib") {
        Some("") => return Some(None),
        Some(version) => version.strip_suffix('.')?,
        None => match rest.strip_prefix("so")? {
            "" => return Some(None),
            version => version.strip_prefix('.')?,
        },
    };
    Version::in_name(version.as_ref()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_a_missing_one_counts_as_the_highest() {
        let ordered = ["1.9.0", "1.24.0", "1.24.1", "1.24", "1.100.0", "1", "2.0.0"];
        let versions = ordered.map(|name| Version::in_name(name.as_ref()).unwrap());
        assert!(versions.is_sorted(), "{versions:?}");
        assert_eq!(versions.map(|version| version.to_string()), ordered);
    }

    #[test]
    fn a_name_is_a_version_as_a_whole_and_a_report_may_go_on() {
        for name in ["", ".", "1.", "1.32.0.1", "1.32.0-dev", "v1", "1.99999999999"] {
            assert_eq!(Version::in_name(name.as_ref()), None, "{name}");
        }
        assert_eq!(Version::reported("1.32.0-dev+cu13"), Version::in_name("1.32.0".as_ref()));
        assert_eq!(Version::reported("dev"), None);
    }

    #[test]
    fn the_library_is_told_from_what_lies_beside_it() {
        let version = |name| version_of_file(OsStr::new(name)).map(|v| v.map(|v| v.to_string()));
        assert_eq!(version("libonnxruntime.so"), Some(None));
        assert_eq!(version("libonnxruntime.dylib"), Some(None));
        assert_eq!(version("libonnxruntime.so.1"), Some(Some("1".to_owned())));
        assert_eq!(version("libonnxruntime.1.32.0.dylib"), Some(Some("1.32.0".to_owned())));
        for other in ["libonnxruntime.so.", "libonnxruntime.soup", "libonnxruntime_x.so", "x.so"] {
            assert_eq!(version(other), None, "{other}");
        }
    }
}
