//! JSON for tensors: read straight into typed bytes, written straight from them.
//!
//! A general parser would build a value per number; for an image that is 150,528 values made
//! only to be turned into four bytes each. The [`Cursor`](reader::Cursor) reads a document in
//! one pass, and [`values`] decodes the numbers where they stand.

pub(crate) mod reader;
pub(crate) mod values;
pub(crate) mod writer;
