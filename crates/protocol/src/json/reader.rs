//! A cursor over a JSON document: strict, bounded in depth, and with a position in every error.

use std::borrow::Cow;

use super::number::{Decimal, NoNumber};

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}JSON at byte {position}: {problem}", if *.is_malformed { "malformed " } else { "" })]
pub(crate) struct JsonError {
    pub(crate) position: usize,
    pub(crate) problem: Cow<'static, str>,
    /// Whether the text is wrong in itself; else it means what is not possible here.
    pub(crate) is_malformed: bool,
}

impl JsonError {
    /// The same error, and in what it was found.
    #[cold]
    pub(crate) fn within(self, place: impl std::fmt::Display) -> Self {
        Self { problem: format!("{place}: {}", self.problem).into(), ..self }
    }
}

/// Reads a document from front to back.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// Deeper nesting is refused, so that hostile input cannot exhaust the stack.
    pub(crate) const DEPTH_MAX: usize = 64;

    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The cursor over a part of the document that [`Self::skip_data`] passed over.
    pub(crate) fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    /// The same for `text`, which was just passed.
    pub(crate) fn misfit_before(&self, text: &[u8], problem: String) -> JsonError {
        JsonError { position: self.position - text.len(), ..self.misfit(problem) }
    }

    /// How many bytes there are from here to the end.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn error(&self, problem: impl Into<Cow<'static, str>>) -> JsonError {
        JsonError { position: self.position, problem: problem.into(), is_malformed: true }
    }

    /// The error that what stands here is well written and yet not possible.
    pub(crate) fn misfit(&self, problem: impl Into<Cow<'static, str>>) -> JsonError {
        JsonError { is_malformed: false, ..self.error(problem) }
    }

    /// The next byte that is not white space, without passing it.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.position) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.position += 1;
        }
        None
    }

    /// Passes `expected` if it comes next.
    #[inline]
    pub(crate) fn accept(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.position += usize::from(found);
        found
    }

    /// Passes `expected`, which must come next.
    #[inline]
    pub(crate) fn expect(&mut self, expected: u8, what: &'static str) -> Result<(), JsonError> {
        if self.accept(expected) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// Calls `member` with each key of an object and the cursor before its value.
    ///
    /// Keys are bytes: they are only compared, and known ones are ASCII.
    pub(crate) fn object(
        &mut self,
        what: &'static str,
        mut member: impl FnMut(&[u8], &mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.expect(b'{', what)?;
        if self.accept(b'}') {
            return Ok(());
        }
        loop {
            let key = match self.raw_string("a key in double quotes")? {
                RawString::Plain(key) => Cow::Borrowed(key),
                RawString::Escaped { start } => Cow::Owned(self.unescape(start)?.into_bytes()),
            };
            self.expect(b':', "`:` after the key")?;
            member(&key, self)?;
            if !self.accept(b',') {
                return self.expect(b'}', "`,` or `}`");
            }
        }
    }

    /// Calls `element` with the cursor before each element of an array.
    pub(crate) fn array(
        &mut self,
        what: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.expect(b'[', what)?;
        if self.accept(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.accept(b',') {
                return self.expect(b']', "`,` or `]`");
            }
        }
    }

    /// A string; borrowed where it has no escapes.
    pub(crate) fn string(&mut self, what: &'static str) -> Result<Cow<'a, str>, JsonError> {
        match self.raw_string(what)? {
            RawString::Plain(text) => std::str::from_utf8(text)
                .map(Cow::Borrowed)
                .map_err(|_| self.error("the string is not UTF-8")),
            RawString::Escaped { start } => self.unescape(start).map(Cow::Owned),
        }
    }

    /// A non-negative integer.
    pub(crate) fn unsigned(&mut self, what: &'static str) -> Result<u64, JsonError> {
        if self.peek().is_none_or(|byte| !byte.is_ascii_digit()) {
            return Err(self.expected(what));
        }
        let number = self.number()?;
        number.to_integer().ok_or_else(|| {
            let text = number.text();
            self.misfit_before(text, format!("expected {what}, got {}", text.escape_ascii()))
        })
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, JsonError> {
        if self.peek() == Some(b't') && self.literal("true") {
            Ok(true)
        } else if self.peek() == Some(b'f') && self.literal("false") {
            Ok(false)
        } else {
            Err(self.expected(what))
        }
    }

    /// A number, which must come next and be spelled as JSON spells it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "called per number: its result stays in registers")]
    pub(crate) fn number(&mut self) -> Result<Decimal<'a>, JsonError> {
        self.peek();
        match Decimal::read(&self.bytes[self.position..]) {
            Ok(number) => {
                self.position += number.text().len();
                Ok(number)
            }
            Err(problem) => Err(self.no_number(problem)),
        }
    }

    #[cold]
    fn no_number(&mut self, problem: NoNumber) -> JsonError {
        match problem {
            NoNumber::Other => self.expected("a number"),
            NoNumber::CutOff(problem) => self.error(problem),
        }
    }

    /// NaN or an infinity, as programs write them that JSON does not stop.
    #[cold]
    pub(crate) fn non_finite(&mut self) -> Option<f64> {
        self.peek();
        [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)]
            .into_iter()
            .find_map(|(text, value)| self.literal(text).then_some(value))
    }

    /// Passes over any value.
    pub(crate) fn skip_value(&mut self) -> Result<(), JsonError> {
        self.skip(0, Self::no_exception)
    }

    /// Passes over a value in which NaN and infinities may stand, and tells where it stood.
    pub(crate) fn skip_data(&mut self) -> Result<usize, JsonError> {
        self.peek();
        let start = self.position;
        self.skip(0, |cursor| cursor.non_finite().is_some())?;
        Ok(start)
    }

    /// Checks that nothing but white space follows.
    pub(crate) fn finish(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("more text after the end of the document")),
        }
    }

    /// "expected X, got Y" for what comes next.
    #[cold]
    pub(crate) fn expected(&mut self, what: &str) -> JsonError {
        let next = self.peek();
        let rest = &self.bytes[self.position..];
        let got: Cow<'static, str> = match next {
            None => "the end of the text".into(),
            Some(b'"') => "a string".into(),
            Some(b'{') => "an object".into(),
            Some(b'[') => "an array".into(),
            Some(b't' | b'f') => "a boolean".into(),
            Some(b'n') if rest.starts_with(b"null") => "null".into(),
            Some(b'N' | b'n') if rest[..rest.len().min(3)].eq_ignore_ascii_case(b"nan") => {
                "NaN, which JSON does not have".into()
            }
            Some(b'I') => "Infinity, which JSON does not have".into(),
            Some(b'-') if rest.starts_with(b"-I") => "-Infinity, which JSON does not have".into(),
            Some(b'-') => "a negative number".into(),
            Some(b'0'..=b'9') => "a number".into(),
            Some(byte) => format!("`{}`", byte.escape_ascii()).into(),
        };
        self.error(format!("expected {what}, got {got}"))
    }

    fn literal(&mut self, text: &'static str) -> bool {
        let found = self.bytes[self.position..].starts_with(text.as_bytes());
        self.position += if found { text.len() } else { 0 };
        found
    }

    /// Passes over a value; what is no value of JSON may be passed over by `exception`.
    fn skip(&mut self, depth: usize, exception: fn(&mut Self) -> bool) -> Result<(), JsonError> {
        if depth > Self::DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {} levels", Self::DEPTH_MAX)));
        }
        match self.peek() {
            Some(b'{') => self.object("an object", |_, cursor| cursor.skip(depth + 1, exception)),
            Some(b'[') => self.array("an array", |cursor| cursor.skip(depth + 1, exception)),
            Some(b'"') => match self.raw_string("a string")? {
                RawString::Plain(_) => Ok(()),
                RawString::Escaped { start } => self.unescape(start).map(drop),
            },
            Some(b't') if self.literal("true") => Ok(()),
            Some(b'f') if self.literal("false") => Ok(()),
            Some(b'n') if self.literal("null") => Ok(()),
            Some(b'0'..=b'9') => self.number().map(drop),
            _ if exception(self) => Ok(()),
            Some(b'-') => self.number().map(drop),
            _ => Err(self.expected("a value")),
        }
    }

    fn no_exception(&mut self) -> bool {
        false
    }

    /// Passes over a string without escapes, or stops at its first escape.
    #[inline]
    fn raw_string(&mut self, what: &'static str) -> Result<RawString<'a>, JsonError> {
        self.expect(b'"', what)?;
        let start = self.position;
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|&byte| STOPS_STRING[usize::from(byte)]);
        self.position += length.unwrap_or(rest.len());
        match self.bytes.get(self.position) {
            Some(b'"') => {
                self.position += 1;
                Ok(RawString::Plain(&self.bytes[start..self.position - 1]))
            }
            Some(b'\\') => Ok(RawString::Escaped { start }),
            Some(_) => Err(self.error("a control character in a string")),
            None => Err(self.error("the string does not end")),
        }
    }

    /// Reads the string whose text begins at `start` and passes over it. Escapes are rare in
    /// keys and ids, so they take the general parser.
    #[cold]
    fn unescape(&mut self, start: usize) -> Result<String, JsonError> {
        let quoted = &self.bytes[start - 1..];
        let mut stream = serde_json::Deserializer::from_slice(quoted).into_iter::<String>();
        match stream.next() {
            Some(Ok(text)) => {
                self.position = start - 1 + stream.byte_offset();
                Ok(text)
            }
            _ => Err(self.error("the string has a malformed escape or does not end")),
        }
    }
}

