//! Header fields by which an answer tells how it came about. REST and gRPC have them in common.
//!
//! [`Timings`] go with every answer, so they are written without an allocation but their own.
//! An [`Explanation`] goes with an answer to whoever asks why it came from where it did. A
//! worker tells its [load] to a gateway, and only to it.

mod dictionary;
mod explanation;
pub mod load;
mod timings;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use explanation::Explanation;
pub use timings::Timings;

/// What an answer took, as W3C's Server Timing has it.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Of a request: it asks to be told why it is answered by whom. Of an answer: that.
pub const EXPLAIN: HeaderName = HeaderName::from_static("x-inferring-explain");

/// Of a request: a gateway asks what the worker expects of the next one. Of an answer: that.
pub const LOAD: HeaderName = HeaderName::from_static("x-inferring-load");

/// Of an answer to whoever asks for the [`LOAD`]: `1` where the worker takes no new requests from
/// now on. `Connection: close` does not say so, which may concern that one connection.
pub const DRAINING: HeaderName = HeaderName::from_static("x-inferring-draining");

/// Of a refusal to whoever asks for the [`LOAD`]: `1` where nothing was executed and another worker
/// may know what this one does not, such as the state of a sequence.
pub const ELSEWHERE: HeaderName = HeaderName::from_static("x-inferring-elsewhere");

/// What a request's fields ask for: fields of the same name in the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// [`EXPLAIN`].
    pub explanation: bool,
    /// [`LOAD`].
    pub load: bool,
}

impl Asked {
    /// What is asked for, with `1` or `true`. Anything else asks for nothing, such as an answer's
    /// field that somebody has made up.
    pub fn read(headers: &HeaderMap) -> Self {
        let is_yes = |value: &HeaderValue| matches!(value.as_bytes(), b"1" | b"true");
        let mut asked = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "x-inferring-explain" => asked.explanation = is_yes(value),
                "x-inferring-load" => asked.load = is_yes(value),
                _ => {}
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_asks() {
        for (value, expected) in [
            (Some("1"), true),
            (Some("true"), true),
            (Some("0"), false),
            (Some(""), false),
            (Some("worker=\"w\", attempt=1"), false),
            (None, false),
        ] {
            let of = |name| {
                let field = value.map(|value| (name, HeaderValue::from_static(value)));
                Asked::read(&HeaderMap::from_iter(field))
            };
            let (explanation, load) = (of(EXPLAIN), of(LOAD));
            assert_eq!(explanation, Asked { explanation: expected, load: false }, "{value:?}");
            assert_eq!(load, Asked { explanation: false, load: expected }, "{value:?}");
        }
    }
}
