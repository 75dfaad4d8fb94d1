//! Frames as they are sent.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::message::Head;
use super::{Answer, Ends, HEAD, Kind, MORE, PART_MAX, Request, WHOLE_NODE};
use crate::rest::Chunks;

/// What is still to be sent on a connection.
///
/// Messages that fit a frame are put behind one another, so that one write sends them all. Of
/// longer ones, of which there may be several, each gives a part in its turn.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Frames, ready to be written.
    ready: BytesMut,
    long: VecDeque<Long>,
    long_bytes: usize,
}

/// A message that is sent in parts.
#[derive(Debug)]
struct Long {
    kind: Kind,
    stream: u32,
    rest: VecDeque<Bytes>,
    length: usize,
}

impl Outbox {
    /// Sends a request.
    pub fn request(&mut self, stream: u32, request: &Request<'_>, body: Chunks) {
        self.message(Kind::Request, stream, request, body);
    }

    /// Sends an answer.
    pub fn answer(&mut self, stream: u32, answer: &Answer, body: Chunks) {
        self.message(Kind::Answer, stream, answer, body);
    }

    /// Says that nobody waits for an answer any more, of which no part is sent that has not been.
    pub fn cancel(&mut self, stream: u32) {
        if let Some(at) = self.long.iter().position(|long| long.stream == stream) {
            self.long_bytes -= self.long[at].length;
            self.long.remove(at);
        }
        frame(&mut self.ready, Kind::Cancel, stream, 0, 0);
    }

    /// Says that no request will be answered after `last`, here or at all.
    pub fn goaway(&mut self, last: u32, ends: Ends) {
        let flags = match ends {
            Ends::Connection => 0,
            Ends::Node => WHOLE_NODE,
        };
        frame(&mut self.ready, Kind::Goaway, last, flags, 0);
    }

    /// Whether all has been sent.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.long.is_empty()
    }

    /// Bytes that are still to be sent.
    pub fn len(&self) -> usize {
        self.ready.len() + self.long_bytes
    }

    /// What is to be written next; empty where all has been.
    pub fn unsent(&mut self) -> &[u8] {
        if self.ready.is_empty() {
            self.take_part();
        }
        &self.ready
    }

    /// Takes note that so many bytes of it were written.
    pub fn written(&mut self, count: usize) {
        self.ready.advance(count);
        if self.ready.is_empty() && self.ready.capacity() < PART_MAX / 4 {
            // Nothing refers to it: the next frames go to its beginning again.
            self.ready.reserve(PART_MAX / 4);
        }
    }

    fn message(&mut self, kind: Kind, stream: u32, head: &impl Head, body: Chunks) {
        let length = head.length() + body.length() as usize;
        if length <= PART_MAX {
            self.ready.reserve(HEAD + length);
            frame(&mut self.ready, kind, stream, 0, length);
            head.write(&mut self.ready);
            body.into_parts().for_each(|part| self.ready.put(part));
            return;
        }
        let mut first = BytesMut::with_capacity(head.length());
        head.write(&mut first);
        let rest = std::iter::once(first.freeze()).chain(body.into_parts()).collect();
        self.long_bytes += length;
        self.long.push_back(Long { kind, stream, rest, length });
    }

    /// Makes the next part of the long message whose turn it is ready.
    fn take_part(&mut self) {
        let Some(mut long) = self.long.pop_front() else { return };
        let length = long.length.min(PART_MAX);
        long.length -= length;
        self.long_bytes -= length;
        let flags = if long.length > 0 { MORE } else { 0 };
        self.ready.reserve(HEAD + length);
        frame(&mut self.ready, long.kind, long.stream, flags, length);
        let mut missing = length;
        while missing > 0 {
            let part = long.rest.front_mut().expect("their lengths add up to the message's");
            let piece = part.split_to(part.len().min(missing));
            missing -= piece.len();
            self.ready.put(piece);
            if part.is_empty() {
                long.rest.pop_front();
            }
        }
        if long.length > 0 {
            self.long.push_back(long);
        }
    }
}

fn frame(out: &mut BytesMut, kind: Kind, stream: u32, flags: u8, length: usize) {
    out.reserve(HEAD);
    out.put_u32_le(u32::try_from(length).expect("a part is far shorter"));
    out.put_u32_le(stream);
    out.put_u8(kind as u8);
    out.put_u8(flags);
}
