//! Kept answers, bounded in number and bytes, by the S3-FIFO rule.
//!
//! A new key enters a small queue of a tenth of the room and reaches the main queue only if it
//! is asked for again before it falls out, so one pass over many keys (a scan) cannot wash out
//! what is asked for often. Keys that fell out of the small queue are remembered for a while
//! without their answers and enter the main queue at once when they come back.
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! A tenant with a bound of its own has queues of its own, so that only its own answers give way
//! to that bound. Where the bounds of the whole are reached, all queues count as one: places are
//! numbered in the order in which they were taken, and the oldest is the next.

mod expiry;
mod ghosts;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::CacheStatus;

use super::key::{Key, KeyMap};
use super::{Answer, TenantId};
use crate::config::CacheConfig;
use expiry::{Expiry, Term};
use ghosts::Ghosts;
use queue::{Place, Queue};

/// Kept answers by digest.
pub(super) struct Store {
    bounds: Bounds,
    entries: KeyMap<Key, Entry>,
    /// That of all who have none of their own, `None`, is always there.
    shares: BTreeMap<ShareId, Share>,
    expiry: Expiry,
    next_number: u64,
    evictions: u64,
}

/// By whom answers are kept, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keeper {
    pub(super) tenant: TenantId,
    /// How long an answer stays good; for ever where absent.
    pub(super) time_to_live: Option<Duration>,
    /// The most bytes that its answers take, where that is less than all.
    pub(super) bytes_max: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    entries: usize,
    bytes: u64,
}

/// Whose queues: a tenant's own, or those of all others.
type ShareId = Option<TenantId>;

struct Share {
    bounds: Bounds,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
}

struct Entry {
    answer: Arc<Answer>,
    tenant: TenantId,
    has_own_share: bool,
    in_main: bool,
    /// Times it was asked for since it entered its queue, up to [`Entry::USES_MAX`].
    uses: u8,
    weight: u64,
    /// That of its place in its queue.
    number: u64,
    kept_at: Instant,
    ends: Option<Instant>,
}

impl Entry {
    const USES_MAX: u8 = 3;

