//! Results by content: kept ones, and those being computed now.
//!
//! One lock covers both, so that for any content there is at any moment either a kept answer, or
//! exactly one computation that everybody else joins, or neither. The lock is held for a few
//! map operations and never across a wait.

mod answer;
mod flight;
mod key;
mod leader;
mod lookup;
mod store;
mod tenant;

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use inferring_types::CacheStatus;
use parking_lot::Mutex;

pub(crate) use answer::{Answer, OutputAxes};
pub(crate) use flight::Urgency;
use key::KeyMap;
pub(crate) use key::{Key, KeyHasher};
use leader::AnswerFlight;
pub(crate) use leader::{Landed, Leader, Ticket};
pub(crate) use lookup::{Awaited, Company, Found, Jobs, Led, Lookup, Row, Source};
use store::{Keeper, Store};
use tenant::TenantId;
pub(crate) use tenant::{Sharing, Tenant};

use crate::config::CacheConfig;
use crate::system;

/// The result cache of a worker, over all its models.
pub(crate) struct ResultCache {
    state: Mutex<State>,
    hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
}

struct State {
    store: Store,
    flights: KeyMap<Key, Place>,
}

/// Where something is being computed.
struct Place {
    flight: Arc<AnswerFlight>,
    row: Row,
}

impl ResultCache {
    pub(crate) fn new(config: &CacheConfig) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { store: Store::new(config), flights: KeyMap::default() }),
            hits: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Drops what is kept of a tenant's answers. What it computes from now on is kept again, so
    /// this is called once more when it has ended.
    pub(crate) fn forget(&self, tenant: Tenant) {
        let forgotten = self.state.lock().store.forget(tenant.id());
        // Freed outside of the lock: there may be many.
        drop(forgotten);
    }

    /// How it is doing now: what is too old is gone before it is counted.
    pub(crate) fn status(&self) -> CacheStatus {
        const AT_ONCE: usize = 256;
        let mut freed = Vec::new();
        while self.state.lock().store.remove_expired(system::now(), AT_ONCE, &mut freed) {
            freed.clear();
        }
        let state = self.state.lock();
        CacheStatus {
            hits: self.hits.load(Ordering::Relaxed),
            joined: self.joined.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..state.store.status()
        }
    }

    /// Lets nobody join a flight any more, and keeps its answers, one for each key, for a tenant.
    /// Whoever asks from here on finds the answers, or leads.
    fn withdraw(
        &self,
        keys: &[Key],
        flight: &Arc<AnswerFlight>,
        kept: Option<(Keeper, Vec<Arc<Answer>>)>,
    ) {
        if keys.is_empty() {
            return;
        }
        let now = system::now();
        let mut freed = Vec::new();
        let mut state = self.state.lock();
        state.withdraw(keys, flight);
        if let Some((keeper, answers)) = kept {
            for (key, answer) in keys.iter().zip(answers) {
                let weight = answer.weight();
                state.store.insert(*key, keeper, answer, weight, now, &mut freed);
            }
        }
        drop(state);
        // Outside of the lock, as everything that gives memory back.
        drop(freed);
    }

    /// The same where nobody waits for the flight any more whose deadline has not passed; says
    /// whether that is so. Joining takes the same lock, so nobody can come in between.
    fn withdraw_unless_wanted(
        &self,
        keys: &[Key],
        flight: &Arc<AnswerFlight>,
        now: Instant,
    ) -> bool {
        if !keys.is_empty() {
            let mut state = self.state.lock();
            if flight.is_wanted(now) {
                return false;
            }
            state.withdraw(keys, flight);
        }
        true
    }
}

