//! The limit in front of a simulated fleet, on a virtual clock: what it lets through of a healthy
//! one, of one that is asked for five times what it can do, and of one that changes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use inferring_policy::{Completion, ConcurrencyLimit, ConcurrencyLimitConfig, Ticket, Urgency};
use proptest::prelude::*;

use crate::start;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// A server is done with its request.
    Done(usize),
}

struct Job<'a> {
    ticket: Ticket<'a>,
    began: Instant,
    /// Who asks again when it is answered.
    is_client: bool,
}

/// Servers with one queue, each busy for `run` with a request.
struct Fleet<'a> {
    limit: &'a ConcurrencyLimit,
    run: Duration,
    allowed: Duration,
    urgency: Urgency,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    servers: Vec<Option<Job<'a>>>,
    queue: VecDeque<Job<'a>>,
    random: fastrand::Rng,
    /// Since these were last taken.
    waits: Vec<Duration>,
    answered: u64,
    late: u64,
    refused: u64,
}

impl<'a> Fleet<'a> {
    fn new(limit: &'a ConcurrencyLimit, servers: usize, run: Duration) -> Self {
        Self {
            limit,
            run,
            allowed: 30 * SECOND,
            urgency: Urgency::Ordinary,
            now: start(),
            events: BinaryHeap::new(),
            servers: (0..servers).map(|_| None).collect(),
            queue: VecDeque::new(),
            random: fastrand::Rng::with_seed(7),
            waits: Vec::new(),
            answered: 0,
            late: 0,
            refused: 0,
        }
    }

    /// What it can answer in a second.
    fn capacity(&self) -> f64 {
        self.servers.len() as f64 / self.run.as_secs_f64()
    }

    fn arrive(&mut self, is_client: bool) {
        match self.limit.try_enter(self.urgency) {
            Some(ticket) => self.queue.push_back(Job { ticket, began: self.now, is_client }),
            None => self.refused += 1,
        }
        self.begin();
    }

    fn begin(&mut self) {
        for (index, server) in self.servers.iter_mut().enumerate() {
            if server.is_none()
                && let Some(job) = self.queue.pop_front()
            {
                *server = Some(job);
                self.events.push(Reverse((self.now + self.run, Event::Done(index))));
            }
        }
    }

    fn finish(&mut self, server: usize) {
        let Job { ticket, began, is_client } = self.servers[server].take().expect("it was busy");
        let took = self.now - began;
        self.waits.push(took.saturating_sub(self.run));
        self.answered += 1;
        self.late += u64::from(took > self.allowed);
        let completion = Completion { began, ran: self.run, allowed: self.allowed };
        ticket.complete(completion, self.now);
        self.begin();
        if is_client {
            self.arrive(true);
        }
    }

    /// So many clients, each of which asks again as soon as it is answered.
    fn connect(&mut self, clients: usize) {
        (0..clients).for_each(|_| self.arrive(true));
    }

    /// Lets time pass, in which others ask so many times a second, at random.
    fn pass(&mut self, duration: Duration, rate: f64) {
        (self.waits, self.answered, self.late, self.refused) = (Vec::new(), 0, 0, 0);
        let end = self.now + duration;
        let gap =
            |random: &mut fastrand::Rng| Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        if rate > 0.0 {
            let first = self.now + gap(&mut self.random);
            self.events.push(Reverse((first, Event::Arrival)));
        }
        while let Some(Reverse((at, _))) = self.events.peek()
            && *at <= end
        {
            let Reverse((at, event)) = self.events.pop().expect("just seen");
            self.now = at;
            match event {
                Event::Done(server) => self.finish(server),
                Event::Arrival => {
                    self.arrive(false);
                    let next = self.now + gap(&mut self.random);
                    if next <= end {
                        self.events.push(Reverse((next, Event::Arrival)));
                    }
                }
            }
        }
        self.now = end;
    }

    fn longest_wait(&self) -> Duration {
        self.waits.iter().copied().max().unwrap_or_default()
    }

    fn mean_wait(&self) -> Duration {
        self.waits.iter().sum::<Duration>() / self.waits.len().max(1) as u32
    }
}

