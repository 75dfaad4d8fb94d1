//! What is wrong with a value in a configuration, for who wrote it.
//!
//! The libraries say it to programmers: "invalid value signed int `0`, expected a nonzero usize".

use figment::error::{Actual, Kind};

/// What a setting takes, and what it was given.
pub fn wrong_value(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(given, expected) | Kind::InvalidValue(given, expected) => {
            format!("expected {}, got {}", in_words(expected), written(given))
        }
        Kind::UnknownVariant(given, known) => {
            let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("expected {}, got `{given}`", known.join(" or "))
        }
        kind => kind.to_string(),
    }
}

fn in_words(expected: &str) -> &str {
    match expected {
        "a duration" => "a time with its unit, such as \"20ms\" or \"5s\"",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        nonzero if nonzero.starts_with("a nonzero u") => "a whole number from 1 on",
        other => other,
    }
}

fn written(given: &Actual) -> String {
    match given {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use figment::Figment;
    use figment::providers::{Format, Toml};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Fancy,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Settings {
        count: Option<std::num::NonZeroUsize>,
        size: Option<u32>,
        share: Option<f64>,
        is_on: Option<bool>,
        name: Option<String>,
        list: Option<Vec<u8>>,
        kind: Option<Kind>,
        #[serde(with = "humantime_serde")]
        time: Option<Duration>,
    }

    #[test]
    fn it_is_said_what_is_expected_and_what_was_given() {
        for (text, expected) in [
            ("count = 0", "expected a whole number from 1 on, got 0"),
            ("count = \"two\"", "expected a whole number from 1 on, got \"two\""),
            ("size = -1", "expected a whole number from 0 on, got -1"),
            ("size = 2.5", "expected a whole number from 0 on, got 2.5"),
            ("share = \"half\"", "expected a number, got \"half\""),
            ("is_on = \"yes\"", "expected true or false, got \"yes\""),
            ("name = 7", "expected a text, got 7"),
            ("list = 7", "expected a list, got 7"),
            ("kind = \"plan\"", "expected `plain` or `fancy`, got `plan`"),
            (
                "time = \"5\"",
                "expected a time with its unit, such as \"20ms\" or \"5s\", got \"5\"",
            ),
            ("time = 5", "expected a time with its unit, such as \"20ms\" or \"5s\", got 5"),
        ] {
            let error = Figment::from(Toml::string(text)).extract::<Settings>().unwrap_err();
            assert_eq!(wrong_value(&error.kind), expected, "{text}");
        }
    }
}
