//! What stands before the body of a request or an answer.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::StatusCode;
use inferring_types::WorkerLoad;

/// A message that is not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed: {0}")]
pub struct Malformed(&'static str);

/// How a message begins.
pub(super) trait Head {
    /// Bytes that it takes.
    fn length(&self) -> usize;

    /// Appends them.
    fn write(&self, out: &mut BytesMut);
}

/// What a request for inference says beside its body, which is one of Open Inference Protocol v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model's name, of at most 65,535 bytes.
    pub model: &'a str,
    /// Its version; the newest where there is none.
    pub version: Option<&'a str>,
    /// How long whoever asks is ready to wait, in whole microseconds.
    pub timeout: Duration,
    /// The length of the body's head in JSON, where raw tensors follow it.
    pub json_length: Option<usize>,
}

/// What an answer says beside its body: outputs where it is a good one, or else the error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// As over HTTP.
    pub status: StatusCode,
    /// What the worker expects of the next request for the model.
    pub load: Option<WorkerLoad>,
    /// After which time another request may be answered, in whole microseconds.
    pub retry_after: Option<Duration>,
    /// The length of the body's head in JSON, where raw tensors follow it.
    pub json_length: Option<usize>,
}

/// Stands for what is not there.
const NONE_32: u32 = u32::MAX;
const NONE_64: u64 = u64::MAX;

impl<'a> Request<'a> {
    /// Of its head, what does not depend on the names.
    const FIXED: usize = 8 + 4 + 2 + 2;

    /// Reads a message: the request, and its body.
    ///
    /// # Errors
    /// [`Malformed`] where it is none.
    pub fn read(message: &'a Bytes) -> Result<(Self, Bytes), Malformed> {
        let mut head = &message[..];
        if head.len() < Self::FIXED {
            return Err(Malformed("expected a request, got less than its head"));
        }
        let timeout = Duration::from_micros(head.get_u64_le());
        let json_length = head.get_u32_le();
        let (model, version) = (head.get_u16_le(), head.get_u16_le());
        let (model, head) = name(head, model)?;
        let (version, head) = name(head, version)?;
        let body = message.slice_ref(head);
        let json_length = length(json_length, &body)?;
        let version = (!version.is_empty()).then_some(version);
        Ok((Self { model, version, timeout, json_length }, body))
    }
}

impl Head for Request<'_> {
    fn length(&self) -> usize {
        Self::FIXED + self.model.len() + self.version.map_or(0, str::len)
    }

    fn write(&self, out: &mut BytesMut) {
        let version = self.version.unwrap_or_default();
        out.put_u64_le(microseconds(self.timeout));
        out.put_u32_le(length_or_none(self.json_length));
        for name in [self.model, version] {
            out.put_u16_le(u16::try_from(name.len()).expect("names are limited in length"));
        }
        out.put_slice(self.model.as_bytes());
        out.put_slice(version.as_bytes());
    }
}

impl Answer {
    const LENGTH: usize = 2 + 8 + 8 + 8 + 4;

    /// Reads a message: the answer, and its body.
    ///
    /// # Errors
    /// [`Malformed`] where it is none.
    pub fn read(mut message: Bytes) -> Result<(Self, Bytes), Malformed> {
        if message.len() < Self::LENGTH {
            return Err(Malformed("expected an answer, got less than its head"));
        }
        let status = StatusCode::from_u16(message.get_u16_le());
        let status = status.map_err(|_| Malformed("expected a status of three digits"))?;
        let [wait, run, retry_after] = std::array::from_fn(|_| time(message.get_u64_le()));
        let load = wait.zip(run).map(|(wait, run)| WorkerLoad { wait, run });
        let json_length = message.get_u32_le();
        let json_length = length(json_length, &message)?;
        Ok((Self { status, load, retry_after, json_length }, message))
    }
}

impl Head for Answer {
    fn length(&self) -> usize {
        Self::LENGTH
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u16_le(self.status.as_u16());
        let (wait, run) = (self.load.map(|load| load.wait), self.load.map(|load| load.run));
        for time in [wait, run, self.retry_after] {
            out.put_u64_le(time.map_or(NONE_64, microseconds));
        }
        out.put_u32_le(length_or_none(self.json_length));
    }
}

/// A name of that length, and what follows it.
fn name(bytes: &[u8], length: u16) -> Result<(&str, &[u8]), Malformed> {
    let split = bytes.split_at_checked(usize::from(length));
    let (name, rest) = split.ok_or(Malformed("expected a name, got less than its length"))?;
    let name = std::str::from_utf8(name).map_err(|_| Malformed("expected a name in UTF-8"))?;
    Ok((name, rest))
}

fn length(stated: u32, body: &Bytes) -> Result<Option<usize>, Malformed> {
    match stated as usize {
        _ if stated == NONE_32 => Ok(None),
        length if length <= body.len() => Ok(Some(length)),
        _ => Err(Malformed("expected a head of at most the body's length")),
    }
}

fn length_or_none(length: Option<usize>) -> u32 {
    length.map_or(NONE_32, |length| u32::try_from(length).expect("a head is far shorter"))
}

fn time(stated: u64) -> Option<Duration> {
    (stated != NONE_64).then(|| Duration::from_micros(stated))
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(NONE_64).min(NONE_64 - 1)
}
