//! Connections to one worker, apart for each thread: those that are idle, and how many there are.
//!
//! A connection is driven by the runtime that opened it. Every serving thread has a runtime of
//! its own, so a connection that stays with its thread never wakes another one: no lock, no
//! system call, no cold cache on the way of a request.
//!
//! An idle connection tells nothing of a worker whose host or network is gone: a request sent on
//! it waits for as long as it may. So when the worker does not answer a question about its health,
//! all that were idle then are used no more, on any thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::places::{Place, Places};

/// The connections.
pub(crate) struct Pool {
    by_thread: ThreadLocal<OfThread>,
    /// How often the worker has been doubted.
    doubts: AtomicU64,
    idle_timeout: Duration,
    idle_max: usize,
    open_max: usize,
}

#[derive(Default)]
struct OfThread {
    /// The most recently used last.
    idle: RefCell<VecDeque<Idle>>,
    /// Those that are open or being opened, idle or not.
    open: Places,
}

struct Idle {
    connection: Connection,
    since: Instant,
    /// How often the worker had been doubted when the connection last carried an answer.
    doubts: u64,
}

impl Pool {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            by_thread: ThreadLocal::new(),
            doubts: AtomicU64::new(0),
            idle_timeout: config.idle_timeout,
            idle_max: config.idle_connections_max,
            open_max: config.connections_max.get(),
        }
    }

    /// This thread's most recently used connection that may be used.
    pub(crate) fn take(&self, now: Instant) -> Option<Connection> {
        let doubts = self.doubts();
        let mut idle = self.by_thread.get_or_default().idle.borrow_mut();
        while let Some(last) = idle.pop_back() {
            if now.duration_since(last.since) >= self.idle_timeout {
                // All others have been idle for longer.
                idle.clear();
                return None;
            }
            if last.doubts == doubts && !last.connection.has_expired(now) {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection that has just carried an answer for this thread's next request.
    pub(crate) fn put(&self, connection: Connection, now: Instant) {
        let doubts = self.doubts();
        let mut idle = self.by_thread.get_or_default().idle.borrow_mut();
        let outlived = idle
            .front()
            .is_some_and(|oldest| now.duration_since(oldest.since) >= self.idle_timeout);
        if outlived || idle.len() >= self.idle_max {
            idle.pop_front();
        }
        if idle.len() < self.idle_max {
            idle.push_back(Idle { connection, since: now, doubts });
        }
    }

    /// A place for one more connection of this thread; `None` where it has as many as it may.
    pub(crate) fn place(&self) -> Option<Place> {
        self.by_thread.get_or_default().open.take(self.open_max)
    }

    /// How many connections a thread may have.
    pub(crate) fn open_max(&self) -> usize {
        self.open_max
    }

    /// Whether this thread need not see to it that there is a connection that works: one is in
    /// use, or was not long ago.
    pub(crate) fn is_warm(&self, now: Instant, recently: Duration) -> bool {
        let of_thread = self.by_thread.get_or_default();
        let idle = of_thread.idle.borrow();
        let doubts = self.doubts();
        match idle.back() {
            Some(last) => {
                let is_recent = now.duration_since(last.since) < recently;
                is_recent && last.doubts == doubts && !last.connection.is_closed()
            }
            None => of_thread.open.taken() > 0,
        }
    }

    /// How often the worker has been doubted.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// Uses nothing any more that is idle now.
    pub(crate) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }
}
