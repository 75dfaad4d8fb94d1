//! Cuts a text into tokens.

use super::SyntaxError;
use crate::tree::Position;

/// The smallest part of a text that means something.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or a word.
    Word(String),
    /// The content of one quoted text; several in a row are joined by the parser.
    Text(Vec<u8>),
    /// A whole number without its sign.
    Integer(u64),
    /// A number that is written as a float, or a decimal one too big to be whole.
    Float(f64),
    /// One of `: { } < > [ ] , ; -`.
    Mark(char),
    /// The end of the text.
    End,
}

impl Token {
    /// What it looks like, for a message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Text(_) => "a text".to_owned(),
            Self::Integer(_) | Self::Float(_) => "a number".to_owned(),
            Self::Mark(mark) => format!("`{mark}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    offset: usize,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, offset: 0, at: Position { line: 1, column: 1 } }
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(Position, Token), SyntaxError> {
        self.skip_blank();
        let at = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some(byte) if is_word_start(byte) => self.word(),
            Some(b'0'..=b'9') => self.number(at)?,
            Some(b'.') if self.text.get(self.offset + 1).is_some_and(u8::is_ascii_digit) => {
                self.number(at)?
            }
            Some(quote @ (b'"' | b'\'')) => self.quoted(at, quote)?,
            Some(mark @ (b':' | b'{' | b'}' | b'<' | b'>' | b'[' | b']' | b',' | b';' | b'-')) => {
                self.advance();
                Token::Mark(char::from(mark))
            }
            Some(byte) => {
                let byte = byte.escape_ascii();
                return Err(problem(at, format!("`{byte}` does not belong here")));
            }
        };
        Ok((at, token))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn advance(&mut self) {
        match self.text[self.offset] {
            b'\n' => self.at = Position { line: self.at.line + 1, column: 1 },
            // The later bytes of a character of UTF-8 take no column of their own.
            0x80..=0xBF => {}
            _ => self.at.column += 1,
        }
        self.offset += 1;
    }

    fn advance_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.offset;
        while self.peek().is_some_and(&wanted) {
            self.advance();
        }
        &self.text[start..self.offset]
    }

    /// White space and comments.
    fn skip_blank(&mut self) {
        loop {
            self.advance_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0B | 0x0C));
            if self.peek() != Some(b'#') {
                return;
            }
            self.advance_while(|byte| byte != b'\n');
        }
    }

    fn word(&mut self) -> Token {
        let word = self.advance_while(is_word);
        Token::Word(word.iter().map(|&byte| char::from(byte)).collect())
    }

    fn number(&mut self, at: Position) -> Result<Token, SyntaxError> {
        // All that could belong to a number is taken first, so that `1.2.3` and `12ab` are
        // errors and not two tokens. A sign belongs only behind an exponent's `e`.
        let start = self.offset;
        let hexadecimal = self.text[start..].get(1).is_some_and(|x| x.eq_ignore_ascii_case(&b'x'));
        let mut last = 0;
        while let Some(byte) = self.peek() {
            let exponent = !hexadecimal && matches!(last, b'e' | b'E');
            let sign = exponent && matches!(byte, b'+' | b'-');
            if !(is_word(byte) || byte == b'.' || sign) {
                break;
            }
            last = byte;
            self.advance();
        }
        let text: String =
            self.text[start..self.offset].iter().map(|&byte| char::from(byte)).collect();
        whole_number(&text)
            .or_else(|| float(&text))
            .ok_or_else(|| problem(at, format!("`{text}` is no number, or too large a one")))
    }

    fn quoted(&mut self, at: Position, quote: u8) -> Result<Token, SyntaxError> {
        self.advance();
        let mut content = Vec::new();
        loop {
            match self.peek() {
                None | Some(b'\n') => {
                    let quote = char::from(quote);
                    return Err(problem(at, format!("no {quote} ends this text on its line")));
                }
                Some(b'\\') => self.escape(&mut content)?,
                Some(byte) => {
                    self.advance();
                    if byte == quote {
                        return Ok(Token::Text(content));
                    }
                    content.push(byte);
                }
            }
        }
    }

    /// One escape sequence, its backslash included.
    fn escape(&mut self, content: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let at = self.at;
        self.advance();
        let unknown = || problem(at, "this is no escape sequence".to_owned());
        let letter = self.peek().ok_or_else(unknown)?;
        if letter.is_ascii_digit() {
            let value = self.digits(8, 1, 3).ok_or_else(unknown)?;
            content.push(u8::try_from(value).map_err(|_| unknown())?);
            return Ok(());
        }
        if letter == b'\n' {
            return Err(unknown());
        }
        self.advance();
        let byte = match letter {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0B,
            b'?' | b'\\' | b'\'' | b'"' => letter,
            b'x' => {
                let value = self.digits(16, 1, 2).ok_or_else(unknown)?;
                u8::try_from(value).map_err(|_| unknown())?
            }
            b'u' | b'U' => {
                let length = if letter == b'u' { 4 } else { 8 };
                let value = self.digits(16, length, length).ok_or_else(unknown)?;
                // Halves of surrogate pairs are no characters.
                let character = char::from_u32(value).ok_or_else(unknown)?;
                content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(unknown()),
        };
        content.push(byte);
        Ok(())
    }

    /// The value of `least` to `most` digits; `None` where there are fewer.
    fn digits(&mut self, radix: u32, least: usize, most: usize) -> Option<u32> {
        let mut value = 0;
        for index in 0..most {
            match self.peek().and_then(|byte| char::from(byte).to_digit(radix)) {
                // Eight hexadecimal digits at most: this cannot overflow.
                Some(digit) => value = value * radix + digit,
                None if index < least => return None,
                None => break,
            }
            self.advance();
        }
        Some(value)
    }
}

pub(super) fn problem(at: Position, problem: String) -> SyntaxError {
    SyntaxError { at, problem }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A decimal, octal (`017`) or hexadecimal (`0x1F`) number of 64 bits.
fn whole_number(text: &str) -> Option<Token> {
    let value = if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u64_of(digits, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        u64_of(text, 8)
    } else {
        u64_of(text, 10)
    };
    value.map(Token::Integer)
}

fn u64_of(digits: &str, radix: u32) -> Option<u64> {
    // The standard library would take a sign as well.
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// A decimal number with a fraction, an exponent or the suffix `f`, or a whole one too big for
/// 64 bits.
fn float(text: &str) -> Option<Token> {
    let number = text.strip_suffix(['f', 'F']).unwrap_or(text);
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let whole = mantissa.split('.').next().unwrap_or(mantissa);
    // `007` and `09.5` are neither octal nor decimal; and the standard library would take words.
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let plain = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number.chars().all(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
    if leading_zero || !plain { None } else { number.parse().ok().map(Token::Float) }
}
