//! A connection that carries many requests to a worker at a time, in frames.
//!
//! Whoever asks puts a request into the outbox and waits; one task on the connection's own thread
//! sends what is there in one write and hands out the answers that came in one read. Both sides of
//! a channel may be on different threads, as in a test; in a gateway they are not, and its lock is
//! always free.
//!
//! What a request says is at the worker as soon as the frame is, so a channel that breaks leaves
//! its requests as a connection of HTTP/1.1 does that breaks: sent, and perhaps executed.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use inferring_protocol::frames::{
    Event, FrameError, Inbox, Limits, Outbox, PREFACE, Request, STREAMS_MAX,
};
use inferring_protocol::rest::Chunks;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::debug;

use crate::config::ClientConfig;
use crate::connection::{self, ConnectionError, Progress, Unanswered};
use crate::places::Place;

/// What comes of a request: the message that is its answer.
pub(crate) type Message = Result<Bytes, Unanswered>;

/// The connection, as those who ask have it. Once this is dropped, it takes no more requests, and
/// ends when those under way have been answered.
pub(crate) struct Channel(Arc<Shared>);

/// What those who ask share with the task that drives the connection.
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    outbox: Outbox,
    waiting: HashMap<u32, Waiting>,
    last: u32,
    /// Whether requests are taken.
    is_closed: bool,
    driver: Option<Waker>,
}

/// Whoever waits for an answer.
enum Waiting {
    Still(Option<Waker>),
    Over(Message),
}

impl Channel {
    /// Opens a channel to `address` (`host:port`), and has it driven on this runtime.
    ///
    /// # Errors
    /// Where there is no connection within the time to connect, or the other side does not speak in frames.
    pub(crate) async fn open(
        address: &str,
        config: &ClientConfig,
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
        let shared = Arc::new(Shared(Mutex::default()));
        let answer_max = config.answer_max();
        let inbox = Inbox::new(Limits { message: answer_max, connection: usize::MAX });
        let driver = Driver { stream, inbox, answer_max, shared: shared.clone() };
        let address = address.to_owned();
        tokio::spawn(async move {
            let _place = place;
            let ended = driver.run().await;
            debug!(worker = address, reason = %ended, "channel ended");
        });
        Ok(Self(shared))
    }

    /// Whether it takes no requests any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// Sends a request; `None` where it cannot be sent here.
    pub(crate) fn ask(&self, request: &Request<'_>, body: Chunks) -> Option<Asked> {
        let mut state = self.0.lock();
        if state.is_closed || state.waiting.len() >= STREAMS_MAX {
            return None;
        }
        let Some(stream) = state.last.checked_add(1) else {
            // Its numbers are used up.
            state.is_closed = true;
            return None;
        };
        state.last = stream;
        state.outbox.request(stream, request, body);
        state.waiting.insert(stream, Waiting::Still(None));
        state.wake_driver();
        Some(Asked { shared: self.0.clone(), stream })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.wake_driver();
    }
}

impl Shared {
    /// The state. No code that has it panics half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Whether anything is still to come.
    fn is_awaited(&self) -> bool {
        self.waiting.values().any(|waiting| matches!(waiting, Waiting::Still(_)))
    }

    /// Hands out what became of a request, if anybody waits for it.
    fn settle(&mut self, stream: u32, message: Message) {
        let Some(waiting) = self.waiting.get_mut(&stream) else { return };
        if let Waiting::Still(Some(waker)) = std::mem::replace(waiting, Waiting::Over(message)) {
            waker.wake();
        }
    }

    /// Ends all requests after `last` that have no answer.
    fn fail_after(&mut self, last: u32, progress: impl Fn(u32) -> Progress) {
        let is_still = |(&stream, waiting): (&u32, &Waiting)| {
            (stream > last && matches!(waiting, Waiting::Still(_))).then_some(stream)
        };
        let streams: Vec<u32> = self.waiting.iter().filter_map(is_still).collect();
        for stream in streams {
            let (error, progress) = (ConnectionError::ChannelBroken, progress(stream));
            self.settle(stream, Err(Unanswered { error, progress }));
        }
    }
}

/// A request that was sent: completes with its answer. Dropped before that, it is cancelled.
pub(crate) struct Asked {
    shared: Arc<Shared>,
    stream: u32,
}

impl Future for Asked {
    type Output = Message;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Message> {
        let mut state = self.shared.lock();
        match state.waiting.get_mut(&self.stream) {
            Some(Waiting::Still(waker)) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(Waiting::Over(_)) => match state.waiting.remove(&self.stream) {
                Some(Waiting::Over(message)) => Poll::Ready(message),
                _ => unreachable!("it has just been looked at"),
            },
            None => panic!("asked again after it was answered"),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(Waiting::Still(_)) = state.waiting.remove(&self.stream) {
            state.outbox.cancel(self.stream);
            state.wake_driver();
        }
    }
}

/// What drives a connection.
struct Driver {
    stream: TcpStream,
    inbox: Inbox,
    answer_max: usize,
    shared: Arc<Shared>,
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
        let Self { inbox, shared, .. } = self;
        let mut state = shared.lock();
        state.is_closed = true;
        state.fail_after(0, |stream| {
            if inbox.has_begun(stream) { Progress::Answering } else { Progress::Sent }
        });
        ended
    }

    /// Takes its turn; completes with the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let ended = self.poll_read(cx);
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Poll::Ready(Err(error)) = self.poll_write(&mut state.outbox, cx) {
            return Poll::Ready(error.into());
        }
        if state.is_closed && state.outbox.is_empty() && !state.is_awaited() {
            return Poll::Ready(Ended::Done);
        }
        state.driver = Some(cx.waker().clone());
        ended
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
        let mut state = self.shared.lock();
        while let Some(event) = self.inbox.event()? {
            match event {
                Event::Answer { stream, message } => state.settle(stream, Ok(message)),
                Event::TooLong { stream } => {
                    let error = ConnectionError::TooLarge { limit: self.answer_max };
                    let progress = Progress::Answering;
                    state.settle(stream, Err(Unanswered { error, progress }));
                }
                Event::Goaway { last } => {
                    state.is_closed = true;
                    state.fail_after(last, |_| Progress::Unsent);
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
