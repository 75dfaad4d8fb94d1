//! Puts tokens together to messages.

use super::lexer::{Lexer, Token, problem};
use super::{DEPTH_MAX, SyntaxError};
use crate::tree::{Field, Message, Position, Value};

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that is looked at, and where it begins.
    token: Token,
    at: Position,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self { lexer, token, at })
    }

    pub(super) fn document(&mut self) -> Result<Message, SyntaxError> {
        self.fields(&Token::End, 0)
    }

    /// Fields up to `end`, which is consumed.
    fn fields(&mut self, end: &Token, depth: usize) -> Result<Message, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.problem(format!("messages are nested more than {DEPTH_MAX} deep")));
        }
        let mut fields = Vec::new();
        while self.token != *end {
            fields.push(self.field(depth)?);
            if !self.accept(',')? {
                self.accept(';')?;
            }
        }
        if *end != Token::End {
            self.take()?;
        }
        Ok(Message { fields })
    }

    fn field(&mut self, depth: usize) -> Result<Field, SyntaxError> {
        let at = self.at;
        let name = match self.take()? {
            Token::Word(name) => name,
            Token::Mark('[') => {
                return Err(problem(at, "extensions are not understood here".to_owned()));
            }
            other => {
                return Err(problem(at, format!("expected a key, got {}", other.describe())));
            }
        };
        let colon = self.accept(':')?;
        let value = match &self.token {
            Token::Mark('{' | '<') => self.message(depth)?,
            Token::Mark('[') => self.list(colon, depth)?,
            _ if colon => self.scalar()?,
            other => {
                let other = other.describe();
                return Err(self.problem(format!("expected `:` after `{name}`, got {other}")));
            }
        };
        Ok(Field { name, value, at: Some(at) })
    }

    fn message(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let at = self.at;
        let end = match self.take()? {
            Token::Mark('{') => Token::Mark('}'),
            Token::Mark('<') => Token::Mark('>'),
            other => {
                return Err(problem(at, format!("expected a message, got {}", other.describe())));
            }
        };
        Ok(Value::Message(self.fields(&end, depth + 1)?))
    }

    /// `[a, b]`: messages, or, behind a colon, scalars. Never both.
    fn list(&mut self, colon: bool, depth: usize) -> Result<Value, SyntaxError> {
        self.take()?;
        let mut items = Vec::new();
        if self.accept(']')? {
            return Ok(Value::List(items));
        }
        let messages = !colon || matches!(self.token, Token::Mark('{' | '<'));
        loop {
            items.push(if messages { self.message(depth)? } else { self.scalar()? });
            if self.accept(']')? {
                return Ok(Value::List(items));
            }
            if !self.accept(',')? {
                let got = self.token.describe();
                return Err(self.problem(format!("expected `,` or `]` in a list, got {got}")));
            }
        }
    }

    fn scalar(&mut self) -> Result<Value, SyntaxError> {
        let at = self.at;
        match self.take()? {
            Token::Text(mut content) => {
                while let Token::Text(more) = &self.token {
                    content.extend_from_slice(more);
                    self.take()?;
                }
                Ok(Value::Text(content))
            }
            Token::Word(word) => Ok(Value::Word(word)),
            Token::Integer(value) => Ok(Value::Integer(value.into())),
            Token::Float(value) => Ok(Value::Float(value)),
            Token::Mark('-') => self.negative(),
            other => Err(problem(at, format!("expected a value, got {}", other.describe()))),
        }
    }

    fn negative(&mut self) -> Result<Value, SyntaxError> {
        let at = self.at;
        match self.take()? {
            Token::Integer(value) => Ok(Value::Integer(-i128::from(value))),
            Token::Float(value) => Ok(Value::Float(-value)),
            Token::Word(word) => match special_float(&word) {
                Some(value) => Ok(Value::Float(-value)),
                None => Err(problem(at, format!("`-{word}` is no number"))),
            },
            other => {
                Err(problem(at, format!("expected a number after `-`, got {}", other.describe())))
            }
        }
    }

    /// The token that is looked at; the next one takes its place.
    fn take(&mut self) -> Result<Token, SyntaxError> {
        let (at, next) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn accept(&mut self, mark: char) -> Result<bool, SyntaxError> {
        let found = self.token == Token::Mark(mark);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn problem(&self, text: String) -> SyntaxError {
        problem(self.at, text)
    }
}

/// The words that stand for floats, in any case.
pub(crate) fn special_float(word: &str) -> Option<f64> {
    if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("infinity") {
        Some(f64::INFINITY)
    } else if word.eq_ignore_ascii_case("nan") {
        Some(f64::NAN)
    } else {
        None
    }
}
