//! A client's connection that knows what TCP does to clients, and clients to servers.
//!
//! A client that sends requests and reads no answers would hold its connection, its place under
//! the limit and the answer's memory for ever: nothing else has a deadline once an answer is
//! being sent. So writing has one; and so has the system, which holds the end of an answer that
//! fitted into its buffers, for a client that may never take it, even when we have closed.
//!
//! A client whose request is refused before it has sent all of it goes on sending. Were the
//! connection closed on that, the system would answer with a reset, and the client would see a
//! broken pipe instead of the refusal. So what it still sends is read and thrown away.
//!
//! What a client sends is looked at on its way to hyper for what hyper does not refuse: see
//! [`Framing`] and [`FrameBudget`].
//!
//! Which protocol a client speaks shows in the first bytes that it sends. They are read once
//! and given out again to whoever reads the connection after that.

mod low_water;
mod unseen;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use inferring_protocol::frames;
use inferring_types::Announced;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::config::ServerConfig;
use crate::frame_budget::FrameBudget;
use crate::framing::Framing;
use crate::pace::Pace;
use low_water::LowWater;
use unseen::Unseen;

/// The connection. Writing to it fails once the client has taken too little for the time-out.
pub(crate) struct ClientStream {
    stream: TcpStream,
    /// What was read to tell the protocol, to be read again.
    opening: Bytes,
    watch: Watch,
    unseen: Unseen,
    low_water: LowWater,
    /// Runs while the client takes less than there is.
    taking: Pace,
    linger_timeout: Duration,
    /// Runs while what the client still sends is thrown away.
    lingering: Option<Pin<Box<Sleep>>>,
    state: Arc<State>,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Frames,
}

/// What a client that speaks HTTP/2 sends first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Protocol {
    /// What a client speaks that opens so; `None` where what follows would tell.
    fn of(seen: &[u8], ended: bool) -> Option<Self> {
        for (preface, protocol) in [(HTTP2_PREFACE, Self::Http2), (frames::PREFACE, Self::Frames)] {
            if seen.starts_with(preface) {
                return Some(protocol);
            }
            if preface.starts_with(seen) && !ended {
                return None;
            }
        }
        Some(Self::Http1)
    }
}

/// What looks at the bytes that the client sends.
enum Watch {
    Nothing,
    Http1(Framing),
    Http2(FrameBudget),
    /// It has seen enough.
    Flooded,
}

/// What is known of a connection while another has it.
#[derive(Default)]
pub(crate) struct State {
    is_blocked: AtomicBool,
    expects_more: AtomicBool,
    discards: AtomicBool,
    written: AtomicU64,
    is_flooding: Notify,
}

impl State {
    /// Completes once the client has sent so much beside the point that it is not read any more.
    pub(crate) async fn flooding(&self) {
        self.is_flooding.notified().await;
    }

    /// Whether an answer waits for the client to read.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Bytes that the client was sent so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// From now on nobody looks at what is left of the request's body, or somebody does again.
    pub(crate) fn discard(&self, discards: bool) {
        self.discards.store(discards, Ordering::Relaxed);
    }

