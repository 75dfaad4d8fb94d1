//! What a client still sends of a request that is answered already.
//!
//! A request can be refused by its head, and most clients send the whole body before they look for
//! an answer. Were the connection closed on that, they would see a broken pipe, or a reset that
//! overtakes the answer. So what still comes is read and thrown away, part by part, beside the
//! answer and whatever else there is to do, and the connection serves on.
//!
//! Only so much of it: a client that has more to send is told that the connection ends, which
//! many take as a reason to stop. One that waits to be asked for its body (`Expect: 100-continue`)
//! is not asked, and ends the connection as well: nobody could say whether what comes next on it
//! is the body or another request.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::EXPECT;
use http::request::Parts;
use hyper::body::{Body, Incoming};
use tokio::time::Sleep;

use super::body::Paced;
use crate::config::ServerConfig;

/// The rest of a request's body. As a future it throws that away, and tells at the end whether
/// this is all.
pub(crate) struct Unread {
    body: Paced<Incoming>,
    /// Bytes that it may have.
    left: u64,
    time: Pin<Box<Sleep>>,
}

/// What an answer leaves of its request.
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// This is to be read.
    Follows(Unread),
    /// Nobody waits for it.
    TooMuch,
}

impl Rest {
    /// To close a connection and to open another one costs both sides less than to send so much
    /// in vain.
    const MAX: u64 = 4 * 1024 * 1024;

    pub(super) fn of(head: &Parts, body: Incoming, config: &ServerConfig) -> Self {
        if body.is_end_stream() {
            return Self::Nothing;
        }
        if head.headers.contains_key(EXPECT) || body.size_hint().lower() > Self::MAX {
            return Self::TooMuch;
        }
        Self::Follows(Unread {
            body: Paced::new(body, config.body_pace()),
            left: Self::MAX,
            time: Box::pin(tokio::time::sleep(config.body_timeout)),
        })
    }
}

impl Future for Unread {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return Poll::Pending;
            };
            let length = match frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => return Poll::Ready(false),
                None => return Poll::Ready(true),
            };
            match self.left.checked_sub(length) {
                Some(left) => self.left = left,
                None => return Poll::Ready(false),
            }
        }
    }
}
