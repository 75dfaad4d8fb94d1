//! Which worker a step of a sequence is sent to.
//!
//! Its state is at one worker, however much that has to do and whatever others would do better.
//! Where this gateway has seen it answered, it goes there and nowhere else: if that worker cannot be
//! asked, the step has to wait for it. Else it is looked for, in the order in which it would have
//! begun; a worker that does not know it says so, and has executed nothing.
//!
//! A worker that drains takes the steps of what it has, and no new sequences.

use std::time::Instant;

use inferring_types::{RouteReason, SequenceStep};

use super::{Because, Chosen, Route, Stay, permit};
use crate::endpoint::Endpoint;

/// At how many workers a sequence is looked for.
const SEARCH_MAX: usize = 4;

/// Why a step has no worker to go to.
pub(crate) enum Unplaced<'a> {
    /// There is nobody, or nobody else.
    Nobody,
    /// The worker that has its state cannot be asked now.
    Away(&'a Endpoint),
}

impl<'a> Route<'a> {
    /// Another worker than those before for a step of a sequence, as things are `now`.
    ///
    /// # Errors
    /// [`Unplaced`].
    pub(crate) fn next_of(
        &mut self,
        step: &SequenceStep,
        now: Instant,
    ) -> Result<Chosen<'a>, Unplaced<'a>> {
        if !step.start && self.tried.len() >= SEARCH_MAX {
            return Err(Unplaced::Nobody);
        }
        let membership = self.membership;
        let endpoints = membership.endpoints();
        let standings = self.standings(now);
        let panics = self.router.panics(&standings);
        let number = self.router.homes.find(self.key, now);
        let home = number.and_then(|number| endpoints.iter().position(|e| e.number() == number));
        // One that it has left, or that serves the model no more, does not know it.
        let home = home.filter(|&home| standings[home].is_some() && !self.tried.contains(&home));
        let leave = |place: usize| {
            let is_candidate = self.is_candidate(place, standings[place]?.standing, panics);
            Some((place, is_candidate.then(|| permit(&endpoints[place], panics, now))??))
        };
        let (place, permit) = match home {
            Some(home) if !step.start => leave(home).ok_or(Unplaced::Away(&endpoints[home]))?,
            // Begun anew where it was, it leaves no other state behind.
            _ => home
                .into_iter()
                .chain(membership.order_of(self.key))
                .find_map(leave)
                .ok_or(Unplaced::Nobody)?,
        };
        let reason = match home == Some(place) {
            true if self.tried.is_empty() => RouteReason::Primary,
            _ => self.reason(place, Because::First, &standings),
        };
        let stay = Stay::alone(self.router.ledger.enter(&endpoints[place].load));
        Ok(self.sent(place, permit, stay, reason))
    }

    /// A worker, by its number, has answered the step.
    pub(crate) fn answered_step(&self, step: &SequenceStep, worker: u64, now: Instant) {
        if step.end {
            self.router.homes.forget(self.key);
        } else {
            self.router.homes.keep(self.key, worker, now);
        }
    }

    /// A worker that was asked knows nothing of the sequence.
    pub(crate) fn knows_no_sequence(&self) {
        self.router.homes.forget(self.key);
    }
}
