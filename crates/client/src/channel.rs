//! A connection that carries many requests to a worker at a time, in frames.
//!
//! Whoever asks puts a request into the outbox and waits; one task on the connection's own thread
//! sends what is there in one write and hands out the answers that came in one read. Both sides of
//! a channel may be on different threads, as in a test; in a gateway they are not, and its lock is
//! always free.
//!
//! What a request says is at the worker as soon as the frame is, so a channel that breaks leaves
//! its requests sent, and perhaps executed: it has lost a worker, or that is for others to find out.
//! One of them may be better off. A worker may close a channel on which nothing happens at the very
//! moment at which a request is put on it, and so the first one that follows an idle time and is not
//! answered by a single byte is told apart ([`Progress::Raced`]).

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use inferring_protocol::frames::{
    Ends, Event, FrameError, Inbox, Limits, Outbox, PREFACE, Request,
};
use inferring_protocol::rest::Chunks;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::debug;

use crate::calls::{self, Calls};
use crate::config::ClientConfig;
use crate::connection::{self, ConnectionError, Progress, Unanswered};
use crate::draining::Draining;
use crate::places::Place;

/// What comes of a request: the message that is its answer.
pub(crate) type Message = Result<Bytes, Unanswered>;

/// The connection, as those who ask have it. Once this is dropped, it takes no more requests, and
/// ends when those under way have been answered.
pub(crate) struct Channel(Arc<Calls<Message>>);

/// A request that was sent, and what is to come of it.
pub(crate) type Asked = calls::Asked<Message>;

impl Channel {
    /// Opens a channel to `address` (`host:port`), and has it driven on this runtime.
    ///
    /// # Errors
    /// Where there is no connection within the time to connect, or the other side does not speak in frames.
    pub(crate) async fn open(
        address: &str,
        config: &ClientConfig,
        draining: Draining,
        place: Place,
    ) -> Result<Self, ConnectionError> {
        let timeout = config.connect_timeout;
        let mut stream = connection::connect(address, timeout).await?;
        let not_opened = |source| ConnectionError::Connect { address: address.into(), source };
        let agree = async {
            stream.write_all(PREFACE).await?;
            let mut preface = [0; PREFACE.len()];
            stream.read_exact(&mut preface).await?;
            Ok(preface == PREFACE)
        };
        let agreed = tokio::time::timeout(timeout, agree).await;
        match agreed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(true) => {}
            Ok(false) => return Err(not_opened(std::io::ErrorKind::InvalidData.into())),
            Err(source) => return Err(not_opened(source)),
        }
        let calls = Arc::new(Calls::default());
        let answer_max = config.answer_max();
        let inbox = Inbox::new(Limits { message: answer_max, connection: usize::MAX });
        let driver = Driver { stream, inbox, answer_max, draining, calls: calls.clone() };
        let address = address.to_owned();
        tokio::spawn(async move {
            let _place = place;
            let ended = driver.run().await;
            debug!(worker = address, reason = %ended, "channel ended");
        });
        Ok(Self(calls))
    }

    /// Whether it takes no requests any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed()
    }

    /// Sends a request; `None` where it cannot be sent here.
    pub(crate) fn ask(&self, request: &Request<'_>, body: Chunks) -> Option<Asked> {
        Calls::ask(&self.0, request, body)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.0.lock().close();
    }
}

/// What becomes of a request whose channel ends.
fn broken(progress: Progress) -> Message {
    Err(Unanswered { error: ConnectionError::ChannelBroken, progress })
}

/// What drives a connection.
struct Driver {
    stream: TcpStream,
    inbox: Inbox,
    answer_max: usize,
    draining: Draining,
    calls: Arc<Calls<Message>>,
}

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the worker closed it")]
    Closed,
    #[error("it failed")]
    Failed(#[from] std::io::Error),
    #[error("the worker does not speak as agreed")]
    Frame(#[from] FrameError),
    #[error("the worker asks instead of answering")]
    Asks,
    #[error("nobody needs it")]
    Done,
}

impl Driver {
    async fn run(mut self) -> Ended {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        let Self { inbox, calls, .. } = self;
        let mut calls = calls.lock();
        let is_closed = matches!(ended, Ended::Closed | Ended::Failed(_));
        let raced = calls.first_of_burst().filter(|_| is_closed);
        calls.fail_after(0, |stream| {
            broken(match inbox.has_begun(stream) {
                true => Progress::Answering,
                false if raced == Some(stream) => Progress::Raced,
                false => Progress::Sent,
            })
        });
        drop(calls);
        ended
    }

    /// Takes its turn; completes with the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let ended = self.poll_read(cx);
        let calls = self.calls.clone();
        let mut calls = calls.lock();
        if let Poll::Ready(Err(error)) = self.poll_write(calls.outbox(), cx) {
            return Poll::Ready(error.into());
        }
        match calls.poll_done(cx) {
            Poll::Ready(()) => Poll::Ready(Ended::Done),
            Poll::Pending => ended,
        }
    }

    /// Hands out what has come; completes where nothing more will.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        /// What is read in one go, so that others on this thread have their turn.
        const READS_MAX: usize = 8;
        for _ in 0..READS_MAX {
            match ready!(pin!(self.stream.read_buf(self.inbox.room())).poll(cx)) {
                Ok(0) => return Poll::Ready(Ended::Closed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
            if let Err(ended) = self.take_events() {
                return Poll::Ready(ended);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_events(&mut self) -> Result<(), Ended> {
        let mut calls = self.calls.lock();
        calls.heard();
        while let Some(event) = self.inbox.event()? {
            match event {
                Event::Answer { stream, message } => calls.settle(stream, Ok(message)),
                Event::TooLong { stream } => {
                    let error = ConnectionError::TooLarge { limit: self.answer_max };
                    let progress = Progress::Answering;
                    calls.settle(stream, Err(Unanswered { error, progress }));
                }
                Event::Goaway { last, ends } => {
                    if ends == Ends::Node {
                        // Before those are woken who now ask elsewhere.
                        self.draining.tell();
                    }
                    calls.fail_after(last, |_| broken(Progress::Unsent));
                }
                Event::Request { .. } | Event::Cancel { .. } => return Err(Ended::Asks),
            }
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        outbox: &mut Outbox,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        while !outbox.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, outbox.unsent()))?;
            outbox.written(written);
        }
        Poll::Ready(Ok(()))
    }
}