/// A string as it stands in the document.
enum RawString<'a> {
    /// Its text, without the quotes.
    Plain(&'a [u8]),
    /// It has escapes; its text begins at `start`, and the cursor is at the first of them.
    Escaped { start: usize },
}

/// The bytes at which a run of plain text in a string ends.
static STOPS_STRING: [bool; 256] = {
    let mut stops = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        stops[control] = true;
        control += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skips(text: &str) -> bool {
        let mut cursor = Cursor::new(text.as_bytes());
        cursor.skip_value().and_then(|_| cursor.finish()).is_ok()
    }

    #[test]
    fn accepts_exactly_what_json_allows() {
        for text in [
            "{}",
            "[]",
            " [1, -0.5e+3 , \"a\\u00e9\\n\", null, true, {\"k\":[{}]}] ",
            "0",
            "-0",
            "1E5",
            "\"\"",
        ] {
            assert!(skips(text), "{text}");
        }
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "Infinity",
            "-",
            "tru",
            "\"\\x\"",
            "\"a",
            "[1] 2",
            "\"a\nb\"",
            "\u{a0}1",
        ] {
            assert!(!skips(text), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(skips(&format!("{}{}", "[".repeat(64), "]".repeat(64))));
        assert!(!skips(&"[".repeat(1_000_000)));
    }

    #[test]
    fn an_error_says_where_and_what() {
        let mut cursor = Cursor::new(b"{\"a\": NaN}");
        let error = cursor.skip_value().unwrap_err();
        assert_eq!(
            error.to_string(),
            "malformed JSON at byte 6: expected a value, got NaN, which JSON does not have",
        );
    }

    #[test]
    fn escapes_in_strings_are_read() {
        let mut cursor = Cursor::new(br#" "a\"\u0062" , 1"#);
        assert_eq!(cursor.string("a string").unwrap(), "a\"b");
        assert!(cursor.accept(b','));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_any_text(text in "[\\[\\]{},:\"0-9eE.+\\-a-c\\\\ truefalsn]{0,24}") {
            let oracle = serde_json::from_str::<serde_json::Value>(&text);
            // A number out of range is well-formed here and refused where a datatype is known.
            let out_of_range = oracle.as_ref().err().is_some_and(|e| e.to_string().contains("out of range"));
            if !out_of_range {
                prop_assert_eq!(skips(&text), oracle.is_ok());
            }
        }
    }
}
