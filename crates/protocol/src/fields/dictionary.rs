//! Dictionaries of structured fields (RFC 9651, 3.2): `name="text", count=3, word=token`.
//!
//! Members here are numbers, words and texts; parameters and inner lists have no use.

/// A dictionary while it is written.
#[derive(Default)]
pub(super) struct Writer(String);

impl Writer {
    /// A member that is a word.
    pub(super) fn word(&mut self, key: &str, word: &str) {
        self.key(key);
        self.0.push_str(word);
    }

    /// A member that is a number, where there is one.
    pub(super) fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.word(key, itoa::Buffer::new().format(number));
        }
    }

    /// A member that is any text: a string, or where it is not ASCII a display string.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let is_visible = |byte: u8| (0x20..0x7f).contains(&byte);
        if value.bytes().all(is_visible) {
            self.0.push('"');
            for symbol in value.chars() {
                if matches!(symbol, '"' | '\\') {
                    self.0.push('\\');
                }
                self.0.push(symbol);
            }
        } else {
            self.0.push_str("%\"");
            for byte in value.bytes() {
                match byte {
                    b'%' | b'"' => self.percent(byte),
                    byte if is_visible(byte) => self.0.push(char::from(byte)),
                    byte => self.percent(byte),
                }
            }
        }
        self.0.push('"');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(key);
        self.0.push('=');
    }

    fn percent(&mut self, byte: u8) {
        self.0.push('%');
        for digit in [byte >> 4, byte & 0xf] {
            self.0.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

/// The members of a dictionary in order, texts without their quotes; `None` where it is malformed.
pub(super) fn read(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = if let Some(after) = after.strip_prefix("%\"") {
            let end = after.find('"')?;
            (decoded(&after[..end])?, &after[end + 1..])
        } else if let Some(after) = after.strip_prefix('"') {
            unescaped(after)?
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim_end().to_owned(), &after[end..])
        };
        members.push((key, value));
        rest = match after.trim_start().strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.trim_start().is_empty() => "",
            None => return None,
        };
    }
    Some(members)
}

/// A string up to its closing quote, and what follows it.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut symbols = text.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(symbols.next()?.1),
            symbol => value.push(symbol),
        }
    }
    None
}

/// A display string's content.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_reads_back() {
        for text in ["worker_1", "", "a \"b\" \\ c, d=e", "größe \"50 %\"\n", "%20"] {
            let mut writer = Writer::default();
            writer.text("a", text);
            writer.number("b", Some(2));
            let written = writer.finish();
            assert!(written.is_ascii() && !written.contains('\n'), "{written}");
            let read = read(&written).unwrap();
            assert_eq!(read, [("a", text.to_owned()), ("b", "2".to_owned())], "{written}");
        }
    }

    #[test]
    fn what_is_malformed_is_not_read() {
        assert_eq!(read("").unwrap(), []);
        for text in ["a", "a=\"b", "a=\"b\"c", "a=%\"%f\"", "a=%\"%ff\"", "a=1, b", "a=\"\\"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
