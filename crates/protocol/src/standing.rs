//! How a request stands to others: which of them go before it, and which it continues.
//!
//! REST and gRPC carry the same parameters in types of their own: `priority`, `sequence_id`,
//! `sequence_start` and `sequence_end`. What these mean is decided here, once.

use std::num::NonZeroU32;

use inferring_types::{InvalidSequenceId, SequenceId, SequenceStep};

/// The level of urgency that a number means: none where it is 0. A level that no model has stands
/// for a model's last one, so that it may be cut to the largest.
pub(crate) fn priority(level: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(level).unwrap_or(u32::MAX))
}

/// What the parameters about a sequence say, in whichever order they come.
#[derive(Debug, Default)]
pub(crate) struct SequenceParameters {
    pub(crate) id: Option<SequenceId>,
    pub(crate) start: bool,
    pub(crate) end: bool,
}

impl SequenceParameters {
    /// The request's place in a sequence; none without an id, which is how clients write that
    /// know no sequences.
    pub(crate) fn step(self) -> Option<SequenceStep> {
        let Self { id, start, end } = self;
        id.map(|id| SequenceStep { id, start, end })
    }
}

/// The sequence that a number names: its decimal text, and none where it is 0.
pub(crate) fn sequence_of_number(number: u64) -> Option<SequenceId> {
    let mut digits = itoa::Buffer::new();
    let text = digits.format(number);
    (number != 0).then(|| text.parse().expect("a number has at most 20 digits"))
}

/// The sequence that a text names: none where it is empty.
pub(crate) fn sequence_of_text(text: &str) -> Result<Option<SequenceId>, InvalidSequenceId> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_text_name_one_sequence() {
        for (number, text) in [(7, "7"), (u64::MAX, "18446744073709551615"), (0, "")] {
            assert_eq!(Ok(sequence_of_number(number)), sequence_of_text(text));
        }
        assert!(sequence_of_text(&"x".repeat(129)).is_err());
    }

    #[test]
    fn a_level_beyond_all_is_the_largest() {
        let levels = [0, 1, u64::from(u32::MAX), u64::MAX].map(priority);
        let levels = levels.map(|level| level.map(NonZeroU32::get));
        assert_eq!(levels, [None, Some(1), Some(u32::MAX), Some(u32::MAX)]);
    }
}
