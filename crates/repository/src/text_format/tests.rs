//! The corpus, and what no corpus shows: bounds, and texts that nobody thought of.
//!
//! `corpus/pbtxt/expected.json` is what Google's own reader made of each text: the values that
//! `google.protobuf.text_format.Parse` (protobuf 6.33.6) put into the `ModelConfig` of
//! `tritonclient` 2.73.0, listed with their paths by `Message.ListFields`, or the error. It is
//! data, so that the tests need no Python. The folders of the corpus say what is expected here:
//!
//! - `valid`: both read it, and the values are equal;
//! - `malformed`: both refuse it;
//! - `mistaken`: well formed, but not a `ModelConfig`: Google's reader refuses it, and here the
//!   interpreter refuses or reports it;
//! - `stricter`: Google's reader in Python takes it, against the specification and unlike the one
//!   in C++ that Triton uses; here it is refused.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::settings::ModelSettings;
use crate::tree::{Field, Value};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/pbtxt")
}

/// The texts in a folder of the corpus, each with what Google's reader makes of it.
fn texts(folder: &str) -> Vec<(String, Vec<u8>, Json)> {
    let expected = fs::read(corpus().join("expected.json")).unwrap();
    let expected: Json = serde_json::from_slice(&expected).unwrap();
    let mut texts = Vec::new();
    for entry in fs::read_dir(corpus().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        let expected = expected[&name].clone();
        assert!(expected.is_object(), "{name} is not in expected.json");
        texts.push((name, fs::read(entry.path()).unwrap(), expected));
    }
    assert!(texts.len() > 3, "{folder} is all but empty");
    texts
}

