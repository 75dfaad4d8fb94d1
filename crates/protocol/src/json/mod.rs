//! JSON for tensors: read straight into typed bytes, written straight from them.
//!
//! A general parser would build a value per number; for an image that is 150,528 values made
//! only to be turned into four bytes each. The [`Cursor`](reader::Cursor) reads a document in
//! one pass, [`values`] decodes arrays where they stand, and [`number`] rounds.

mod number;
pub(crate) mod reader;
pub(crate) mod values;
pub(crate) mod writer;

/// A number of things: `1 element`, `2 elements`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}
