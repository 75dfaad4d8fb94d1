//! Reads a protobuf message field by field, without holding it in memory.
//!
//! The file is whatever somebody put there: every length is held against the message around it
//! before anything is read or skipped, nesting has a limit, and a text that is wanted has one.
//! Where this reader and the engine's differ, this one refuses more.

use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// Messages within messages; the engine's parser stops at the same depth.
const DEPTH_MAX: u32 = 100;

/// A stream of fields, and where it stands.
pub(super) struct Reader<R> {
    stream: BufReader<R>,
    position: u64,
}

/// A message whose fields are being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    end: u64,
    depth: u32,
}

/// A field, by its number and what it holds.
pub(super) type Field = (u64, Content);

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// A number, read already; 0 where it is one of fixed length.
    Number(u64),
    /// As many bytes as are said: a text, a message or packed numbers. They are next.
    Bytes(Span),
}

/// Bytes that come next in the stream, until `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    end: u64,
    depth: u32,
}

/// Why a stream cannot be read.
#[derive(Debug)]
pub(super) enum WireError {
    /// The system's reason.
    Io(io::Error),
    /// It is no message.
    Malformed { problem: &'static str, position: u64 },
}

impl<R: Read + Seek> Reader<R> {
    /// A reader of a stream, and the message that fills it.
    ///
    /// # Errors
    /// The stream does not tell its length.
    pub(super) fn new(stream: R) -> Result<(Self, Message), WireError> {
        let mut stream = BufReader::new(stream);
        let end = stream.seek(SeekFrom::End(0)).map_err(WireError::Io)?;
        stream.rewind().map_err(WireError::Io)?;
        Ok((Self { stream, position: 0 }, Message { end, depth: 0 }))
    }

    /// The next of the numbers that a list of them holds; `None` behind the last one.
    pub(super) fn number(&mut self, list: Message) -> Result<Option<u64>, WireError> {
        if self.position >= list.end { Ok(None) } else { self.varint(list.end).map(Some) }
    }

    /// The next field of `message`; `None` behind the last one. Bytes that it holds must be
    /// entered, taken or skipped before the next call.
    pub(super) fn field(&mut self, message: Message) -> Result<Option<Field>, WireError> {
        if self.position >= message.end {
            return Ok(None);
        }
        let start = self.position;
        let tag = self.varint(message.end)?;
        let malformed = |problem| WireError::Malformed { problem, position: start };
        let number = tag >> 3;
        if number == 0 || tag > u64::from(u32::MAX) {
            return Err(malformed("a field without a number"));
        }
        let content = match tag & 7 {
            0 => Content::Number(self.varint(message.end)?),
            1 => self.fixed(8, message.end)?,
            2 => {
                let length = self.varint(message.end)?;
                let end = self.position.checked_add(length).filter(|end| *end <= message.end);
                let end = end.ok_or(malformed("a field that goes on behind the end"))?;
                Content::Bytes(Span { end, depth: message.depth })
            }
            5 => self.fixed(4, message.end)?,
            _ => return Err(malformed("a field of no known kind")),
        };
        Ok(Some((number, content)))
    }

    /// The message that these bytes are.
    pub(super) fn enter(&self, span: Span) -> Result<Message, WireError> {
        if span.depth >= DEPTH_MAX {
            let position = self.position;
            return Err(WireError::Malformed { problem: "messages nested too deeply", position });
        }
        Ok(Message { end: span.end, depth: span.depth + 1 })
    }

    /// The bytes, where they are at most `length_max`; skipped and `None` where they are more.
    pub(super) fn take(
        &mut self,
        span: Span,
        length_max: usize,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let length = usize::try_from(span.end - self.position).ok();
        let Some(length) = length.filter(|length| *length <= length_max) else {
            self.skip(span)?;
            return Ok(None);
        };
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map_err(|error| self.broken(error))?;
        self.position = span.end;
        Ok(Some(bytes))
    }

    /// Passes over the bytes.
    pub(super) fn skip(&mut self, span: Span) -> Result<(), WireError> {
        let offset = i64::try_from(span.end - self.position).unwrap_or(i64::MAX);
        self.stream.seek_relative(offset).map_err(WireError::Io)?;
        self.position = span.end;
        Ok(())
    }

    fn fixed(&mut self, length: u64, end: u64) -> Result<Content, WireError> {
        if end - self.position < length {
            let position = self.position;
            return Err(WireError::Malformed { problem: "a number that is cut off", position });
        }
        self.skip(Span { end: self.position + length, depth: 0 })?;
        Ok(Content::Number(0))
    }

    /// A number of up to ten bytes; bits beyond 64 are dropped, as everywhere.
    fn varint(&mut self, end: u64) -> Result<u64, WireError> {
        let start = self.position;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            if self.position >= end {
                break;
            }
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(|error| self.broken(error))?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed { problem: "a number that does not end", position: start })
    }

    /// The file became shorter while it was read, or the system has another reason.
    fn broken(&self, error: io::Error) -> WireError {
        match error.kind() {
            ErrorKind::UnexpectedEof => {
                WireError::Malformed { problem: "the end of the file", position: self.position }
            }
            _ => WireError::Io(error),
        }
    }
}