/// Models that take 200 us to 200 ms, on two or eight instances: with the longest one, 512 clients
/// wait for 50 seconds and are still not refused, for that is what they asked for.
#[test]
fn nobody_is_refused_on_a_healthy_fleet() {
    for clients in [1, 64, 128, 256, 512] {
        for run in [MS / 5, MS, 20 * MS, 200 * MS] {
            for servers in [2, 8] {
                let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
                let mut fleet = Fleet::new(&limit, servers, run);
                fleet.connect(clients);
                fleet.pass(5 * SECOND, 0.0);
                let scene = format!("{clients} clients, {servers} servers, {run:?}");
                assert_eq!(limit.refused(), 0, "{scene}");
                let rate = fleet.capacity().min(clients as f64 / run.as_secs_f64());
                assert!(fleet.answered as f64 > 4.7 * rate, "{scene}: {}", fleet.answered);
            }
        }
    }
}

#[test]
fn fault_22_five_times_overload_is_bounded_and_the_fleet_does_all_it_can() {
    for (servers, run, allowed) in [
        (4, MS, 30 * SECOND),
        (32, 5 * MS, 30 * SECOND),
        (32, 5 * MS, SECOND),
        (64, 10 * MS, 500 * MS),
        (2, MS / 10, SECOND),
    ] {
        let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
        let mut fleet = Fleet::new(&limit, servers, run);
        fleet.allowed = allowed;
        let capacity = fleet.capacity();
        // Healthy, then ten seconds until the limit is found, then what is measured.
        fleet.pass(5 * SECOND, 0.6 * capacity);
        assert_eq!(fleet.refused, 0);
        fleet.pass(10 * SECOND, 5.0 * capacity);
        fleet.pass(20 * SECOND, 5.0 * capacity);
        let scene = format!("{servers} of {run:?}, {allowed:?}, limit {}", limit.limit());
        let good = (fleet.answered - fleet.late) as f64 / 20.0;
        assert!(good > 0.9 * capacity, "{scene}: {good} of {capacity} a second");
        assert!(limit.in_flight() <= ConcurrencyLimitConfig::default().limit_max);
        let due = (allowed / 2).min(SECOND);
        let floor = Duration::from_secs_f64(512.0 / capacity);
        assert!(
            fleet.mean_wait() < due.max(floor).mul_f64(1.2),
            "{scene}: {:?}",
            fleet.mean_wait()
        );
        assert!(fleet.longest_wait() < due.max(floor) * 2, "{scene}: {:?}", fleet.longest_wait());
        assert!(limit.is_strained());

        // What was left over is done soon, and nothing is refused any more.
        fleet.pass(3 * SECOND, 0.6 * capacity);
        fleet.pass(10 * SECOND, 0.6 * capacity);
        assert_eq!((fleet.refused, limit.is_strained()), (0, false), "{scene}");
    }
}

/// Neither the lowest nor the highest number holds the limit: it follows what the fleet can do.
#[test]
fn the_limit_follows_a_fleet_that_becomes_slower_and_faster() {
    let config = ConcurrencyLimitConfig {
        limit_min: 64,
        limit_max: 4096,
        limit_start: 256,
        ..ConcurrencyLimitConfig::default()
    };
    let limit = ConcurrencyLimit::new(config);
    let mut fleet = Fleet::new(&limit, 8, 10 * MS);
    for (run, expected) in [
        (10 * MS, 800.0),
        (40 * MS, 200.0),
        (400 * MS, 64.0),
        (5 * MS, 1600.0),
        (MS, 4096.0),
        (20 * MS, 400.0),
    ] {
        fleet.run = run;
        let rate = 2.0 * fleet.capacity();
        // Ten seconds' worth of work may be waiting that must be done first.
        fleet.pass(40 * SECOND, rate);
        let found = limit.limit() as f64;
        assert!((0.8..1.25).contains(&(found / expected)), "{run:?}: {found}, not {expected}");
    }
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
    let mut fleet = Fleet::new(&limit, 64, 10 * MS);
    let rate = 0.9 * fleet.capacity();
    fleet.pass(60 * SECOND, rate);
    assert_eq!((limit.limit(), limit.refused()), (2048, 0));
}

