//! Takes known keys out of a message; what is left over in the end is unknown and reported.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::Spelling;
use crate::error::ConfigError;
use crate::plan::Note;
use crate::tree::{Field, Message, Position, Value};

/// A message whose keys are being taken.
pub(super) struct Section<'a> {
    path: String,
    spelling: Spelling,
    fields: Vec<(&'a Field, Cell<bool>)>,
    notes: &'a RefCell<Vec<Note>>,
}

/// A value with what is needed to complain about it.
#[derive(Clone)]
pub(super) struct Located<'a> {
    pub(super) key: String,
    pub(super) at: Option<Position>,
    pub(super) value: &'a Value,
}

impl Located<'_> {
    pub(super) fn problem(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { key: self.key.clone(), at: self.at, problem: problem.into() }
    }
}

impl<'a> Section<'a> {
    pub(super) fn root(
        message: &'a Message,
        spelling: Spelling,
        notes: &'a RefCell<Vec<Note>>,
    ) -> Self {
        Self::new(String::new(), message, spelling, notes)
    }

    fn new(
        path: String,
        message: &'a Message,
        spelling: Spelling,
        notes: &'a RefCell<Vec<Note>>,
    ) -> Self {
        let fields = message.fields.iter().map(|field| (field, Cell::new(false))).collect();
        Self { path, spelling, fields, notes }
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// The full path of a key of this section.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Every value written under a name, lists taken apart.
    pub(super) fn many(&self, name: &str) -> Vec<Located<'a>> {
        let mut values = Vec::new();
        for (field, taken) in &self.fields {
            if self.spelling.matches(&field.name, name) {
                taken.set(true);
                match &field.value {
                    Value::List(items) => values.extend(items.iter().map(|item| (field.at, item))),
                    Value::Null => {}
                    value => values.push((field.at, value)),
                }
            }
        }
        let located = |(index, (at, value))| Located {
            key: format!("{}[{index}]", self.key(name)),
            at,
            value,
        };
        values.into_iter().enumerate().map(located).collect()
    }

    /// The value of a name that may be there once.
    pub(super) fn one(&self, name: &str) -> Result<Option<Located<'a>>, ConfigError> {
        let mut found: Option<Located<'a>> = None;
        for (field, taken) in &self.fields {
            if self.spelling.matches(&field.name, name) && !taken.replace(true) {
                let located = Located { key: self.key(name), at: field.at, value: &field.value };
                match &field.value {
                    Value::Null => {}
                    Value::List(_) => return Err(located.problem("takes one value, got a list")),
                    _ if found.is_some() => return Err(located.problem("is given more than once")),
                    _ => found = Some(located),
                }
            }
        }
        Ok(found)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        self.one(name)?.map(|located| text(&located)).transpose()
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.one(name)?.map(|located| boolean(&located)).transpose()
    }

    pub(super) fn integer<T: TryFrom<i128>>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        self.one(name)?.map(|located| integer(&located, self.spelling)).transpose()
    }

    pub(super) fn integers<T: TryFrom<i128>>(&self, name: &str) -> Result<Vec<T>, ConfigError> {
        self.many(name).iter().map(|located| integer(located, self.spelling)).collect()
    }

    /// The value of an enum, by its name or its number.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, i128, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(located) = self.one(name)? else { return Ok(None) };
        let word = match located.value {
            Value::Word(word) => Some(word.as_str()),
            Value::Text(text) if self.spelling == Spelling::Json => std::str::from_utf8(text).ok(),
            _ => None,
        };
        let matching = |(name, number, _): &&(&str, i128, T)| {
            word == Some(name) || *located.value == Value::Integer(*number)
        };
        match choices.iter().find(matching) {
            Some((_, _, value)) => Ok(Some(*value)),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, ..)| *name).collect();
                Err(located.problem(format!("expected one of {}", names.join(", "))))
            }
        }
    }

    /// The message under a name that may be there once.
    pub(super) fn section(&self, name: &str) -> Result<Option<Section<'a>>, ConfigError> {
        self.one(name)?.map(|located| self.inside(&located)).transpose()
    }

    /// The messages under a name.
    pub(super) fn sections(&self, name: &str) -> Result<Vec<Section<'a>>, ConfigError> {
        self.many(name).iter().map(|located| self.inside(located)).collect()
    }

    /// The entries of a map; of several with one key the last counts.
    pub(super) fn map(&self, name: &str) -> Result<BTreeMap<String, Located<'a>>, ConfigError> {
        let mut entries = BTreeMap::new();
        let mut insert = |key: String, at, value| {
            let path = format!("{}[{key:?}]", self.key(name));
            entries.insert(key, Located { key: path, at, value });
        };
        if self.spelling == Spelling::Json {
            let Some(located) = self.one(name)? else { return Ok(entries) };
            for field in &message(&located)?.fields {
                insert(field.name.clone(), field.at, &field.value);
            }
            return Ok(entries);
        }
        for located in self.many(name) {
            let entry = self.inside(&located)?;
            let key = entry.text("key")?.unwrap_or_default();
            match entry.one("value")? {
                Some(value) => insert(key, value.at, value.value),
                None => insert(key, located.at, &EMPTY),
            }
            entry.finish();
        }
        Ok(entries)
    }

    /// The message that a value is.
    pub(super) fn inside(&self, located: &Located<'a>) -> Result<Section<'a>, ConfigError> {
        let message = match located.value {
            // A map's entry without a value.
            Value::Null => &NOTHING,
            _ => message(located)?,
        };
        Ok(Self::new(located.key.clone(), message, self.spelling, self.notes))
    }

    /// Reports a known key that has no effect, unless its value is the one it has when absent.
    pub(super) fn no_effect(&self, name: &str, reason: &str) {
        for located in self.many(name) {
            if !is_default(located.value, self.spelling) {
                self.note(self.key(name), reason);
                return;
            }
        }
    }

    /// Reports a key as having no effect.
    pub(super) fn note(&self, key: String, reason: &str) {
        self.notes.borrow_mut().push(Note::NoEffect { key, reason: reason.to_owned() });
    }

    /// Reports a key as not known.
    pub(super) fn unknown(&self, key: String) {
        self.notes.borrow_mut().push(Note::UnknownKey { key });
    }

    /// Refuses a known key, unless its value is the one it has when absent.
    pub(super) fn refuse(&self, name: &str, reason: &str) -> Result<(), ConfigError> {
        let values = self.many(name);
        // A message that is there means something even where it is empty.
        let meant =
            |value: &Value| matches!(value, Value::Message(_)) || !is_default(value, self.spelling);
        match values.iter().find(|located| meant(located.value)) {
            None => Ok(()),
            Some(Located { at, .. }) => {
                Err(ConfigError::Value { key: self.key(name), at: *at, problem: reason.into() })
            }
        }
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        let mut reported = BTreeSet::new();
        for (field, taken) in &self.fields {
            let left = !taken.get() && field.value != Value::Null;
            if left && reported.insert(field.name.as_str()) {
                self.unknown(self.key(&field.name));
            }
        }
    }
}

