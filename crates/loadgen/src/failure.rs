//! Why a request had no good answer, in kinds that can be counted.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use inferring_protocol::rest::BodyError;
use inferring_protocol::rest::documents::ErrorDocument;

/// Why a request had no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// In words: the server's own where it sent some.
    pub(crate) message: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    /// No connection could be opened.
    Connect,
    /// No complete answer within the time-out.
    Timeout,
    /// The connection broke off before the answer was complete.
    Reset,
    /// Bytes that are no answer: not HTTP, or not the document expected.
    Malformed,
    /// An HTTP status other than 200.
    Status(StatusCode),
    /// In an open loop: no connection was free within the time-out of the intended start.
    Unsent,
}

impl FailureKind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Malformed => "malformed",
            Self::Status(_) => "status",
            Self::Unsent => "unsent",
        }
    }

    /// Whether the server was too busy for the request, and said so.
    pub(crate) fn is_refusal(self) -> bool {
        self == Self::Status(StatusCode::TOO_MANY_REQUESTS)
    }

    /// The HTTP status, where that is the failure.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.as_u16()),
            _ => None,
        }
    }
}

impl Failure {
    /// A server's message is quoted up to this many bytes.
    const MESSAGE_MAX: usize = 300;

    pub(crate) fn connect(error: &io::Error) -> Self {
        Self { kind: FailureKind::Connect, message: chain(error) }
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self { kind: FailureKind::Timeout, message: format!("no answer within {limit:?}") }
    }

    pub(crate) fn unsent(limit: Duration) -> Self {
        let message = format!("no connection was free within {limit:?} of the intended start");
        Self { kind: FailureKind::Unsent, message }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Malformed, message: message.into() }
    }

    /// An answer with an error status; `body` is the server's explanation.
    pub(crate) fn status(status: StatusCode, body: &[u8]) -> Self {
        let message = match serde_json::from_slice::<ErrorDocument>(body) {
            Ok(document) => document.error,
            Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
        };
        Self { kind: FailureKind::Status(status), message: shortened(message) }
    }

    /// A failure of the HTTP exchange on an open connection.
    pub(crate) fn exchange(error: &hyper::Error) -> Self {
        let kind = if error.is_parse() || error.is_parse_too_large() {
            FailureKind::Malformed
        } else {
            FailureKind::Reset
        };
        Self { kind, message: chain(error) }
    }

    pub(crate) fn body(error: &BodyError<hyper::Error>) -> Self {
        match error {
            BodyError::Broken(error) => Self::exchange(error),
            BodyError::TooLarge { .. } => Self::malformed(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn shortened(mut text: String) -> String {
    if text.len() > Failure::MESSAGE_MAX {
        let end = text.floor_char_boundary(Failure::MESSAGE_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_are_kept() {
        for (body, message) in [
            (&br#"{"error":"queue full"}"#[..], "queue full"),
            (b" plain text \n", "plain text"),
            (b"", ""),
        ] {
            let failure = Failure::status(StatusCode::TOO_MANY_REQUESTS, body);
            assert_eq!(failure.message, message);
            assert_eq!(failure.kind.status(), Some(429));
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failure = Failure::status(StatusCode::BAD_GATEWAY, "ä".repeat(1000).as_bytes());
        assert_eq!(failure.message, "ä".repeat(150) + "…");
    }
}
