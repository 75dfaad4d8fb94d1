//! Requests that follow each other: a model with state answers each in the light of those before.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::TensorName;

/// The id that a client gives a sequence of requests. A number is its decimal text: `7` and
/// `"7"` are one sequence.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SequenceId(Arc<str>);

/// A text that cannot be the id of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a sequence takes 1 to {max} bytes, got {0}", max = SequenceId::MAX_LENGTH)]
pub struct InvalidSequenceId(pub usize);

impl SequenceId {
    /// The longest id, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SequenceId {
    type Err = InvalidSequenceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=Self::MAX_LENGTH).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSequenceId(text.len()))
        }
    }
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A request's place in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceStep {
    /// Which sequence.
    pub id: SequenceId,
    /// Whether it begins here: the state is that of a model that has heard nothing.
    pub start: bool,
    /// Whether it ends here: the state is forgotten after the answer.
    pub end: bool,
}

/// How a model with state is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSpec {
    /// How long a sequence may be without a request before it is forgotten.
    pub idle_timeout: Duration,
    /// Sequences at most; one of several rows counts as so many.
    pub count_max: u64,
    /// The parts of the state.
    pub states: Vec<StateSpec>,
}

/// One part of a model's state: what the output gives is what the input takes of the next
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// The input.
    pub input: TensorName,
    /// The output.
    pub output: TensorName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_byte_at_least_and_few_at_most() {
        assert_eq!("7".parse::<SequenceId>().unwrap().as_str(), "7");
        assert_eq!("".parse::<SequenceId>(), Err(InvalidSequenceId(0)));
        assert_eq!("x".repeat(129).parse::<SequenceId>(), Err(InvalidSequenceId(129)));
    }
}
