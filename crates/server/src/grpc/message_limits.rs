//! A request's body, held to its limits message by message.
//!
//! A message says its length before it comes, so one that is too long is refused before any of
//! it is kept. One that has begun must arrive in time; how long a stream is silent between two
//! messages is the client's own affair.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use inferring_types::{Blame, ErrorKind, ServiceError};
use tokio::time::Sleep;

use super::status::status;
use crate::pace::Pace;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageLimits {
    /// The length of a message, in bytes.
    pub(super) size_max: usize,
    /// How long a message may take to arrive.
    pub(super) timeout: Duration,
    /// Bytes a second of it, looked at over a third of that time.
    pub(super) rate_min: u64,
}

impl MessageLimits {
    fn pace(&self) -> Pace {
        Pace::new(self.timeout / 3, self.rate_min)
    }
}

/// A body under limits.
pub(super) struct Limited<B> {
    body: B,
    limits: MessageLimits,
    message: Message,
    /// Whether the client owes a message that it has not begun.
    awaits_message: bool,
    /// Runs while a message is awaited.
    patience: Option<Pin<Box<Sleep>>>,
    /// Runs while a message is arriving.
    pace: Pace,
}

impl<B> Limited<B> {
    /// `awaits_message` tells whether a message must follow the request's head at once.
    pub(super) fn new(body: B, limits: MessageLimits, awaits_message: bool) -> Self {
        Self {
            body,
            limits,
            message: Message::default(),
            awaits_message,
            patience: None,
            pace: limits.pace(),
        }
    }

    fn follow(&mut self, data: &[u8]) -> Result<(), BoxError> {
        self.message.follow(data, self.limits.size_max)?;
        self.awaits_message = false;
        self.pace.moved(data.len());
        if !self.message.has_begun() {
            self.patience = None;
            self.pace.rest();
        }
        Ok(())
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let followed = frame.data_ref().map_or(Ok(()), |data| this.follow(data));
                Poll::Ready(Some(followed.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if this.awaits_message || this.message.has_begun() => {
                let timeout = this.limits.timeout;
                let patience =
                    this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                if patience.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(too_late(timeout))));
                }
                if !this.message.has_begun() {
                    return Poll::Pending;
                }
                this.pace.poll_too_slow(cx).map(|()| Some(Err(too_slow())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The message that is arriving.
#[derive(Debug, Default)]
struct Message {
    /// A byte that says whether it is compressed, and the length as 32 bits.
    prefix: [u8; 5],
    prefix_length: usize,
    /// What is still to come of it.
    remaining: usize,
}

impl Message {
    /// Whether part of one has arrived, and not the whole.
    fn has_begun(&self) -> bool {
        self.prefix_length > 0
    }

    fn follow(&mut self, mut data: &[u8], size_max: usize) -> Result<(), BoxError> {
        while !data.is_empty() {
            if self.prefix_length < self.prefix.len() {
                let (byte, rest) = data.split_first().expect("it is not empty");
                self.prefix[self.prefix_length] = *byte;
                self.prefix_length += 1;
                data = rest;
                if self.prefix_length == self.prefix.len() {
                    let [_, length @ ..] = self.prefix;
                    self.remaining = u32::from_be_bytes(length) as usize;
                    if self.remaining > size_max {
                        return Err(too_large(size_max));
                    }
                }
            } else {
                let taken = data.len().min(self.remaining);
                self.remaining -= taken;
                data = &data[taken..];
            }
            if self.prefix_length == self.prefix.len() && self.remaining == 0 {
                self.prefix_length = 0;
            }
        }
        Ok(())
    }
}

fn too_large(limit: usize) -> BoxError {
    let message = format!("the message is larger than the limit of {limit} bytes");
    refused(ErrorKind::TooLarge, message)
}

fn too_late(limit: Duration) -> BoxError {
    refused(ErrorKind::DeadlineExceeded, format!("the message did not arrive within {limit:?}"))
}

fn too_slow() -> BoxError {
    refused(ErrorKind::DeadlineExceeded, "the message arrives too slowly".to_owned())
}

fn refused(kind: ErrorKind, message: String) -> BoxError {
    Box::new(status(&ServiceError::new(kind, Blame::Client, message), None))
}

#[cfg(test)]
mod tests {
    use inferring_protocol::rest::Chunks;
    use tonic::{Code, Status};

    use super::*;

    fn limited(data: &[u8]) -> Limited<Chunks> {
        let limits = MessageLimits { size_max: 4, timeout: Duration::from_secs(1), rate_min: 0 };
        Limited::new(Chunks::one(data.to_vec()), limits, true)
    }

    fn code(error: &BoxError) -> Code {
        error.downcast_ref::<Status>().unwrap().code()
    }

    #[test]
    fn messages_are_followed_wherever_they_are_cut() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x04abcd";
        for at in 0..=stream.len() {
            let mut message = Message::default();
            message.follow(&stream[..at], 4).unwrap();
            assert_eq!(message.has_begun(), ![0, 8, 13, 22].contains(&at), "{at}");
            message.follow(&stream[at..], 4).unwrap();
            assert!(!message.has_begun());
        }
    }

    #[test]
    fn one_byte_too_many_is_refused_by_the_prefix_alone() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = Pin::new(&mut limited(b"\0\0\0\0\x05")).poll_frame(&mut cx);
        let Poll::Ready(Some(Err(error))) = polled else { panic!("refused") };
        assert_eq!(code(&error), Code::ResourceExhausted);
        let polled = Pin::new(&mut limited(b"\0\0\0\0\x04")).poll_frame(&mut cx);
        assert!(matches!(polled, Poll::Ready(Some(Ok(_)))));
    }

    /// A client that sends this and then nothing.
    struct Silent(Option<Bytes>);

    impl Body for Silent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_has_begun_must_arrive_in_time() {
        let limits = MessageLimits { size_max: 9, timeout: Duration::from_secs(1), rate_min: 0 };
        for (sent, awaits_message, is_refused) in [
            (&b"\0\0\0\0\x03ab"[..], false, true),
            (b"\0", false, true),
            (b"", true, true),
            (b"", false, false),
            (b"\0\0\0\0\x02ab", false, false),
        ] {
            let data = (!sent.is_empty()).then(|| Bytes::copy_from_slice(sent));
            let mut body = Limited::new(Silent(data), limits, awaits_message);
            let mut next =
                async || std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            if !sent.is_empty() {
                assert!(next().await.unwrap().is_ok());
            }
            let waited = tokio::time::timeout(Duration::from_secs(60), next()).await;
            match waited {
                Ok(frame) => {
                    assert!(is_refused, "{sent:?}");
                    assert_eq!(code(&frame.unwrap().unwrap_err()), Code::DeadlineExceeded);
                }
                Err(_) => assert!(!is_refused, "{sent:?}"),
            }
        }
    }
}
