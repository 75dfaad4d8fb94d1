//! Frames as they are received.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};

use super::{Ends, HEAD, Kind, MORE, PART_MAX, STREAMS_MAX, WHOLE_NODE};

/// What the other side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole request.
    Request {
        /// Its stream.
        stream: u32,
        /// To be read as a [`Request`](super::Request).
        message: Bytes,
    },
    /// A whole answer.
    Answer {
        /// The stream of its request.
        stream: u32,
        /// To be read as an [`Answer`](super::Answer).
        message: Bytes,
    },
    /// A request or an answer that is longer than a message may be. It is not kept; what follows
    /// of it is passed over.
    TooLong {
        /// The stream of the request.
        stream: u32,
    },
    /// Nobody waits for the answer any more.
    Cancel {
        /// The stream of the request.
        stream: u32,
    },
    /// No request will be answered that comes after this one.
    Goaway {
        /// Its stream.
        last: u32,
        /// Whether that is so on every connection.
        ends: Ends,
    },
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is no frame of this version.
    #[error("expected a frame, got {what}")]
    Unknown {
        /// What came instead.
        what: &'static str,
    },
    /// All that has begun and not ended exceeds a limit.
    #[error("more than {limit} {what} of messages that have not ended")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
}

/// Puts messages together from the bytes of a connection.
#[derive(Debug)]
pub struct Inbox {
    /// What has been received and not looked at.
    received: BytesMut,
    /// The beginnings of messages; `None` of one that was given up.
    partial: HashMap<u32, Option<BytesMut>>,
    partial_bytes: usize,
    limits: Limits,
}

/// How much is received at most, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message.
    pub message: usize,
    /// All messages of a connection that have begun and not ended.
    pub connection: usize,
}

impl Inbox {
    /// Bytes for which there is room at least whenever some are received.
    const ROOM: usize = 16 * 1024;

    /// Of a connection of which nothing has been received.
    pub fn new(limits: Limits) -> Self {
        Self { received: BytesMut::new(), partial: HashMap::new(), partial_bytes: 0, limits }
    }

    /// Where bytes are to be received into.
    pub fn room(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < Self::ROOM / 4 {
            self.received.reserve(Self::ROOM);
        }
        &mut self.received
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_amid(&self) -> bool {
        !self.received.is_empty() || !self.partial.is_empty()
    }

    /// Whether a message of that stream has begun to come.
    pub fn has_begun(&self, stream: u32) -> bool {
        self.partial.contains_key(&stream)
    }

    /// The next thing said, or `None` where more has to be received first.
    ///
    /// # Errors
    /// [`FrameError`], after which nothing that follows has a meaning.
    pub fn event(&mut self) -> Result<Option<Event>, FrameError> {
        while let Some(&head) = self.received.first_chunk::<HEAD>() {
            let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = head;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let stream = u32::from_le_bytes([s0, s1, s2, s3]);
            let kind = Kind::of(kind).ok_or(FrameError::Unknown { what: "an unknown kind" })?;
            if length > PART_MAX {
                return Err(FrameError::Unknown { what: "one that is too long" });
            }
            if self.received.len() < HEAD + length {
                return Ok(None);
            }
            self.received.advance(HEAD);
            let payload = self.received.split_to(length).freeze();
            match kind {
                Kind::Cancel => {
                    self.forget(stream);
                    return Ok(Some(Event::Cancel { stream }));
                }
                Kind::Goaway => {
                    let is_node = flags & WHOLE_NODE != 0;
                    let ends = if is_node { Ends::Node } else { Ends::Connection };
                    return Ok(Some(Event::Goaway { last: stream, ends }));
                }
                Kind::Request | Kind::Answer => {
                    let event = match self.join(stream, payload, flags & MORE != 0)? {
                        None => continue,
                        Some(Joined::TooLong) => Event::TooLong { stream },
                        Some(Joined::Whole(message)) if kind == Kind::Request => {
                            Event::Request { stream, message }
                        }
                        Some(Joined::Whole(message)) => Event::Answer { stream, message },
                    };
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }

    /// The message that ends with this part, or that it is too long. One that is whole is not
    /// copied, and of one that is too long nothing is kept.
    fn join(&mut self, stream: u32, part: Bytes, more: bool) -> Result<Option<Joined>, FrameError> {
        let Limits { message, connection } = self.limits;
        let begun = self.partial.get(&stream);
        if begun.is_none() && !more && part.len() <= message {
            return Ok(Some(Joined::Whole(part)));
        }
        let length = part.len() + begun.map_or(0, |begun| begun.as_ref().map_or(0, BytesMut::len));
        let was_given_up = matches!(begun, Some(None));
        if was_given_up || length > message {
            self.forget(stream);
            if more {
                self.partial.insert(stream, None);
                self.check_count()?;
            }
            return Ok((!was_given_up).then_some(Joined::TooLong));
        }
        self.partial_bytes += part.len();
        let entry = self.partial.entry(stream).or_insert_with(|| Some(BytesMut::new()));
        if let Some(begun) = entry {
            begun.extend_from_slice(&part);
        }
        if self.partial_bytes > connection {
            return Err(FrameError::TooMuch { what: "bytes", limit: connection });
        }
        self.check_count()?;
        Ok(if more { None } else { self.forget(stream).map(|all| Joined::Whole(all.freeze())) })
    }

    fn check_count(&self) -> Result<(), FrameError> {
        if self.partial.len() > STREAMS_MAX {
            return Err(FrameError::TooMuch { what: "parts", limit: STREAMS_MAX });
        }
        Ok(())
    }

    fn forget(&mut self, stream: u32) -> Option<BytesMut> {
        let message = self.partial.remove(&stream)??;
        self.partial_bytes -= message.len();
        Some(message)
    }
}

/// What came of the parts of a message.
enum Joined {
    Whole(Bytes),
    TooLong,
}
