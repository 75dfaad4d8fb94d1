//! The name of a device, as the engine reads it.

use std::fmt;
use std::str::FromStr;

/// `auto`, `cpu`, `cuda` or `cuda:N`; what there is of it is for the engine to find out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device: expected `auto`, `cpu`, `cuda` or `cuda:N` with the number of a GPU")]
pub struct InvalidDevice(pub String);

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn cpu() -> Self {
        Self("cpu".to_owned())
    }

    pub(crate) fn cuda(number: Option<u32>) -> Self {
        Self(number.map_or_else(|| "cuda".to_owned(), |number| format!("cuda:{number}")))
    }
}

impl FromStr for DeviceName {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbered = |text: &str| {
            text.strip_prefix("cuda:").is_some_and(|number| {
                number.bytes().all(|b| b.is_ascii_digit()) && number.parse::<i32>().is_ok()
            })
        };
        if matches!(text, "auto" | "cpu" | "cuda") || numbered(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDevice(text.to_owned()))
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