    /// Lets the connection's end wait for a client that has not sent all of its request.
    pub(crate) fn expect_more(&self) {
        self.expects_more.store(true, Ordering::Relaxed);
    }
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, config: &ServerConfig) -> Self {
        limit_system(&stream, config.write_timeout);
        Self {
            stream,
            opening: Bytes::new(),
            watch: Watch::Nothing,
            unseen: Unseen::default(),
            low_water: LowWater::new(LowWater::PATIENCE),
            taking: config.write_pace(),
            linger_timeout: config.body_timeout,
            lingering: None,
            state: Arc::default(),
        }
    }

    /// What is known of it at any later time.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// What the client speaks. Reads until that is certain, or the client sends no more.
    ///
    /// # Errors
    /// Where the connection fails.
    pub(crate) async fn protocol(&mut self) -> io::Result<Protocol> {
        /// Enough for most requests' heads, so that reading them takes one read as ever.
        const READ_MAX: usize = 4096;
        let mut seen = BytesMut::with_capacity(READ_MAX);
        let protocol = loop {
            let ended = self.stream.read_buf(&mut seen).await? == 0;
            if let Some(protocol) = Protocol::of(&seen, ended) {
                break protocol;
            }
        };
        self.opening = seen.freeze();
        self.watch = match protocol {
            Protocol::Http1 => Watch::Http1(Framing::default()),
            Protocol::Http2 => Watch::Http2(FrameBudget::new(HTTP2_PREFACE.len(), Instant::now())),
            Protocol::Frames => Watch::Nothing,
        };
        Ok(protocol)
    }

    /// What became of writing `offered` bytes, unless the client's time is over.
    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        offered: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = &written {
            if let Ok(length) = outcome {
                // Only this connection's own thread counts.
                let total = self.state.written() + *length as u64;
                self.state.written.store(total, Ordering::Relaxed);
                self.taking.moved(*length);
            }
            if self.state.is_blocked() && !outcome.as_ref().is_ok_and(|&length| length < offered) {
                self.taking.rest();
                self.state.is_blocked.store(false, Ordering::Relaxed);
            }
            return written;
        }
        self.state.is_blocked.store(true, Ordering::Relaxed);
        ready!(self.taking.poll_too_slow(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// How much of what comes next nobody will look at.
    fn to_be_unseen(&self) -> u64 {
        match &self.watch {
            Watch::Http1(framing)
                if self.opening.is_empty() && self.state.discards.load(Ordering::Relaxed) =>
            {
                framing.content_left()
            }
            _ => 0,
        }
    }

    /// How much of what comes next is read at once: of a body that may be refused by its head, no more
    /// before the head is known than of one that may not.
    fn to_be_received(&self) -> u64 {
        match &self.watch {
            Watch::Http1(framing) if framing.is_before_body() => Announced::LARGE,
            _ => u64::MAX,
        }
    }

    /// Reads without looking at it.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.opening.is_empty() {
            let most = self.to_be_received();
            return Pin::new(&mut (&mut self.stream).take(most)).poll_read(cx, buffer);
        }
        let length = self.opening.len().min(buffer.remaining());
        buffer.put_slice(&self.opening[..length]);
        self.opening.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Has the system give up what the client takes nothing of for that time. It is a limit on what the
/// client costs, and it is served without it: where the system knows no such thing, nothing fails.
fn limit_system(stream: &TcpStream, timeout: Duration) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, timeout);
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.watch, Watch::Flooded) {
            // Whoever was told ends the connection.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let unseen = this.to_be_unseen();
        let read = if unseen > 0 || this.unseen.untold() > 0 {
            this.unseen.poll_read(&this.stream, unseen, cx, buffer)
        } else {
            this.poll_receive(cx, buffer)
        };
        match read {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                this.low_water.wait(&this.stream, cx);
                return Poll::Pending;
            }
        }
        let received = &mut buffer.filled_mut()[before..];
        match &mut this.watch {
            Watch::Nothing | Watch::Flooded => {}
            Watch::Http1(framing) => {
                if framing.follow(received) {
                    // It is refused, whatever follows.
                    this.state.expect_more();
                }
                let left = framing.content_left().saturating_sub(this.unseen.untold() as u64);
                this.low_water.received(received.len(), left);
            }
            Watch::Http2(budget) => {
                if budget.follow(received, this.state.written(), Instant::now).is_err() {
                    this.state.is_flooding.notify_one();
                    buffer.set_filled(before);
                    this.watch = Watch::Flooded;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, bytes.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        let offered = parts.iter().map(|part| part.len()).sum();
        self.judge(written, offered, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.state.expects_more.load(Ordering::Relaxed) {
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl ClientStream {
    /// Throws away what the client sends until it closes, or its time is over.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// What is read in one go, so that others on this thread have their turn.
        const READS_MAX: usize = 16;
        self.low_water.reset(&self.stream);
        let timeout = self.linger_timeout;
        let time = self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut buffer = [0; 16 * 1024];
        for _ in 0..READS_MAX {
            let mut read = ReadBuf::new(&mut buffer);
            let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
            if outcome.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
