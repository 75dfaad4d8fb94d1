//! Header fields by which an answer tells how it came about. REST and gRPC have them in common.
//!
//! [`Timings`] go with every answer, so they are written without an allocation but their own.
//! An [`Explanation`] goes with an answer to whoever asks why it came from where it did. A
//! worker tells its [load](load) to a gateway, and only to it.

mod dictionary;
mod explanation;
pub mod load;
mod timings;

use http::{HeaderMap, HeaderName};

pub use explanation::Explanation;
pub use timings::Timings;

/// What an answer took, as W3C's Server Timing has it.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Of a request: it asks to be told why it is answered by whom. Of an answer: that.
pub const EXPLAIN: HeaderName = HeaderName::from_static("x-inferring-explain");

/// Of a request: a gateway asks what the worker expects of the next one. Of an answer: that.
pub const LOAD: HeaderName = HeaderName::from_static("x-inferring-load");

/// Whether a request's field asks for the answer's field of the same name: with `1` or `true`.
/// Anything else asks for nothing, such as an answer's field that somebody has made up.
pub fn is_asked(headers: &HeaderMap, field: &HeaderName) -> bool {
    headers.get(field).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
            let fields = value.map(|value| (EXPLAIN, HeaderValue::from_static(value)));
            assert_eq!(is_asked(&HeaderMap::from_iter(fields), &EXPLAIN), expected, "{value:?}");
        }
    }
}
