//! A configuration as a tree of named values, before anybody knows what the names mean.
//!
//! Triton's configurations come in two spellings, protobuf's text format and JSON. Both are read
//! into this tree, so that there is one place that says what a key means.

use std::fmt;

/// Where something stands in a text, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character within the line.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Named values, in the order in which they were written. A name may come more than once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// The values and their names.
    pub fields: Vec<Field>,
}

/// A value under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The name, as written.
    pub name: String,
    /// The value.
    pub value: Value,
    /// Where the name stands, where the reader of the text knew.
    pub at: Option<Position>,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Named values.
    Message(Message),
    /// Several values, written as one list.
    List(Vec<Value>),
    /// A quoted text: any bytes.
    Text(Vec<u8>),
    /// A word without quotes: `true`, `inf`, or the name of an enum's value.
    Word(String),
    /// A whole number that fits in 64 bits, signed or not.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// JSON's `null`: as if the key were not there.
    Null,
}

impl Value {
    /// What kind of value it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "a message",
            Self::List(_) => "a list",
            Self::Text(_) => "a text",
            Self::Word(_) => "a word",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Null => "null",
        }
    }
}