#[test]
fn valid_texts_have_the_values_that_googles_reader_finds() {
    let mut compared = 0;
    for (name, text, expected) in texts("valid") {
        let message = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = expected["values"].as_array().unwrap_or_else(|| panic!("{name}"));
        for line in expected {
            let [path, kind, value] = [0, 1, 2].map(|index| line[index].as_str().unwrap());
            let found =
                find(&message, path).unwrap_or_else(|| panic!("{name}: there is no {path}"));
            assert!(is(found, kind, value), "{name}: {path} is {found:?}, expected {kind} {value}");
            compared += 1;
        }
        // Google's reader does not list values that are what they are when absent.
        assert_eq!(count(&message), expected.len(), "{name}: {message:?}");
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn malformed_texts_are_refused_as_googles_reader_refuses_them() {
    for (name, text, expected) in texts("malformed") {
        assert!(expected["error"].is_string(), "{name}: Google's reader takes it");
        assert!(parse(&text).is_err(), "{name}: {:?}", parse(&text));
    }
}

#[test]
fn what_only_googles_python_reader_takes_is_refused() {
    for (name, text, expected) in texts("stricter") {
        assert!(expected["values"].is_array(), "{name}");
        assert!(parse(&text).is_err(), "{name}: {:?}", parse(&text));
    }
}

#[test]
fn mistaken_texts_are_refused_or_reported_by_the_interpreter() {
    for (name, text, expected) in texts("mistaken") {
        assert!(expected["error"].is_string(), "{name}: Google's reader takes it");
        parse(&text).unwrap_or_else(|error| panic!("{name} is well formed: {error}"));
        match ModelSettings::from_pbtxt(&text, &"a".parse().unwrap()) {
            Ok((_, notes)) => assert!(!notes.is_empty(), "{name} is swallowed"),
            Err(error) => assert!(error.to_string().contains('`'), "{name}: {error}"),
        }
    }
}

#[test]
fn errors_say_where() {
    for (text, expected) in [
        (
            "name: \"a\"\nmax_batch_size 8",
            "2:16: expected `:` after `max_batch_size`, got a number",
        ),
        ("input {\n  dims: [1, 2\n}", "3:1: expected `,` or `]` in a list, got `}`"),
        ("name: \"größe\" !", "1:15: `!` does not belong here"),
        ("name: \"iris", "1:7: no \" ends this text on its line"),
        ("name: \"a\\q\"", "1:9: this is no escape sequence"),
        ("input { name: \"x\"", "1:18: expected a key, got the end"),
        ("max_batch_size: 019", "1:17: `019` is no number, or too large a one"),
        ("x: 0x10000000000000000", "1:4: `0x10000000000000000` is no number, or too large a one"),
        ("[a.b]: 1", "1:1: extensions are not understood here"),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Google's reader in Python leaves this one as it stands; the specification has it.
#[test]
fn a_question_mark_may_be_escaped() {
    let message = parse(br#"name: "who\?""#).unwrap();
    assert_eq!(message.fields[0].value, Value::Text(b"who?".to_vec()));
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| "a{".repeat(depth) + &"}".repeat(depth);
    assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    let error = parse(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err();
    assert!(error.problem.contains("nested more than 64"), "{error}");
    // Deep enough to end the thread, were the depth not looked at on the way down.
    assert!(parse("a{".repeat(500_000).as_bytes()).is_err());
    assert!(parse("a:[".repeat(300_000).as_bytes()).is_err());
    assert!(parse(&vec![b' '; LENGTH_MAX]).is_ok());
    assert!(parse(&vec![b' '; LENGTH_MAX + 1]).unwrap_err().problem.contains("at most"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_tokens_make_it_panic_or_grow(tokens in proptest::collection::vec(
        proptest::sample::select(vec![
            "a", "name", ":", "{", "}", "<", ">", "[", "]", ",", ";", "-", "\"x\"", "'\\101'",
            "1", "0x1F", "017", "1.5e3", ".5f", "inf", "nan", "# c\n", "\n", " ", "\\", "\"",
        ]), 0..120)) {
        let text = tokens.concat();
        if let Ok(message) = parse(text.as_bytes()) {
            prop_assert!(size(&message) <= text.len());
        }
    }

    #[test]
    fn what_is_written_is_read(message in messages()) {
        let mut text = String::new();
        write(&message, &mut text);
        let read = parse(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(without_places(read), message);
    }
}

/// The value at a path such as `input[0].dims[1]` or `parameters["k"].value`.
fn find<'a>(message: &'a Message, path: &str) -> Option<&'a Value> {
    let (step, rest) = split(path);
    let (name, index) = match step.split_once('[') {
        Some((name, index)) => (name, index.strip_suffix(']')),
        None => (step, None),
    };
    let all =
        message.fields.iter().filter(|field| field.name == name).flat_map(|field| {
            match &field.value {
                Value::List(items) => items.iter().collect::<Vec<_>>(),
                value => vec![value],
            }
        });
    let all: Vec<_> = all.collect();
    let value = match index {
        None => *all.first()?,
        Some(key) if key.starts_with('"') => {
            let key: String = serde_json::from_str(key).unwrap();
            *all.iter().find(|entry| match entry {
                Value::Message(entry) => find(entry, "key").is_some_and(|found| match found {
                    Value::Integer(number) => number.to_string() == key,
                    Value::Text(text) => text == key.as_bytes(),
                    _ => false,
                }),
                _ => false,
            })?
        }
        Some(index) => *all.get(index.parse::<usize>().unwrap())?,
    };
    match (rest, value) {
        (None, value) => Some(value),
        (Some(rest), Value::Message(message)) => find(message, rest),
        (Some(_), _) => None,
    }
}

/// The first step of a path and the others; points inside quotes separate nothing.
fn split(path: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (index, letter) in path.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '.' if !quoted => return (&path[..index], Some(&path[index + 1..])),
            _ => {}
        }
    }
    (path, None)
}

fn is(found: &Value, kind: &str, expected: &str) -> bool {
    match kind {
        "integer" => *found == Value::Integer(expected.parse().unwrap()),
        "text" => matches!(found, Value::Text(text) if text == expected.as_bytes()),
        "boolean" => match found {
            Value::Word(word) => word.to_lowercase().starts_with(&expected[..1]),
            Value::Integer(number) => (*number == 1) == (expected == "true"),
            _ => false,
        },
        "enum" => {
            let (name, number) = expected.split_once(' ').unwrap();
            match found {
                Value::Word(word) => word == name,
                Value::Integer(found) => found.to_string() == number,
                _ => false,
            }
        }
        "double" | "float" => {
            let expected: f64 = expected.parse().unwrap();
            let found = match found {
                Value::Float(value) => *value,
                Value::Integer(value) => *value as f64,
                Value::Word(word) => parser::special_float(word).unwrap(),
                _ => return false,
            };
            let found = if kind == "float" { f64::from(found as f32) } else { found };
            found.total_cmp(&expected).is_eq() || (found.is_nan() && expected.is_nan())
        }
        _ => panic!("{kind}"),
    }
}

/// How many values there are that are not what they are when absent.
fn count(message: &Message) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Message(message) => count(message),
            Value::List(items) => items.iter().map(of).sum(),
            _ => 1,
        }
    }
    let absent = |field: &&Field| match &field.value {
        Value::Integer(number) => *number == 0,
        Value::Text(text) => text.is_empty(),
        Value::Word(word) => word.eq_ignore_ascii_case("false"),
        _ => false,
    };
    message.fields.iter().filter(|field| !absent(field)).map(|field| of(&field.value)).sum()
}

/// How many fields and values there are.
fn size(message: &Message) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Message(message) => size(message),
            Value::List(items) => items.iter().map(of).sum(),
            _ => 1,
        }
    }
    message.fields.iter().map(|field| 1 + of(&field.value)).sum()
}

