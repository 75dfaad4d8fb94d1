//! The channels to one worker, one for each thread that asks it.
//!
//! They are a shorter way to a worker and never the only one: while there is none, or it is full,
//! requests take a connection of HTTP/1.1. So nobody waits for a channel to open, a worker that
//! knows no frames is asked as ever, and so is one behind a proxy that reads HTTP.
//!
//! Large requests take that way always: for them the hop's cost is their bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use inferring_protocol::frames::Request;
use inferring_protocol::rest::Chunks;
use thread_local::ThreadLocal;
use tracing::debug;

use crate::channel::{Asked, Channel};
use crate::config::ClientConfig;
use crate::draining::Draining;
use crate::pool::Pool;

/// The longest body that is sent on a channel, in bytes.
const BODY_MAX: u64 = 64 * 1024;

/// How long none is opened after one could not be.
const PAUSE: Duration = Duration::from_secs(5);

/// The channels.
#[derive(Default)]
pub(crate) struct Channels {
    /// Whether the worker has said that it knows frames.
    are_known: AtomicBool,
    /// Told where the worker says on a channel that it drains.
    pub(crate) draining: Draining,
    by_thread: ThreadLocal<Arc<Mutex<Slot>>>,
}

/// The place for a thread's channel.
#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Opening,
    Open(Open),
    /// One could not be opened.
    Paused {
        until: Instant,
    },
}

struct Open {
    channel: Channel,
    used: Instant,
    expires: Instant,
    /// How often the worker had been doubted when it was opened.
    doubts: u64,
}

impl Channels {
    /// Takes note of whether the worker knows frames.
    pub(crate) fn learn(&self, are_known: bool) {
        self.are_known.store(are_known, Ordering::Relaxed);
    }

    /// Sends a request on this thread's channel. `None` where it has to take the other way; what is
    /// missing for the next one to take this way is begun.
    pub(crate) fn ask(
        &self,
        address: &str,
        config: &ClientConfig,
        pool: &Pool,
        request: &Request<'_>,
        body: &Chunks,
        now: Instant,
    ) -> Option<Asked> {
        if body.length() > BODY_MAX || !self.are_known.load(Ordering::Relaxed) {
            return None;
        }
        let place = self.by_thread.get_or_default();
        let mut slot = place.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Slot::Open(open) if open.is_good(config, pool, now) => {
                open.used = now;
                return open.channel.ask(request, body.clone());
            }
            Slot::Opening => return None,
            Slot::Paused { until } if now < *until => return None,
            Slot::Open(_) | Slot::Paused { .. } | Slot::Empty => {}
        }
        let connection = pool.place()?;
        *slot = Slot::Opening;
        let (address, config, doubts) = (address.to_owned(), config.clone(), pool.doubts());
        let (slot, draining) = (place.clone(), self.draining.clone());
        tokio::spawn(async move {
            let opened = Channel::open(&address, &config, draining, connection).await;
            let now = tokio::time::Instant::now().into_std();
            let next = match opened {
                Ok(channel) => Slot::Open(Open {
                    channel,
                    used: now,
                    expires: now + config.lifetime(),
                    doubts,
                }),
                Err(error) => {
                    debug!(worker = address, %error, "no channel");
                    Slot::Paused { until: now + PAUSE }
                }
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = next;
        });
        None
    }
}

impl Open {
    fn is_good(&self, config: &ClientConfig, pool: &Pool, now: Instant) -> bool {
        !self.channel.is_closed()
            && self.doubts == pool.doubts()
            && now < self.expires
            && now.duration_since(self.used) < config.idle_timeout
    }
}