    fn share(&self) -> ShareId {
        self.has_own_share.then_some(self.tenant)
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

impl Share {
    fn new(bounds: Bounds) -> Self {
        let (small, main, ghosts) = (Queue::default(), Queue::default(), Ghosts::default());
        Self { bounds, small, main, ghosts }
    }

    fn queue(&mut self, is_main: bool) -> &mut Queue {
        if is_main { &mut self.main } else { &mut self.small }
    }

    fn bytes(&self) -> u64 {
        self.small.bytes() + self.main.bytes()
    }
}

impl Store {
    /// The small queue's share of the room: one in this many.
    const SMALL_SHARE: usize = 10;

    /// The most answers that are looked at for their age while somebody waits.
    const EXPIRED_AT_ONCE: usize = 64;

    pub(super) fn new(config: &CacheConfig) -> Self {
        let bounds = Bounds { entries: config.entries, bytes: config.bytes.as_u64() };
        Self {
            bounds,
            entries: KeyMap::default(),
            shares: [(None, Share::new(bounds))].into(),
            expiry: Expiry::default(),
            next_number: 0,
            evictions: 0,
        }
    }

    /// The answer for `key`, unless it is absent or too old: for whoever kept it, or for who asks
    /// now and would not have kept it so long.
    pub(super) fn get(
        &mut self,
        key: &Key,
        time_to_live: Option<Duration>,
        now: Instant,
    ) -> Option<Arc<Answer>> {
        let entry = self.entries.get_mut(key)?;
        let is_too_old = |limit| now.saturating_duration_since(entry.kept_at) >= limit;
        if entry.has_ended(now) || time_to_live.is_some_and(is_too_old) {
            return None;
        }
        entry.uses = (entry.uses + 1).min(Entry::USES_MAX);
        Some(entry.answer.clone())
    }

    /// Keeps an answer of `weight` bytes and puts out others until the bounds hold; what was put
    /// out is added to `freed`. An answer larger than all the room is not kept.
    pub(super) fn insert(
        &mut self,
        key: Key,
        keeper: Keeper,
        answer: Arc<Answer>,
        weight: u64,
        now: Instant,
        freed: &mut Vec<Arc<Answer>>,
    ) {
        let own = keeper.bytes_max.filter(|bytes| *bytes < self.bounds.bytes);
        if self.bounds.entries == 0 || weight > own.unwrap_or(self.bounds.bytes) {
            return;
        }
        self.remove_expired(now, Self::EXPIRED_AT_ONCE, freed);
        // Only an answer that is too old is computed anew.
        let was_in_main = self.remove(&key, freed);
        let id = own.map(|_| keeper.tenant);
        let bounds = Bounds { bytes: own.unwrap_or(self.bounds.bytes), ..self.bounds };
        let share = self.shares.entry(id).or_insert_with(|| Share::new(bounds));
        let in_main = share.ghosts.remove(&key) || was_in_main == Some(true);
        let number = self.next_number;
        self.next_number += 1;
        share.queue(in_main).push(Place { key, number }, weight);
        let ends = keeper.time_to_live.and_then(|limit| self.expiry.add(key, limit, now));
        let entry = Entry {
            answer,
            tenant: keeper.tenant,
            has_own_share: id.is_some(),
            in_main,
            uses: 0,
            weight,
            number,
            kept_at: now,
            ends,
        };
        self.entries.insert(key, entry);
        while id.is_some() && self.shares[&id].bytes() > bounds.bytes {
            self.evict_one(Some(id), now, freed);
        }
        while self.entries.len() > self.bounds.entries || self.bytes() > self.bounds.bytes {
            self.evict_one(None, now, freed);
        }
        let entries = &self.entries;
        let ends_so =
            |term: Term| entries.get(&term.key).is_some_and(|e| e.ends == Some(term.ends));
        self.expiry.tidy(entries.len(), ends_so);
    }

    /// Takes out up to `max` answers that are too old, which are no evictions; whether there may
    /// be more.
    pub(super) fn remove_expired(
        &mut self,
        now: Instant,
        max: usize,
        freed: &mut Vec<Arc<Answer>>,
    ) -> bool {
        for _ in 0..max {
            let Some(Term { key, ends }) = self.expiry.pop(now) else {
                return false;
            };
            if self.entries.get(&key).is_some_and(|entry| entry.ends == Some(ends)) {
                self.remove(&key, freed);
            }
        }
        true
    }

    /// Takes out all answers of a tenant, which are no evictions, and gives them to be freed.
    pub(super) fn forget(&mut self, tenant: TenantId) -> Vec<Arc<Answer>> {
        let mut forgotten = Vec::new();
        let entries = &mut self.entries;
        for (_, entry) in entries.extract_if(|_, entry| entry.tenant == tenant) {
            if let Some(share) = self.shares.get_mut(&entry.share()) {
                share.queue(entry.in_main).left(entry.weight);
            }
            forgotten.push(entry.answer);
        }
        self.shares.remove(&Some(tenant));
        self.tidy(None);
        forgotten
    }

    pub(super) fn status(&self) -> CacheStatus {
        CacheStatus {
            entries: self.entries.len() as u64,
            bytes: self.bytes(),
            evictions: self.evictions,
            entries_max: self.bounds.entries as u64,
            bytes_max: self.bounds.bytes,
            ..CacheStatus::default()
        }
    }

    fn bytes(&self) -> u64 {
        self.shares.values().map(Share::bytes).sum()
    }

    /// Takes out the answer of a key, wherever it is; whether it was in a main queue.
    fn remove(&mut self, key: &Key, freed: &mut Vec<Arc<Answer>>) -> Option<bool> {
        let entry = self.entries.remove(key)?;
        let share = self.shares.get_mut(&entry.share()).expect("an entry has a share");
        share.queue(entry.in_main).left(entry.weight);
        self.tidy(entry.share());
        freed.push(entry.answer);
        Some(entry.in_main)
    }

    fn tidy(&mut self, share: ShareId) {
        let entries = &self.entries;
        if let Some(share) = self.shares.get_mut(&share) {
            share.small.tidy(|place| is_live(entries, place));
            share.main.tidy(|place| is_live(entries, place));
        }
    }

    /// Puts out one answer: of that share, or of all where none is named.
    fn evict_one(&mut self, share: Option<ShareId>, now: Instant, freed: &mut Vec<Arc<Answer>>) {
        let (mut entries, mut bytes) = (0, 0);
        let mut bounds = self.bounds;
        for (id, share_of) in &self.shares {
            if share.is_none_or(|share| share == *id) {
                entries += share_of.small.len();
                bytes += share_of.small.bytes();
                bounds = if share.is_some() { share_of.bounds } else { bounds };
            }
        }
        let small_is_large = entries > bounds.entries / Self::SMALL_SHARE
            || bytes > bounds.bytes / Self::SMALL_SHARE as u64;
        let evicted = (small_is_large && self.evict_from(share, false, now, freed))
            || self.evict_from(share, true, now, freed)
            || self.evict_from(share, false, now, freed)
            || self.evict_from(share, true, now, freed);
        self.evictions += u64::from(evicted);
    }

    /// Puts out the oldest answer of the small or main queues that was not asked for since it
    /// came. Those that were are given another round in the main queue; `false` where that was so
    /// of all.
    fn evict_from(
        &mut self,
        share: Option<ShareId>,
        is_main: bool,
        now: Instant,
        freed: &mut Vec<Arc<Answer>>,
    ) -> bool {
        while let Some(id) = self.oldest(share, is_main) {
            let entries = &mut self.entries;
            let share = self.shares.get_mut(&id).expect("found there");
            let weight = |place: Place| entries[&place.key].weight;
            let place = share.queue(is_main).pop(weight).expect("found there");
            let key = place.key;
            let entry = entries.get_mut(&key).expect("a live place has an entry");
            if entry.uses > 0 && !entry.has_ended(now) {
                entry.uses = if is_main { entry.uses - 1 } else { 0 };
                entry.in_main = true;
                entry.number = self.next_number;
                self.next_number += 1;
                share.main.push(Place { key, number: entry.number }, entry.weight);
                continue;
            }
            let entry = entries.remove(&key).expect("it was there");
            freed.push(entry.answer);
            if !is_main {
                // As many ghosts as answers, so that they are bounded where answers are.
                let answers = share.small.len() + share.main.len();
                share.ghosts.add(&key, answers.max(1));
            }
            return true;
        }
        false
    }

    /// The share in whose queue the oldest place is.
    fn oldest(&mut self, share: Option<ShareId>, is_main: bool) -> Option<ShareId> {
        let entries = &self.entries;
        let asked = self.shares.iter_mut().filter(|(id, _)| share.is_none_or(|one| one == **id));
        let heads = asked.filter_map(|(id, share)| {
            let oldest = share.queue(is_main).oldest(|place| is_live(entries, place))?;
            Some((oldest, *id))
        });
        heads.min().map(|(_, id)| id)
    }
}

fn is_live(entries: &KeyMap<Key, Entry>, place: Place) -> bool {
    entries.get(&place.key).is_some_and(|entry| entry.number == place.number)
}

#[cfg(test)]
mod tests;
