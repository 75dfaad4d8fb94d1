//! The head of a `.npy` file: magic bytes, version, and a Python dictionary as text.
//!
//! NumPy evaluates the dictionary as a Python literal. Only three keys and four kinds of value
//! can occur in it, so a parser of just these needs no recursion and refuses everything else.

use std::borrow::Cow;

use inferring_types::Shape;

use super::NpyError;
use super::item::Item;

const MAGIC: &[u8] = b"\x93NUMPY";

/// A longer header is refused: a shape and a type take a hundred bytes.
const LENGTH_MAX: usize = u16::MAX as usize;

/// More dimensions than NumPy itself has.
const RANK_MAX: usize = 64;

/// What a head says of the bytes that follow it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) item: Item,
    /// Whether elements stand column by column.
    pub(super) fortran_order: bool,
    pub(super) shape: Shape,
    /// Where the elements begin.
    pub(super) data_at: usize,
}

impl Header {
    pub(super) fn read(file: &[u8]) -> Result<Self, NpyError> {
        let rest = file.strip_prefix(MAGIC).ok_or(NpyError::NotNpy)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(NpyError::NotNpy)?;
        let (length, rest) = match version {
            [1, 0] => rest
                .split_first_chunk::<2>()
                .map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
            [2 | 3, 0] => rest.split_first_chunk::<4>().map(|(length, rest)| {
                (usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX), rest)
            }),
            &[major, minor] => return Err(NpyError::UnknownVersion { major, minor }),
        }
        .ok_or_else(|| malformed(file.len(), "the file ends within its header"))?;
        let text_at = file.len() - rest.len();
        if length > LENGTH_MAX {
            return Err(malformed(text_at, format!("longer than {LENGTH_MAX} bytes")));
        }
        let text = rest
            .get(..length)
            .ok_or_else(|| malformed(file.len(), "the file ends within its header"))?;
        Literal { text, position: 0, text_at }.header()
    }
}

/// Appends magic bytes, version and dictionary to an empty file, padded as NumPy does so that the
/// elements begin at a multiple of 64 bytes.
pub(super) fn write(item: Item, shape: &Shape) -> Vec<u8> {
    let sizes: Vec<_> = shape.dimensions().iter().map(ToString::to_string).collect();
    // Python writes a tuple of one with a comma.
    let comma = if sizes.len() == 1 { "," } else { "" };
    let sizes = sizes.join(", ");
    let mut text =
        format!("{{'descr': '{item}', 'fortran_order': False, 'shape': ({sizes}{comma}), }}");
    let before = MAGIC.len() + 2 + 2;
    let length = (before + text.len() + 1).next_multiple_of(64) - before;
    text.push_str(&" ".repeat(length - 1 - text.len()));
    text.push('\n');
    let length = u16::try_from(length).expect("a shape of few dimensions makes a short text");
    let mut file = Vec::new();
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(text.as_bytes());
    file
}

fn malformed(position: usize, problem: impl Into<Cow<'static, str>>) -> NpyError {
    NpyError::Header { position, problem: problem.into() }
}

/// A cursor over the dictionary's text.
struct Literal<'a> {
    text: &'a [u8],
    position: usize,
    /// Where the text begins in the file.
    text_at: usize,
}

impl<'a> Literal<'a> {
    fn header(mut self) -> Result<Header, NpyError> {
        let (mut item, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{', "`{`")?;
        while !self.accept(b'}') {
            let key_at = self.position;
            let key = self.string()?;
            self.expect(b':', "`:`")?;
            let repeated = match key {
                "descr" => item.replace(self.descriptor()?).is_some(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => return Err(malformed(self.text_at + key_at, "an unknown key")),
            };
            if repeated {
                return Err(malformed(self.text_at + key_at, "a key stands twice"));
            }
            if !self.accept(b',') {
                self.expect(b'}', "`,` or `}`")?;
                break;
            }
        }
        if self.peek().is_some() {
            return Err(self.error("more text behind the dictionary"));
        }
        let missing = |key: &str| malformed(self.text_at, format!("`{key}` is missing"));
        Ok(Header {
            item: item.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            data_at: self.text_at + self.text.len(),
        })
    }

    fn descriptor(&mut self) -> Result<Item, NpyError> {
        if matches!(self.peek(), Some(b'[' | b'(' | b'{')) {
            // A list of fields: as the item parser says of unnamed ones.
            return Item::parse("V");
        }
        Item::parse(self.string()?)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.peek().is_some() && self.text[self.position..].starts_with(word) {
                self.position += word.len();
                return Ok(value);
            }
        }
        Err(self.error("expected True or False"))
    }

    fn shape(&mut self) -> Result<Shape, NpyError> {
        self.expect(b'(', "a tuple of sizes")?;
        let mut sizes = Vec::new();
        while !self.accept(b')') {
            if sizes.len() == RANK_MAX {
                return Err(self.error(format!("more than {RANK_MAX} dimensions")));
            }
            sizes.push(self.size()?);
            if !self.accept(b',') {
                self.expect(b')', "`,` or `)`")?;
                break;
            }
        }
        Ok(Shape::new(sizes))
    }

    fn size(&mut self) -> Result<u64, NpyError> {
        self.peek();
        let rest = &self.text[self.position..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(self.error("expected a size that is not negative"));
        }
        let size = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok());
        let size = size.ok_or_else(|| self.error("a size of more than 64 bits"))?;
        self.position += digits;
        // Python 2 marked long integers.
        self.position += usize::from(rest.get(digits) == Some(&b'L'));
        Ok(size)
    }

    /// A string without escapes: nothing that the header may hold needs one.
    fn string(&mut self) -> Result<&'a str, NpyError> {
        let Some(quote @ (b'\'' | b'"')) = self.peek() else {
            return Err(self.error("expected a string"));
        };
        let text = self.text;
        let rest = &text[self.position + 1..];
        let length = rest.iter().position(|&byte| byte == quote || byte == b'\\');
        match length {
            Some(length) if rest[length] == quote => {
                let content = std::str::from_utf8(&rest[..length])
                    .map_err(|_| self.error("a string that is not UTF-8"))?;
                self.position += length + 2;
                Ok(content)
            }
            Some(_) => Err(self.error("a string with an escape")),
            None => Err(self.error("a string that does not end")),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.position) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.position += 1;
        }
        None
    }

    fn accept(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, expected: u8, what: &'static str) -> Result<(), NpyError> {
        if self.accept(expected) { Ok(()) } else { Err(self.error(format!("expected {what}"))) }
    }

    fn error(&self, problem: impl Into<Cow<'static, str>>) -> NpyError {
        malformed(self.text_at + self.position, problem)
    }
}
