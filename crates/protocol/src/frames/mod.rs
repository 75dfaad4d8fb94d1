//! Many requests at a time on one connection, between a gateway and its workers.
//!
//! HTTP/1.1 carries one request at a time on a connection, so each costs both sides a read and a
//! write of its own, which is most of what a small request costs. Frames of many requests leave
//! in one write and arrive in one read (`docs/adr/0021-frames-on-the-hop.md`).
//!
//! Both sides open with the [`PREFACE`]; a worker says in the [`FIELD`] of its health that it
//! knows it. Then frames follow, all numbers little-endian:
//!
//! ```text
//! length: u32   bytes of the payload, at most PART_MAX
//! stream: u32   which request it belongs to; they ascend in the order in which they begin
//! kind:   u8    1 request, 2 answer, 3 cancel, 4 goaway
//! flags:  u8    1: another part of the same message follows; 2, with goaway: the worker takes no
//!               new requests on any connection
//! payload
//! ```
//!
//! A message longer than a frame comes in parts, between which those of other messages may come.
//! Whoever cancels hears no answer any more. A worker that wants no more says goaway with the last
//! stream that it will answer, and answers those up to it.

mod inbox;
mod message;
mod outbox;

use http::HeaderName;

pub use inbox::{Event, FrameError, Inbox, Limits};
pub use message::{Answer, Malformed, Request};
pub use outbox::Outbox;

/// What either side sends first. No request of HTTP begins so.
pub const PREFACE: &[u8] = b"INFERRING-FRAMES/2\r\n\r\n";

/// The field of a worker's health that tells which version of frames it knows.
pub const FIELD: HeaderName = HeaderName::from_static("x-inferring-frames");

/// The version that is spoken here.
pub const VERSION: &str = "2";

/// Requests that may be under way on a connection at a time.
pub const STREAMS_MAX: usize = 4096;

/// The last stream of a goaway that leaves out none.
pub const ALL_STREAMS: u32 = u32::MAX;

/// The longest payload: what one message may hold up the others for.
const PART_MAX: usize = 64 * 1024;

/// The bytes of a frame before its payload.
const HEAD: usize = 10;

/// Another part of the same message follows.
const MORE: u8 = 1;

/// The worker goes away, and not only the connection. Who does not know this flag passes over it.
const WHOLE_NODE: u8 = 2;

/// What comes to its end with a goaway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// This connection: it has become old.
    Connection,
    /// The node itself, as far as new requests are concerned: it drains.
    Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request = 1,
    Answer = 2,
    Cancel = 3,
    Goaway = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Request, Self::Answer, Self::Cancel, Self::Goaway]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
    }
}

#[cfg(test)]
mod tests;
