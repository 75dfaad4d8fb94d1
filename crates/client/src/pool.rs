//! Idle connections to one worker, apart for each thread.
//!
//! A connection is driven by the runtime that opened it. Every serving thread has a runtime of
//! its own, so a connection that stays with its thread never wakes another one: no lock, no
//! system call, no cold cache on the way of a request.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;

use crate::config::ClientConfig;
use crate::connection::Connection;

/// Idle connections, the most recently used last.
pub(crate) struct Pool {
    idle_by_thread: ThreadLocal<RefCell<VecDeque<Idle>>>,
    idle_timeout: Duration,
    idle_max: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            idle_by_thread: ThreadLocal::new(),
            idle_timeout: config.idle_timeout,
            idle_max: config.idle_connections_max,
        }
    }

    /// This thread's most recently used connection that is not too old.
    pub(crate) fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle_by_thread.get_or_default().borrow_mut();
        let Idle { connection, since } = idle.pop_back()?;
        if now.duration_since(since) < self.idle_timeout {
            return Some(connection);
        }
        // All others have been idle for longer.
        idle.clear();
        None
    }

    /// Keeps a connection for this thread's next request.
    pub(crate) fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.idle_by_thread.get_or_default().borrow_mut();
        let outlived = idle
            .front()
            .is_some_and(|oldest| now.duration_since(oldest.since) >= self.idle_timeout);
        if outlived || idle.len() >= self.idle_max {
            idle.pop_front();
        }
        if idle.len() < self.idle_max {
            idle.push_back(Idle { connection, since: now });
        }
    }
}
