//! Protobuf's text format, read without a schema.
//!
//! `config.pbtxt` is a text that Triton reads with its message `ModelConfig`. Reading it by that
//! schema would refuse every key of a newer Triton; here anything that is well formed is read,
//! and the interpreter reports what it does not know. The grammar is the one of
//! <https://protobuf.dev/reference/protobuf/textformat-spec/>. Extensions and `Any` in brackets
//! are refused: no configuration of a model has them.
//!
//! `corpus/pbtxt` holds texts with what Google's own reader makes of them, and a test compares.

mod lexer;
mod parser;

use crate::tree::{Message, Position};

/// The longest text that is read, in bytes.
pub const LENGTH_MAX: usize = 1 << 20;

/// How deep messages may be nested; Google's readers stop at 100.
pub const DEPTH_MAX: usize = 64;

/// Why a text is not in protobuf's text format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    /// What is wrong there.
    pub problem: String,
}

/// Reads a text of at most [`LENGTH_MAX`] bytes; what it takes in memory is bounded by a
/// multiple of that.
///
/// # Errors
/// [`SyntaxError`] with the first place where the text cannot be what it should be.
pub fn parse(text: &[u8]) -> Result<Message, SyntaxError> {
    if text.len() > LENGTH_MAX {
        return Err(SyntaxError {
            at: Position { line: 1, column: 1 },
            problem: format!("{} bytes long, at most {LENGTH_MAX} are read", text.len()),
        });
    }
    parser::Parser::new(text)?.document()
}

#[cfg(test)]
mod tests;
