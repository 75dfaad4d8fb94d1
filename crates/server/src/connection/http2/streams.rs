//! The requests of a connection, each a task of its own.
//!
//! hyper gives out a request and its answer as one future, and waits in it without end for a
//! client that does not allow the answer to be sent. So the future is watched: what it last did
//! is left for the watcher by the answer's body, which is asked for its parts from within it.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Sleep;

/// Starts and counts them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Streams(Arc<Inner>);

struct Inner {
    open: AtomicUsize,
    opened: AtomicU64,
    none_open: Notify,
    write_timeout: Duration,
}

impl Streams {
    /// `write_timeout` is how long a client may take nothing of an answer.
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            none_open: Notify::new(),
            write_timeout,
        }))
    }

    /// How many there are now.
    pub(super) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many there have been, those there are included.
    pub(super) fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// Completes when there is none.
    pub(super) async fn ended(&self) {
        loop {
            let none_open = self.0.none_open.notified();
            if self.open() == 0 {
                return;
            }
            none_open.await;
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.0.clone());
        tokio::spawn(Watched {
            stream: Box::pin(stream),
            write_timeout: self.0.write_timeout,
            sent: Sent::default(),
            patience: None,
            _counted: counted,
        });
    }
}

/// A stream counted until this is dropped, by a panic too.
struct Counted(Arc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none_open.notify_waiters();
        }
    }
}

/// What a stream has given out of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Parts so far.
    parts: u64,
    /// Whether the last of them still waits for the client to allow it.
    is_waiting: bool,
}

tokio::task_local! {
    /// Of the stream that is being polled.
    static SENT: Cell<Sent>;
}

/// To be called when a part of the current stream's answer is given out.
pub(super) fn gives_part() {
    // Without a watcher, in a unit test, nobody wants to know.
    let _ = SENT.try_with(|sent| {
        sent.set(Sent { parts: sent.get().parts + 1, is_waiting: true });
    });
}

/// To be called when the current stream asks for the next part, and so is rid of the last.
pub(super) fn wants_part() {
    let _ = SENT.try_with(|sent| sent.set(Sent { is_waiting: false, ..sent.get() }));
}

/// A stream that is given up when its client takes nothing of its answer for too long.
struct Watched<F> {
    stream: Pin<Box<F>>,
    write_timeout: Duration,
    sent: Sent,
    /// Runs while the client allows nothing.
    patience: Option<Pin<Box<Sleep>>>,
    _counted: Counted,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let (polled, sent) = SENT.sync_scope(Cell::new(this.sent), || {
            (this.stream.as_mut().poll(cx), SENT.with(Cell::get))
        });
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if sent != this.sent {
            this.sent = sent;
            this.patience = None;
        }
        if !sent.is_waiting {
            return Poll::Pending;
        }
        let timeout = this.write_timeout;
        let patience = this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        patience.as_mut().poll(cx)
    }
}