fn without_places(mut message: Message) -> Message {
    fn of(value: Value) -> Value {
        match value {
            Value::Message(message) => Value::Message(without_places(message)),
            Value::List(items) => Value::List(items.into_iter().map(of).collect()),
            other => other,
        }
    }
    for field in &mut message.fields {
        field.at = None;
        field.value = of(std::mem::replace(&mut field.value, Value::Null));
    }
    message
}

fn messages() -> impl Strategy<Value = Message> {
    let scalar = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Text),
        "[A-Za-z_][A-Za-z0-9_]{0,8}".prop_map(Value::Word),
        any::<u64>().prop_map(|number| Value::Integer(number.into())),
        any::<i64>().prop_map(|number| Value::Integer(number.into())),
        (-1e300f64..1e300).prop_map(Value::Float),
    ];
    let list = proptest::collection::vec(scalar.clone(), 0..4).prop_map(Value::List);
    let leaf = prop_oneof![scalar, list];
    let message = |value: BoxedStrategy<Value>| {
        let field = ("[a-z_]{1,6}", value);
        let field = field.prop_map(|(name, value)| Field { name, value, at: None });
        proptest::collection::vec(field, 0..4).prop_map(|fields| Message { fields })
    };
    let value = leaf.prop_recursive(4, 40, 4, move |inner| {
        let inner = message(inner.boxed()).prop_map(Value::Message);
        let list = proptest::collection::vec(inner.clone(), 1..3).prop_map(Value::List);
        prop_oneof![inner, list]
    });
    message(value.boxed())
}

fn write(message: &Message, text: &mut String) {
    fn of(value: &Value, text: &mut String) {
        match value {
            Value::Message(message) => {
                text.push('{');
                write(message, text);
                text.push('}');
            }
            Value::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { ", " } else { "" });
                    of(item, text);
                }
                text.push(']');
            }
            Value::Text(bytes) => *text += &format!("\"{}\"", bytes.escape_ascii()),
            Value::Word(word) => *text += word,
            Value::Integer(number) => *text += &number.to_string(),
            Value::Float(number) => *text += &format!("{number:e}"),
            Value::Null => unreachable!("the text format has none"),
        }
    }
    for field in &message.fields {
        *text += &field.name;
        text.push(':');
        of(&field.value, text);
        text.push('\n');
    }
}