static EMPTY: Value = Value::Null;
static NOTHING: Message = Message { fields: Vec::new() };

fn message<'a>(located: &Located<'a>) -> Result<&'a Message, ConfigError> {
    match located.value {
        Value::Message(message) => Ok(message),
        other => Err(located.problem(format!("expected a message, got {}", other.kind()))),
    }
}

pub(super) fn text(located: &Located<'_>) -> Result<String, ConfigError> {
    match located.value {
        Value::Text(text) => {
            String::from_utf8(text.clone()).map_err(|_| located.problem("the text is not UTF-8"))
        }
        Value::Null => Ok(String::new()),
        other => Err(located.problem(format!("expected a text, got {}", other.kind()))),
    }
}

fn boolean(located: &Located<'_>) -> Result<bool, ConfigError> {
    match located.value {
        Value::Word(word) => match word.as_str() {
            "true" | "True" | "t" => Ok(true),
            "false" | "False" | "f" => Ok(false),
            _ => Err(located.problem(format!("expected true or false, got `{word}`"))),
        },
        Value::Integer(0) => Ok(false),
        Value::Integer(1) => Ok(true),
        other => Err(located.problem(format!("expected true or false, got {}", other.kind()))),
    }
}

pub(super) fn integer<T: TryFrom<i128>>(
    located: &Located<'_>,
    spelling: Spelling,
) -> Result<T, ConfigError> {
    let value = match located.value {
        Value::Integer(value) => Some(*value),
        // JSON writes numbers of 64 bits as texts, and may write whole ones as floats.
        Value::Text(text) if spelling == Spelling::Json => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
        }
        Value::Float(value) if spelling == Spelling::Json && value.fract() == 0.0 => {
            // Saturates, and what saturates fits in no type that is asked for.
            Some(*value as i128)
        }
        _ => None,
    };
    let Some(value) = value else {
        let kind = located.value.kind();
        return Err(located.problem(format!("expected a whole number, got {kind}")));
    };
    T::try_from(value).map_err(|_| located.problem(format!("{value} is out of range")))
}

/// Whether a value is what its key has when absent.
fn is_default(value: &Value, spelling: Spelling) -> bool {
    let is_zero = |word: &[u8]| ZEROES.iter().any(|zero| zero.as_bytes() == word);
    match value {
        Value::Message(message) => {
            message.fields.iter().all(|field| is_default(&field.value, spelling))
        }
        Value::List(items) => items.is_empty(),
        // JSON has the names of enums' values in quotes.
        Value::Text(text) => text.is_empty() || (spelling == Spelling::Json && is_zero(text)),
        Value::Word(word) => is_zero(word.as_bytes()),
        Value::Integer(value) => *value == 0,
        Value::Float(value) => *value == 0.0,
        Value::Null => true,
    }
}

/// `false`, and the enums' values that are numbered 0.
const ZEROES: [&str; 8] = [
    "false",
    "False",
    "f",
    "FORMAT_NONE",
    "KIND_AUTO",
    "PRIORITY_DEFAULT",
    "REJECT",
    "TYPE_INVALID",
];