/// Requests that may only use a part of the limit must be able to raise it all the same.
#[test]
fn the_least_urgent_alone_raise_the_limit_too() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
    let mut fleet = Fleet::new(&limit, 64, 10 * MS);
    fleet.urgency = Urgency::Patient;
    fleet.connect(4000);
    fleet.pass(5 * SECOND, 6000.0);
    assert!(limit.limit() > 4000, "{}", limit.limit());
}

#[test]
fn the_less_urgent_are_refused_first() {
    let config = ConcurrencyLimitConfig {
        limit_min: 100,
        limit_start: 100,
        limit_max: 100,
        ..ConcurrencyLimitConfig::default()
    };
    let limit = ConcurrencyLimit::new(config);
    let level = |level| Urgency::of(NonZeroU32::new(level));
    let enter = |urgency| {
        let mut let_in = Vec::new();
        while let Some(ticket) = limit.try_enter(urgency) {
            let_in.push(ticket);
        }
        let_in
    };
    let mut all = enter(level(3));
    assert_eq!((all.len(), limit.try_enter(level(9)).is_some()), (75, false));
    assert_eq!(level(0), level(2), "who states none is like most");
    all.extend(enter(level(2)));
    assert_eq!(all.len(), 100);
    all.extend(enter(level(1)));
    assert_eq!((all.len(), limit.in_flight()), (125, 125));
    all.truncate(80);
    assert!(limit.try_enter(level(3)).is_none());
    assert!(limit.try_enter(level(2)).is_some());
    drop(all);
    assert_eq!(limit.in_flight(), 0);
}

/// A client that allows a millisecond for what takes ten is always late, and that is its own doing.
#[test]
fn a_client_with_absurd_time_outs_does_not_speak_for_the_others() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
    let mut now = start();
    for _ in 0..100_000 {
        let ticket = limit.try_enter(Urgency::Ordinary).unwrap();
        let began = now;
        now += MS;
        ticket.complete(Completion { began, ran: Duration::ZERO, allowed: MS }, now);
    }
    assert_eq!(limit.limit(), ConcurrencyLimitConfig::default().limit_start);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Against a plain count, over random histories: never above the limit of its class, never
    /// refused below it, and the limit within its bounds whatever requests tell.
    #[test]
    fn places_are_counted_and_the_limit_keeps_its_bounds(
        (limit_min, limit_max, limit_start) in (0..40_u64, 0..200_u64, 0..300_u64),
        steps in prop::collection::vec((0..4_u8, 0..3000_u64, 0..3000_u64, 0..5000_u64), 1..400),
    ) {
        let config = ConcurrencyLimitConfig {
            limit_min, limit_max, limit_start, ..ConcurrencyLimitConfig::default()
        };
        let limit = ConcurrencyLimit::new(config);
        let (mut now, mut tickets, mut refused) = (start(), VecDeque::new(), 0);
        let lowest = limit_min.max(1);
        for (kind, passed, ran, allowed) in steps {
            if kind == 3 {
                now += MS * passed as u32 / 10;
                if let Some((ticket, began)) = tickets.pop_front() {
                    let ticket: Ticket<'_> = ticket;
                    let completion =
                        Completion { began, ran: MS * ran as u32, allowed: MS * allowed as u32 };
                    ticket.complete(completion, now);
                }
            } else {
                let bound = limit.limit();
                let (urgency, bound) = match kind {
                    0 => (Urgency::Urgent, bound + bound / 4),
                    1 => (Urgency::Ordinary, bound),
                    _ => (Urgency::Patient, bound - bound / 4),
                };
                let ticket = limit.try_enter(urgency);
                prop_assert_eq!(ticket.is_some(), (tickets.len() as u64) < bound);
                refused += u64::from(ticket.is_none());
                tickets.extend(ticket.map(|ticket| (ticket, now)));
            }
            prop_assert_eq!(limit.in_flight(), tickets.len() as u64);
            prop_assert_eq!(limit.refused(), refused);
            prop_assert!((lowest..=limit_max.max(lowest)).contains(&limit.limit()));
        }
    }
}
