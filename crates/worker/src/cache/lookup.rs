//! What is known of what is asked for.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::flight::{Flight, Urgency};
use super::leader::{AnswerFlight, Leader, Ticket};
use super::{Answer, Key, OutputAxes, Place, ResultCache, Sharing, Tenant};

/// What became of a look-up.
pub(crate) enum Lookup {
    /// The answer was kept.
    Hit(Arc<Answer>),
    /// An equal request is being computed, alone or as this row of a job; the ticket waits for
    /// it.
    Join(Ticket, Row),
    /// Nobody has it: the caller hands the leader to whoever computes it, and waits like all
    /// others.
    Lead(Ticket, Leader),
}

/// Which row of a job's answer; `None` where all of it is meant.
pub(crate) type Row = Option<usize>;

/// What became of looking up the parts of one request.
#[derive(Default)]
pub(crate) struct Found {
    /// Where the answer to each part comes from.
    pub(crate) sources: Vec<Source>,
    /// The computations to wait for.
    pub(crate) awaited: Vec<Awaited>,
}

pub(crate) enum Source {
    /// It was kept.
    Kept(Arc<Answer>),
    /// It is this row of what is computed there.
    Awaited(usize, Row),
}

/// A computation that some parts wait for.
pub(crate) struct Awaited {
    pub(crate) ticket: Ticket,
    /// Where the caller leads it.
    pub(crate) led: Option<Led>,
}

/// A computation to begin.
pub(crate) struct Led {
    pub(crate) leader: Leader,
    /// The parts that it is of, in this order.
    pub(crate) parts: Vec<usize>,
}

/// How parts that nobody knows become computations.
pub(crate) struct Jobs<'a> {
    /// Parts of one computation at most. Where there may be several, each is one row.
    pub(crate) parts_max: usize,
    pub(crate) axes: &'a Arc<OutputAxes>,
    pub(crate) company: Company,
}

/// Whose computations are joined. Who was failed by another's fault asks for less company the
/// next time, so that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// Anybody's.
    Any,
    /// Those of the same rows and no others: no other row can make them fail.
    Apart,
    /// Nobody's: what led them may have had less time, or have been refused.
    Nobody,
}

impl Company {
    fn admits(self, place: &Place) -> bool {
        match self {
            Self::Any => true,
            Self::Apart => place.row.is_none(),
            Self::Nobody => false,
        }
    }

    /// What to ask for after a failure that was another's; `None` after one in no company.
    pub(crate) fn less(self) -> Option<Self> {
        match self {
            Self::Any => Some(Self::Apart),
            Self::Apart => Some(Self::Nobody),
            Self::Nobody => None,
        }
    }
}

impl ResultCache {
    /// Finds the answer for `key`, joins its computation in this company, or makes the caller its
    /// leader.
    ///
    /// The key covers all that an answer depends on, so tenants that are loaded from equal files
    /// in equal ways may find each other's.
    pub(crate) fn get_or_lead(
        self: &Arc<Self>,
        company: Company,
        tenant: Tenant,
        key: Key,
        urgency: Urgency,
        now: Instant,
    ) -> Lookup {
        debug_assert_ne!(tenant.sharing(), Sharing::Nothing);
        let keeps = tenant.sharing() == Sharing::Kept;
        let mut state = self.state.lock();
        if keeps && let Some(answer) = state.store.get(&key, tenant.time_to_live(), now) {
            drop(state);
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Hit(answer);
        }
        let entry = state.flights.entry(key);
        if let Entry::Occupied(place) = &entry
            && company.admits(place.get())
            && let Some(ticket) = place.get().flight.join(urgency)
        {
            let row = place.get().row;
            drop(state);
            self.joined.fetch_add(1, Ordering::Relaxed);
            return Lookup::Join(ticket, row);
        }
        let (flight, ticket) = lead(urgency);
        entry.insert_entry(Place { flight: flight.clone(), row: None });
        drop(state);
        self.misses.fetch_add(1, Ordering::Relaxed);
        let mut leader = Leader::new(self.clone(), tenant.keeper(), flight);
        leader.keys.push(key);
        Lookup::Lead(ticket, leader)
    }

