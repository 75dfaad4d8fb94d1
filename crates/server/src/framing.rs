//! Where one HTTP/1.1 request ends and the next begins, held to a single reading.
//!
//! What a proxy before us takes for one request must not be two to us. hyper reads what the
//! standard lets a server read: a line that ends without CR, a length beside a chunked body, a
//! length twice. Another reader may see other requests in the same bytes, and then somebody's
//! body is somebody else's request. So the bytes are followed on their way to hyper, and a head
//! (or the fields behind a chunked body) that can be read in two ways is spoilt before it is
//! complete: hyper meets a byte that no field may have, answers 400, and closes. hyper has no setting for it, and its own head, once read,
//! does not show any more what was left out of it.
//!
//! Where hyper is as strict (white space around names, folded lines, chunks that do not add up),
//! the bytes are left to it.

use memchr::memchr;

/// The bytes of one connection, followed from request to request.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    place: Place,
    line: Line,
    head: Head,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A request's first line, or an empty one before it.
    #[default]
    Start,
    /// A field of its head, or the empty line behind it.
    Fields,
    /// Its body; so much of it remains.
    Content(u64),
    /// The length of a chunk.
    ChunkSize,
    /// A chunk and its line end; so much remains.
    Chunk(u64),
    /// A field behind the last chunk, or the empty line.
    Trailers,
    /// Nothing that matters any more: hyper will end the connection here.
    Given,
}

/// What the head says about the body.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
}

/// A head that can be read in two ways.
#[derive(Debug, PartialEq, Eq)]
struct Ambiguous;

impl Framing {
    /// Whether a head is to come, or the rest of one.
    pub(crate) fn is_before_body(&self) -> bool {
        matches!(self.place, Place::Start | Place::Fields)
    }

    /// How much is still to be received of a body that says its length in its head.
    pub(crate) fn content_left(&self) -> u64 {
        match self.place {
            Place::Content(remaining) => remaining,
            _ => 0,
        }
    }

    /// Follows bytes that were received, and spoils a head among them that is ambiguous. Tells
    /// whether it did.
    pub(crate) fn follow(&mut self, bytes: &mut [u8]) -> bool {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.place {
                Place::Given => return false,
                Place::Content(remaining) => {
                    let passed = remaining.min(rest.len() as u64);
                    at += passed as usize;
                    let left = remaining - passed;
                    self.place = if left == 0 { Place::Start } else { Place::Content(left) };
                }
                Place::Chunk(remaining) => {
                    let passed = remaining.min(rest.len() as u64);
                    at += passed as usize;
                    let left = remaining - passed;
                    self.place = if left == 0 { Place::ChunkSize } else { Place::Chunk(left) };
                }
                Place::Start | Place::Fields | Place::ChunkSize | Place::Trailers => {
                    let Some(end) = memchr(b'\n', rest) else {
                        self.line.extend(rest);
                        return false;
                    };
                    self.line.extend(&rest[..end]);
                    at += end + 1;
                    match self.judge() {
                        Ok(place) => self.place = place,
                        Err(Ambiguous) => {
                            // Behind CR or not: no field ends so.
                            bytes[at - 1] = 0;
                            self.place = Place::Given;
                            return true;
                        }
                    }
                    self.line.clear();
                }
            }
        }
        false
    }

    /// Where the line that has just ended leads.
    fn judge(&mut self) -> Result<Place, Ambiguous> {
        let content = self.line.content();
        match self.place {
            Place::Start | Place::Fields => match (self.place, content.ok_or(Ambiguous)?) {
                (Place::Start, b"") => Ok(Place::Start),
                (Place::Fields, b"") => Ok(std::mem::take(&mut self.head).body()),
                (Place::Start, _) => Ok(Place::Fields),
                (_, field) => self.head.note(field, self.line.is_whole()).map(|()| Place::Fields),
            },
            Place::ChunkSize => Ok(content.map_or(Place::Given, chunk)),
            Place::Trailers => Ok(match content.ok_or(Ambiguous)? {
                b"" => Place::Start,
                _ => Place::Trailers,
            }),
            other => Ok(other),
        }
    }
}

impl Head {
    /// `field` is the beginning of a line, or where `is_whole`, all of it.
    fn note(&mut self, field: &[u8], is_whole: bool) -> Result<(), Ambiguous> {
        let value = |name: &[u8]| {
            let (start, rest) = field.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(rest.trim_ascii())
        };
        let states_body = self.is_chunked || self.length.is_some();
        if let Some(value) = value(b"content-length:") {
            if states_body || !is_whole {
                return Err(Ambiguous);
            }
            // A length that is none is refused by hyper.
            self.length = Some(number(value, 10).unwrap_or(0));
        } else if let Some(value) = value(b"transfer-encoding:") {
            if states_body || !is_whole || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous);
            }
            self.is_chunked = true;
        }
        Ok(())
    }

    /// What follows the head.
    fn body(self) -> Place {
        match self.length {
            _ if self.is_chunked => Place::ChunkSize,
            None | Some(0) => Place::Start,
            Some(length) => Place::Content(length),
        }
    }
}

/// What follows the line that states a chunk's size.
fn chunk(line: &[u8]) -> Place {
    const LINE_END: u64 = 2;
    let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
    match number(size.trim_ascii_end(), 16) {
        Some(0) => Place::Trailers,
        Some(size) => size.checked_add(LINE_END).map_or(Place::Given, Place::Chunk),
        None => Place::Given,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_plain = digits.first().is_some_and(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    u64::from_str_radix(text, radix).ok()
}

/// The beginning of a line, and how it ends.
#[derive(Debug)]
struct Line {
    kept: [u8; Self::KEPT],
    length: usize,
    last: u8,
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; Self::KEPT], length: 0, last: 0 }
    }
}

impl Line {
    /// Enough for every line that says where a body ends.
    const KEPT: usize = 64;

    fn extend(&mut self, bytes: &[u8]) {
        let kept = &mut self.kept[self.length.min(Self::KEPT)..];
        let fits = kept.len().min(bytes.len());
        kept[..fits].copy_from_slice(&bytes[..fits]);
        self.length = self.length.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn clear(&mut self) {
        self.length = 0;
        self.last = 0;
    }

    fn is_whole(&self) -> bool {
        self.length <= Self::KEPT
    }

    /// Its beginning, without the CR; `None` where there is no CR.
    fn content(&self) -> Option<&[u8]> {
        let length = self.length.checked_sub(1).filter(|_| self.last == b'\r')?;
        Some(&self.kept[..length.min(Self::KEPT)])
    }
}

#[cfg(test)]
mod tests;