impl State {
    /// Another flight may have taken a key's place: this one was being given up when somebody
    /// came.
    fn withdraw(&mut self, keys: &[Key], flight: &Arc<AnswerFlight>) {
        for key in keys {
            if let Entry::Occupied(place) = self.flights.entry(*key)
                && Arc::ptr_eq(&place.get().flight, flight)
            {
                place.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferring_types::{Deadline, ErrorKind, NamedTensor, ServiceError, Tensor};

    use super::*;
    use crate::party::Party;

    fn cache() -> Arc<ResultCache> {
        ResultCache::new(&CacheConfig::default())
    }

    fn answer(value: f32) -> Arc<Answer> {
        let tensor = Tensor::from_f32([1].into(), &[value]).unwrap();
        Arc::new(Answer {
            outputs: [NamedTensor::new("y".into(), tensor)].into(),
            queue_time: Duration::ZERO,
            execution_time: Duration::ZERO,
            batch_size: 1,
        })
    }

    fn kept() -> Tenant {
        Tenant::new(Sharing::Kept)
    }

    fn soon() -> Urgency {
        Urgency { class: 0, deadline: Deadline::after(Instant::now(), Duration::from_secs(60)) }
    }

    fn lead(cache: &Arc<ResultCache>, key: Key) -> (Ticket, Leader) {
        match cache.get_or_lead(Company::Any, kept(), key, soon(), Instant::now()) {
            Lookup::Lead(ticket, leader) => (ticket, leader),
            _ => panic!("expected to lead"),
        }
    }

    fn join(cache: &Arc<ResultCache>, key: Key) -> Ticket {
        match cache.get_or_lead(Company::Any, kept(), key, soon(), Instant::now()) {
            Lookup::Join(ticket, None) => ticket,
            _ => panic!("expected to join"),
        }
    }

    #[tokio::test]
    async fn all_who_ask_while_it_is_computed_share_one_answer() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, leader) = lead(&cache, key);
        let others: Vec<_> = (0..9).map(|_| join(&cache, key)).collect();
        leader.complete(Ok(answer(1.0)));
        let expected = first.wait().await.unwrap();
        for other in others {
            assert!(Arc::ptr_eq(&other.wait().await.unwrap(), &expected));
        }
        assert!(matches!(
            cache.get_or_lead(Company::Any, kept(), key, soon(), Instant::now()),
            Lookup::Hit(_)
        ));
        let status = cache.status();
        assert_eq!((status.hits, status.joined, status.misses), (1, 9, 1));
    }

    #[tokio::test]
    async fn the_leaders_client_may_leave_and_others_are_still_answered() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, mut leader) = lead(&cache, key);
        let other = join(&cache, key);
        drop(first);
        assert!(leader.is_wanted_or_ends(Instant::now()));
        leader.complete(Ok(answer(1.0)));
        assert!(other.wait().await.is_ok());
    }

    #[tokio::test]
    async fn an_error_is_shared_once_and_not_kept() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, leader) = lead(&cache, key);
        let other = join(&cache, key);
        leader.complete(Err(ServiceError::failed("broken")));
        assert!(first.wait().await.is_err() && other.wait().await.is_err());
        lead(&cache, key);
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_leaves_no_waiter_behind() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, leader) = lead(&cache, key);
        drop(leader);
        assert!(first.wait().await.unwrap_err().is_retryable());
        lead(&cache, key);
    }

    #[test]
    fn work_that_nobody_waits_for_is_given_up_and_can_be_led_again() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, mut leader) = lead(&cache, key);
        drop(first);
        assert!(!leader.is_wanted_or_ends(Instant::now()));
        lead(&cache, key);
    }

    #[tokio::test]
    async fn who_comes_while_a_run_is_being_ended_leads_anew() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, old) = lead(&cache, key);
        let party = Party::new(1);
        old.attach(party.clone());
        drop(first);
        assert!(party.run().is_interrupted());
        let (second, new) = lead(&cache, key);
        let third = join(&cache, key);
        // The old run was done before it could be ended: what it gave is good, and nobody's who
        // waits for the new one.
        old.complete(Ok(answer(1.0)));
        let fourth = cache.get_or_lead(Company::Any, kept(), key, soon(), Instant::now());
        assert!(matches!(fourth, Lookup::Hit(_)));
        new.complete(Err(ServiceError::failed("broken")));
        assert!(second.wait().await.is_err() && third.wait().await.is_err());
    }

    #[tokio::test]
    async fn rows_of_a_job_are_kept_one_by_one_and_each_has_its_own_memory() {
        let cache = cache();
        let keys: Vec<_> = (0..3u8).map(|number| Key::of(&[number])).collect();
        let axes: Arc<OutputAxes> = [Some(0)].into();
        let jobs = Jobs { parts_max: 2, axes: &axes, company: Company::Any };
        let tenant = kept();
        let found = cache.find(tenant, &keys, &jobs, soon(), Instant::now());
        let [two, one] = <[_; 2]>::try_from(found.awaited).ok().expect("two jobs");
        let (two_led, one_led) = (two.led.unwrap(), one.led.unwrap());
        assert_eq!((two_led.parts, one_led.parts), (vec![0, 1], vec![2]));
        drop(one_led.leader);
        let tensor = Tensor::from_f32([2].into(), &[1.0, 2.0]).unwrap();
        let outputs: Arc<[_]> = [NamedTensor::new("y".into(), tensor.clone())].into();
        let both = Answer { outputs, ..Arc::into_inner(answer(0.0)).unwrap() };
        two_led.leader.complete(Ok(Arc::new(both)));
        assert_eq!(two.ticket.wait().await.unwrap().outputs[0].tensor, tensor);
        assert!(one.ticket.wait().await.unwrap_err().is_retryable(), "lost, and nobody waits");
        for (key, value) in keys.iter().zip([1.0, 2.0]) {
            let hit = cache.get_or_lead(Company::Any, tenant, *key, soon(), Instant::now());
            let Lookup::Hit(hit) = hit else { panic!("it is kept") };
            let row = &hit.outputs[0].tensor;
            assert_eq!(*row, Tensor::from_f32([1].into(), &[value]).unwrap());
            assert_ne!(row.data().as_ptr(), tensor.data().as_ptr());
        }
    }

    /// Joining only what is apart, and then nothing, comes to an end.
    #[tokio::test]
    async fn who_was_failed_by_others_joins_less_and_less() {
        let cache = cache();
        let keys: Vec<_> = (0..2u8).map(|number| Key::of(&[number])).collect();
        let axes: Arc<OutputAxes> = [Some(0)].into();
        let jobs = Jobs { parts_max: 2, axes: &axes, company: Company::Any };
        let _job = cache.find(kept(), &keys, &jobs, soon(), Instant::now());
        let ask = |company| cache.get_or_lead(company, kept(), keys[0], soon(), Instant::now());
        assert!(matches!(ask(Company::Any), Lookup::Join(_, Some(0))));
        let Lookup::Lead(ticket, leader) = ask(Company::Apart) else {
            panic!("the other row could make it fail")
        };
        assert!(matches!(ask(Company::Apart), Lookup::Join(_, None)));
        assert!(matches!(ask(Company::Any), Lookup::Join(_, None)), "the newest is found");
        assert!(matches!(ask(Company::Nobody), Lookup::Lead(..)));
        leader.complete(Ok(answer(1.0)));
        assert!(ticket.wait().await.is_ok());
    }

    #[tokio::test]
    async fn work_is_wanted_until_the_last_deadline_of_those_who_wait() {
        let (cache, key, now) = (cache(), Key::of(b"k"), Instant::now());
        let deadline = |seconds| Deadline::after(now, Duration::from_secs(seconds));
        let after = |seconds| Urgency { class: 0, deadline: deadline(seconds) };
        let at = |seconds| deadline(seconds).at();
        let Lookup::Lead(first, mut leader) =
            cache.get_or_lead(Company::Any, kept(), key, after(1), now)
        else {
            panic!("the key is new");
        };
        let [second, last] = [5, 9].map(|seconds| {
            match cache.get_or_lead(Company::Any, kept(), key, after(seconds), now) {
                Lookup::Join(ticket, None) => ticket,
                _ => panic!("the key is led"),
            }
        });
        assert!(leader.is_wanted_or_ends(at(8)), "the last one still waits");
        drop(last);
        assert!(leader.is_wanted_or_ends(at(4)), "the second one still waits");
        assert!(!leader.is_wanted_or_ends(at(5)));
        for ticket in [first, second] {
            let error = ticket.wait().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        }
        lead(&cache, key);
    }

    #[tokio::test]
    async fn who_comes_and_goes_leaves_nothing_behind_in_a_flight() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let (first, leader) = lead(&cache, key);
        let others: Vec<_> = (0..20).map(|_| join(&cache, key)).collect();
        (0..10_000).for_each(|_| drop(join(&cache, key)));
        let flight = cache.state.lock().flights[&key].flight.clone();
        assert!(flight.seats() < 100, "{}", flight.seats());
        leader.complete(Ok(answer(1.0)));
        for ticket in others.into_iter().chain([first]) {
            assert!(ticket.wait().await.is_ok());
        }
    }

    #[tokio::test]
    async fn what_is_not_to_be_kept_is_shared_in_flight_alone() {
        let (cache, key) = (cache(), Key::of(b"k"));
        let passing = Tenant::new(Sharing::InFlight);
        for _ in 0..2 {
            let Lookup::Lead(first, leader) =
                cache.get_or_lead(Company::Any, passing, key, soon(), Instant::now())
            else {
                panic!("expected to lead");
            };
            let Lookup::Join(second, None) =
                cache.get_or_lead(Company::Any, passing, key, soon(), Instant::now())
            else {
                panic!("expected to join");
            };
            leader.complete(Ok(answer(1.0)));
            assert!(first.wait().await.is_ok() && second.wait().await.is_ok());
        }
        assert_eq!(cache.status().entries, 0);
    }

    #[tokio::test]
    async fn who_leads_alone_is_joined_by_nobody() {
        let cache = cache();
        let (first, leader) = cache.lead_alone(soon());
        let (second, mut abandoned) = cache.lead_alone(soon());
        leader.complete(Ok(answer(1.0)));
        assert!(first.wait().await.is_ok());
        drop(second);
        assert!(!abandoned.is_wanted_or_ends(Instant::now()));
        assert_eq!(cache.status().entries, 0);
    }

    #[test]
    fn a_tenant_is_forgotten_and_others_are_not() {
        let cache = cache();
        let [gone, stays] = [(); 2].map(|()| Tenant::new(Sharing::Kept));
        for number in 0..20u8 {
            let tenant = if number % 2 == 0 { gone } else { stays };
            let key = Key::of(&[number]);
            let Lookup::Lead(_, leader) =
                cache.get_or_lead(Company::Any, tenant, key, soon(), Instant::now())
            else {
                panic!("expected to lead");
            };
            leader.complete(Ok(answer(f32::from(number))));
        }
        let before = cache.status();
        cache.forget(gone);
        let after = cache.status();
        assert_eq!((before.entries, after.entries), (20, 10));
        assert_eq!(after.bytes * 2, before.bytes);
        for number in 0..20u8 {
            let key = Key::of(&[number]);
            let kept = matches!(
                cache.get_or_lead(Company::Any, stays, key, soon(), Instant::now()),
                Lookup::Hit(_)
            );
            assert_eq!(kept, number % 2 == 1);
        }
    }
}