    /// Looks up all parts of one request at once. Of equal parts that nobody knows, one is led
    /// and the others join it.
    pub(crate) fn find(
        self: &Arc<Self>,
        tenant: Tenant,
        keys: &[Key],
        jobs: &Jobs<'_>,
        urgency: Urgency,
        now: Instant,
    ) -> Found {
        debug_assert_ne!(tenant.sharing(), Sharing::Nothing);
        let keeps = tenant.sharing() == Sharing::Kept;
        let (mut hits, mut joined, mut misses) = (0, 0, 0);
        let mut found = Found { sources: Vec::with_capacity(keys.len()), awaited: Vec::new() };
        // The computation that takes more parts.
        let mut open: Option<(usize, Arc<AnswerFlight>)> = None;
        let mut state = self.state.lock();
        for (part, &key) in keys.iter().enumerate() {
            if keeps && let Some(answer) = state.store.get(&key, tenant.time_to_live(), now) {
                hits += 1;
                found.sources.push(Source::Kept(answer));
                continue;
            }
            let entry = state.flights.entry(key);
            if let Entry::Occupied(place) = &entry
                && jobs.company.admits(place.get())
                && let Some(source) = found.join(place.get(), urgency)
            {
                joined += 1;
                found.sources.push(source);
                continue;
            }
            misses += 1;
            let (at, flight) = match &open {
                Some((at, flight)) if found.parts_led(*at) < jobs.parts_max => (*at, flight),
                _ => {
                    let (flight, ticket) = lead(urgency);
                    let mut leader = Leader::new(self.clone(), tenant.keeper(), flight.clone());
                    leader.axes = Some(jobs.axes.clone());
                    let led = Some(Led { leader, parts: Vec::new() });
                    found.awaited.push(Awaited { ticket, led });
                    let open = open.insert((found.awaited.len() - 1, flight));
                    (open.0, &open.1)
                }
            };
            let led = found.awaited[at].led.as_mut().expect("open are those that are led");
            let row = (jobs.parts_max > 1).then_some(led.parts.len());
            entry.insert_entry(Place { flight: flight.clone(), row });
            led.leader.keys.push(key);
            led.parts.push(part);
            found.sources.push(Source::Awaited(at, row));
        }
        drop(state);
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.joined.fetch_add(joined, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
        found
    }

    /// Leads a computation whose answer is for the caller alone.
    pub(crate) fn lead_alone(self: &Arc<Self>, urgency: Urgency) -> (Ticket, Leader) {
        let (flight, ticket) = lead(urgency);
        self.misses.fetch_add(1, Ordering::Relaxed);
        (ticket, Leader::new(self.clone(), None, flight))
    }
}

impl Found {
    /// So many parts, each of which the caller leads for itself.
    pub(crate) fn alone(parts: usize, mut lead: impl FnMut() -> (Ticket, Leader)) -> Self {
        let awaited = (0..parts).map(|part| {
            let (ticket, leader) = lead();
            Awaited { ticket, led: Some(Led { leader, parts: vec![part] }) }
        });
        let sources = (0..parts).map(|part| Source::Awaited(part, None));
        Self { sources: sources.collect(), awaited: awaited.collect() }
    }

    /// How far back a computation is looked for that the request waits for already. Further back
    /// it is joined again, which costs as much and changes nothing.
    const LOOK_BACK: usize = 16;

    /// Waits for a computation, unless it is too late for that.
    fn join(&mut self, place: &Place, urgency: Urgency) -> Option<Source> {
        let Place { flight, row } = place;
        let mut lately = self.awaited.iter().enumerate().rev().take(Self::LOOK_BACK);
        if let Some((at, _)) = lately.find(|(_, awaited)| awaited.ticket.is_of(flight)) {
            return Some(Source::Awaited(at, *row));
        }
        let ticket = flight.join(urgency)?;
        self.awaited.push(Awaited { ticket, led: None });
        Some(Source::Awaited(self.awaited.len() - 1, *row))
    }

    fn parts_led(&self, at: usize) -> usize {
        self.awaited[at].led.as_ref().map_or(0, |led| led.parts.len())
    }
}

/// A new flight and the ticket of whoever asked first.
fn lead(urgency: Urgency) -> (Arc<AnswerFlight>, Ticket) {
    let flight = Arc::new(Flight::new(urgency));
    let ticket = flight.join(urgency).expect("a flight that nobody has left");
    (flight, ticket)
}
