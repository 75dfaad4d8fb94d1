//! The members of a JSON object that say how a request stands to others.
//!
//! The protocol has them among a request's `parameters`, the plain form among its own fields.

use std::num::NonZeroU32;

use inferring_types::{InferRequest, SequenceId, SequenceStep};

use crate::json::reader::{Cursor, JsonError};
use crate::json::writer;
use crate::standing::{self, SequenceParameters};

/// What has been read of them.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) priority: Option<NonZeroU32>,
    sequence: SequenceParameters,
}

impl Standing {
    /// Reads the value of the member `key` where it is one of these; tells whether it was.
    pub(super) fn read_member(
        &mut self,
        key: &[u8],
        cursor: &mut Cursor<'_>,
    ) -> Result<bool, JsonError> {
        match key {
            b"priority" => self.priority = standing::priority(cursor.unsigned("a priority")?),
            b"sequence_id" => self.sequence.id = read_sequence_id(cursor)?,
            b"sequence_start" => self.sequence.start = cursor.boolean("true or false")?,
            b"sequence_end" => self.sequence.end = cursor.boolean("true or false")?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The request's place in a sequence, if it is in one.
    pub(super) fn sequence(self) -> Option<SequenceStep> {
        self.sequence.step()
    }
}

fn read_sequence_id(cursor: &mut Cursor<'_>) -> Result<Option<SequenceId>, JsonError> {
    const EXPECTED: &str = "the id of a sequence, as a number or a text";
    if cursor.peek() != Some(b'"') {
        return cursor.unsigned(EXPECTED).map(standing::sequence_of_number);
    }
    let start = cursor.clone();
    let text = cursor.string(EXPECTED)?;
    standing::sequence_of_text(&text).map_err(|error| start.misfit(error.to_string()))
}

/// Appends the members that a request needs, each with a comma before it.
pub(super) fn write_members(out: &mut Vec<u8>, request: &InferRequest) {
    if let Some(priority) = request.priority {
        out.extend_from_slice(b",\"priority\":");
        writer::integer(out, priority.get());
    }
    if let Some(SequenceStep { id, start, end }) = &request.sequence {
        out.extend_from_slice(b",\"sequence_id\":");
        writer::string(out, id.as_str());
        write_if(out, *start, b",\"sequence_start\":true");
        write_if(out, *end, b",\"sequence_end\":true");
    }
}

fn write_if(out: &mut Vec<u8>, is_set: bool, member: &[u8]) {
    if is_set {
        out.extend_from_slice(member);
    }
}
