//! Which workers to ask for a request, and in which order.

use std::iter::Peekable;
use std::time::Instant;

use inferring_policy::Permit;
use inferring_types::{ModelSelector, RoutingKey};

use crate::endpoint::Endpoint;
use crate::membership::Membership;

/// The workers that a request may be sent to, in the order in which its key belongs to them:
/// reachable, serving the model, and admitted by their breakers. Each comes once.
pub(crate) struct Route<I: Iterator> {
    candidates: Peekable<I>,
}

/// The route of a request for what is `asked`, with this key.
pub(crate) fn route<'a>(
    membership: &'a Membership,
    key: RoutingKey,
    asked: ModelSelector<'a>,
    now: Instant,
) -> Route<impl Iterator<Item = &'a Endpoint>> {
    let may_be_asked = move |endpoint: &&Endpoint| {
        endpoint.is_reachable() && endpoint.serves(asked) && endpoint.breaker.is_available(now)
    };
    Route { candidates: membership.in_order_of(key).filter(may_be_asked).peekable() }
}

impl<'a, I: Iterator<Item = &'a Endpoint>> Route<I> {
    /// The next worker, and its breaker's permission to ask it. A worker that was seen to be
    /// there before another one was asked may be gone by now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(&'a Endpoint, Permit<'a>)> {
        self.candidates
            .by_ref()
            .filter(|endpoint| endpoint.is_reachable())
            .find_map(|endpoint| Some((endpoint, endpoint.breaker.try_acquire(now)?)))
    }

    /// Whether another worker could be asked.
    pub(crate) fn has_next(&mut self) -> bool {
        self.candidates.peek().is_some()
    }
}
