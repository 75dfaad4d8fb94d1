//! Versions of a model, and how a request names the one it wants.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::model::is_name;

/// A version of a model, or another name for one (`stable`, `canary`).
///
/// Versions that are numbers are ordered by value, and a number counts as newer than any other
/// text: the newest version is the largest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ModelVersion(Arc<str>);

/// A text that cannot name a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a version: expected 1 to {max} ASCII letters, digits, `.`, `_` or `-`",
    max = ModelVersion::MAX_LENGTH
)]
pub struct InvalidVersion(pub String);

impl ModelVersion {
    /// The longest version, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// The version of a model that is a single file: `1`.
    pub fn first() -> Self {
        Self("1".into())
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as a number, where it is one.
    pub fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl FromStr for ModelVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text, Self::MAX_LENGTH) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidVersion(text.to_owned()))
        }
    }
}

impl Ord for ModelVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ModelVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which model is asked for, and which version of it: any text, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelSelector<'a> {
    /// The model's name; the default model where absent.
    pub name: Option<&'a str>,
    /// A version, or another name for one; the newest where absent.
    pub version: Option<&'a str>,
}

impl<'a> ModelSelector<'a> {
    /// The newest version of the model of that name.
    pub fn named(name: &'a str) -> Self {
        Self { name: Some(name), version: None }
    }

    /// That version of the model of that name; the newest where `version` is `None`.
    pub fn new(name: &'a str, version: Option<&'a str>) -> Self {
        Self { name: Some(name), version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_largest_number() {
        let mut versions = ["10", "9", "beta", "2", "alpha"].map(|v| v.parse().unwrap());
        versions.sort();
        assert_eq!(
            versions.map(|v: ModelVersion| v.to_string()),
            ["alpha", "beta", "2", "9", "10"]
        );
    }

    #[test]
    fn a_version_is_safe_in_a_path() {
        for (text, valid) in [("1", true), ("v1.2-rc_3", true), ("", false), ("../1", false)] {
            assert_eq!(text.parse::<ModelVersion>().is_ok(), valid, "{text}");
        }
    }
}
