//! A path that stays below the folder it is joined to.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

/// Names of files or folders, one below the other: `model.onnx`, `warmup/image.raw`.
///
/// There is no `..` in it, no root and no hidden name, so that joined to a folder it stays
/// below that folder, as long as no link leads out: [`crate::Repository`] looks for those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

/// A text that is no [`RelativePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path below the model's folder: expected names joined by `/`, without `..`")]
pub struct InvalidPath(pub String);

impl RelativePath {
    /// The longest path, in bytes.
    pub const LENGTH_MAX: usize = 512;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelativePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPath(text.to_owned());
        if text.len() > Self::LENGTH_MAX || text.chars().any(char::is_control) {
            return Err(invalid());
        }
        // A backslash is a name's character here and a separator elsewhere: whoever means the
        // one surprises the other.
        if text.contains('\\') || text.ends_with('/') {
            return Err(invalid());
        }
        let mut names = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => names.push(name.to_str().ok_or_else(invalid)?),
                _ => return Err(invalid()),
            }
        }
        if names.is_empty() || names.iter().any(|name| name.starts_with('.')) {
            return Err(invalid());
        }
        Ok(Self(names.join("/")))
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_folder() {
        for (text, expected) in [
            ("model.onnx", Some("model.onnx")),
            ("a/b.onnx", Some("a/b.onnx")),
            ("./a//b", Some("a/b")),
            ("", None),
            (".", None),
            ("..", None),
            ("a/../../b", None),
            ("../model.onnx", None),
            ("/etc/passwd", None),
            ("a\\..\\b", None),
            ("a/", None),
            (".hidden", None),
            ("a\0b", None),
            ("a\nb", None),
        ] {
            let path = text.parse::<RelativePath>().ok();
            assert_eq!(path.as_ref().map(RelativePath::as_str), expected, "{text:?}");
        }
        assert!("a".repeat(513).parse::<RelativePath>().is_err());
    }
}
