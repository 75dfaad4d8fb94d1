//! Frames: many requests of a gateway at a time, on one connection.
//!
//! All of a connection is one task. In its turn it reads what has come, looks after the requests
//! that can go on, and writes all answers that are ready at once. So what arrives together is
//! queued before an instance of a model wakes up, and what one run answers leaves in one write.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{AbortHandle, Aborted, FutureExt, abortable};
use futures_util::stream::{FuturesUnordered, Stream};
use inferring_protocol::frames::{
    ALL_STREAMS, Ends, Event, FrameError, Inbox, Limits, Outbox, PREFACE, STREAMS_MAX,
};
use inferring_types::{Blame, BoxFuture, ErrorKind, ServiceError};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use super::age::Age;
use super::{Serving, told_to_close, told_to_leave};
use crate::client_stream::ClientStream;
use crate::rest::framed::{self, Reply};

/// Bytes of answers that wait for the client, beyond which nothing is read from it.
const UNSENT_MAX: usize = 1024 * 1024;

/// How many bodies of the greatest length may be on their way on one connection.
const BODIES_MAX: usize = 4;

/// How long a client that was told to go may take to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("its client has gone")]
    Closed,
    #[error("it failed")]
    Failed(#[from] std::io::Error),
    #[error("its client does not speak as agreed")]
    Frame(#[from] FrameError),
    #[error("its client breaks a rule: {0}")]
    Rule(&'static str),
    #[error("nothing happens on it")]
    Quiet,
    #[error("the server ends it")]
    Done,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(mut stream: ClientStream, serving: &Arc<Serving>) {
    // It was looked at to come here.
    let mut preface = [0; PREFACE.len()];
    let opened = async {
        stream.read_exact(&mut preface).await?;
        stream.write_all(PREFACE).await
    };
    let ended = match opened.await {
        Ok(()) => converse(&mut stream, serving).await,
        Err(error) => error.into(),
    };
    if matches!(ended, Ended::Done) {
        stream.state().expect_more();
        // What the client has sent since is not answered, and it knows. Read to its end, it does
        // not undo the answers that are on their way.
        let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
    }
    debug!(reason = %ended, "connection of frames ended");
}

async fn converse(stream: &mut ClientStream, serving: &Serving) -> Ended {
    let mut conversation = Conversation::new(stream, serving);
    let age = Age::from_now(serving.config.connection_age_max);
    let leaving = async {
        tokio::select! {
            () = told_to_leave(serving.stages.leaving.clone()) => Ends::Node,
            () = age.over() => Ends::Connection,
        }
    };
    let closing = told_to_close(serving.stages.closing.clone());
    let (mut leaving, mut closing) = (pin!(leaving), pin!(closing));
    let (mut is_leaving, mut is_closing) = (false, false);
    let patience = serving.config.header_timeout;
    let mut quiet = tokio::time::interval_at(tokio::time::Instant::now() + patience, patience);
    loop {
        tokio::select! {
            biased;
            ended = std::future::poll_fn(|cx| conversation.poll(cx)) => return ended,
            ends = leaving.as_mut(), if !is_leaving => {
                is_leaving = true;
                conversation.outbox.goaway(ALL_STREAMS, ends);
            }
            () = closing.as_mut(), if !is_closing => {
                is_closing = true;
                conversation.close();
            }
            _ = quiet.tick() => {
                let has_moved = std::mem::take(&mut conversation.has_moved);
                if !has_moved && conversation.under_way.is_empty() {
                    return Ended::Quiet;
                }
            }
        }
    }
}

/// A request that is being answered, and its stream; `None` where it was cancelled.
type UnderWay<'a> = BoxFuture<'a, Option<(u32, Reply)>>;

/// A connection's requests and answers.
struct Conversation<'a> {
    stream: &'a mut ClientStream,
    serving: &'a Serving,
    inbox: Inbox,
    outbox: Outbox,
    under_way: FuturesUnordered<UnderWay<'a>>,
    /// Of those, the ones that were not cancelled.
    handles: HashMap<u32, AbortHandle>,
    /// The last request that was taken.
    last: u32,
    /// Whether requests are still taken.
    is_open: bool,
    /// Whether an answer came with the word that the node drains.
    is_told: bool,
    /// Whether anything came or went since that was last asked.
    has_moved: bool,
}

impl<'a> Conversation<'a> {
    fn new(stream: &'a mut ClientStream, serving: &'a Serving) -> Self {
        let message = usize::try_from(serving.config.body_size_max.as_u64()).unwrap_or(usize::MAX);
        let limits = Limits { message, connection: message.saturating_mul(BODIES_MAX) };
        Self {
            stream,
            serving,
            inbox: Inbox::new(limits),
            outbox: Outbox::default(),
            under_way: FuturesUnordered::new(),
            handles: HashMap::new(),
            last: 0,
            is_open: true,
            is_told: false,
            has_moved: false,
        }
    }

    /// Takes no more requests, and says so.
    fn close(&mut self) {
        self.is_open = false;
        self.outbox.goaway(self.last, Ends::Node);
    }

    /// Takes its turn; completes with the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let ended = self.poll_read(cx);
        self.poll_answers(cx);
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(error.into());
        }
        if !self.is_open && self.under_way.is_empty() && self.outbox.is_empty() {
            return Poll::Ready(Ended::Done);
        }
        ended
    }

    /// Takes what has come; completes where nothing more will.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        /// What is read in one go, so that others on this thread have their turn.
        const READS_MAX: usize = 8;
        for _ in 0..READS_MAX {
            if self.outbox.len() > UNSENT_MAX {
                // Goes on when the client has taken some.
                return Poll::Pending;
            }
            match ready!(pin!(self.stream.read_buf(self.inbox.room())).poll(cx)) {
                // Whoever has gone waits for nothing.
                Ok(0) => return Poll::Ready(Ended::Closed),
                Ok(_) => self.has_moved = true,
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
        while let Some(event) = self.inbox.event()? {
            match event {
                Event::Request { stream, message } => self.begin(stream, Some(message))?,
                Event::TooLong { stream } => self.begin(stream, None)?,
                Event::Cancel { stream } => {
                    if let Some(handle) = self.handles.remove(&stream) {
                        handle.abort();
                    }
                }
                Event::Answer { .. } | Event::Goaway { .. } => {
                    return Err(Ended::Rule("it is for it to ask, and not to answer"));
                }
            }
        }
        Ok(())
    }

    /// Begins to answer a request; one that is too long where there is no message.
    fn begin(&mut self, stream: u32, message: Option<Bytes>) -> Result<(), Ended> {
        if !self.is_open {
            return Ok(());
        }
        if self.handles.len() >= STREAMS_MAX {
            return Err(Ended::Rule("it asks for too many answers at a time"));
        }
        self.last = self.last.max(stream);
        let serving = self.serving;
        let answer = async move {
            let (node, config) = (&*serving.node, &serving.config);
            match message {
                Some(message) => framed::answer(node, config, message).await,
                None => framed::refuse(&framed::too_long(config), None),
            }
        };
        let (answer, handle) = abortable(AssertUnwindSafe(answer).catch_unwind());
        if self.handles.insert(stream, handle).is_some() {
            return Err(Ended::Rule("it gives two requests one number"));
        }
        self.under_way.push(Box::pin(async move {
            match answer.await {
                Err(Aborted) => None,
                Ok(reply) => Some((stream, reply.unwrap_or_else(panicked))),
            }
        }));
        Ok(())
    }

    /// Looks after all requests that can go on.
    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        let mut has_answered = false;
        while let Poll::Ready(Some(answered)) = Pin::new(&mut self.under_way).poll_next(cx) {
            let Some((stream, Reply { answer, body })) = answered else { continue };
            if self.handles.remove(&stream).is_some() {
                self.outbox.answer(stream, &answer, body);
                has_answered = true;
            }
        }
        // Whoever goes on asking a node that drains, by its operator's word, hears of it at once.
        if has_answered && !self.is_told && !self.serving.node.is_ready(None) {
            self.is_told = true;
            self.outbox.goaway(ALL_STREAMS, Ends::Node);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.outbox.is_empty() {
            let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, self.outbox.unsent()))?;
            self.outbox.written(written);
            self.has_moved = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// The answer where a defect of ours ended the work on a request: the others go on.
fn panicked(_: Box<dyn Any + Send>) -> Reply {
    let message = "the request was given up because of a defect in this server";
    framed::refuse(&ServiceError::new(ErrorKind::Internal, Blame::WorkerFailed, message), None)
}
