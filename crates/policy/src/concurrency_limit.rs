//! Bounds how much work a gateway accepts at once, and finds that bound by itself.
//!
//! Under overload a queue grows somewhere, and all that is accepted waits in it. Rejecting early
//! keeps the wait bounded; a fixed number would have to be known for each fleet and model.
//!
//! **What is looked at** is the time that requests wait, which workers tell apart from the time
//! that computing takes. So there is no baseline to learn that could drift: algorithms that
//! compare a latency with the best or the usual one take a change of the mix of models for
//! overload, or get used to the overload (the limit sticks at its lower or upper end).
//!
//! **What is too long** follows from the requests: their wait may take a share of the time that
//! their clients allow, and a second at most. Only a client's deadline says what is late.
//!
//! **What follows** is Little's law. At saturation, requests in flight = throughput · (wait + run);
//! if requests should wait `target` and do wait `wait`, the number for which that is so is the
//! present one times `(target + run) / (wait + run)`. That is the gradient. It is taken only over
//! requests that came after the last change: the others tell of the limit of before, and would
//! have it corrected twice.
//!
//! The limit grows only where it is used. What was never in flight proves nothing, and a limit
//! that had grown at ease would be no limit when the load comes. It never falls below a number
//! that a healthy gateway holds easily, whatever is told: there workers refuse what they cannot
//! answer in time, and know better. So it cannot be talked down by a few hanging requests, and
//! there is always traffic that shows when things are well again.
//!
//! Less urgent requests are refused first: they may use three quarters of the limit, and the most
//! urgent a quarter more than all of it.

mod gate;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use gate::Gate;

/// The shortest time over which requests are looked at together, and how many it takes.
const WINDOW: Duration = Duration::from_millis(100);
const SAMPLES_MIN: u32 = 20;
/// After that time, one is enough.
const WINDOW_MAX: Duration = Duration::from_secs(1);
/// What one request can say, as a multiple of the time that was due to it: a few that hang do not
/// speak for all.
const PRESSURE_MAX: f64 = 2.0;
/// The most by which the limit grows in one step.
const GROWTH_MAX: f64 = 1.5;
/// The part of the limit from which on it counts as used. The least urgent alone reach it.
const USED: f64 = 0.7;
/// Clients that allow less than that are taken to allow it: a client with an absurd time-out must
/// not speak for the others.
const ALLOWED_MIN: Duration = Duration::from_millis(100);

/// Bounds of a limit, and what it is to achieve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConcurrencyLimitConfig {
    /// The limit is never lower.
    pub limit_min: u64,
    /// It is never higher. Less than the lowest is taken as that.
    pub limit_max: u64,
    /// What it is at first.
    pub limit_start: u64,
    /// How long requests may wait on average, as a share of the time that they are given.
    pub wait_share: f64,
    /// How long they may wait on average, whatever they are given.
    pub wait_max: Duration,
}

impl Default for ConcurrencyLimitConfig {
    fn default() -> Self {
        Self {
            limit_min: 512,
            limit_max: 32_768,
            limit_start: 2048,
            wait_share: 0.5,
            wait_max: Duration::from_secs(1),
        }
    }
}

/// How long a request can be left, as far as admission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The most urgent priority.
    Urgent,
    /// The second, and what states none.
    Ordinary,
    /// All others.
    Patient,
}

impl Urgency {
    /// The urgency of a request of this priority, 1 being the most urgent.
    pub fn of(priority: Option<NonZeroU32>) -> Self {
        match priority.map_or(2, NonZeroU32::get) {
            1 => Self::Urgent,
            2 => Self::Ordinary,
            _ => Self::Patient,
        }
    }

    /// How many may be in flight for one of these to be let in.
    fn part_of(self, limit: u64) -> u64 {
        match self {
            Self::Urgent => limit.saturating_add(limit / 4),
            Self::Ordinary => limit,
            Self::Patient => limit - limit / 4,
        }
    }
}

/// How a request went that had been let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// When it came.
    pub began: Instant,
    /// How long it was computed; zero where it was not.
    pub ran: Duration,
    /// The time that its client had allowed.
    pub allowed: Duration,
}

/// The limit of one gateway.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    config: ConcurrencyLimitConfig,
    gate: Gate,
    strained: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: f64,
    window: Window,
    /// Only requests that came later are looked at.
    changed: Option<Instant>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    pressure: f64,
    samples: u32,
    refused_before: u64,
}

impl ConcurrencyLimit {
    /// A limit at its start.
    pub fn new(config: ConcurrencyLimitConfig) -> Self {
        let limit_min = config.limit_min.max(1);
        let limit_max = config.limit_max.max(limit_min);
        let limit_start = config.limit_start.clamp(limit_min, limit_max);
        let config = ConcurrencyLimitConfig { limit_min, limit_max, limit_start, ..config };
        let inner = Inner { limit: limit_start as f64, window: Window::default(), changed: None };
        let gate = Gate::new(limit_start);
        Self { config, gate, strained: AtomicBool::new(false), inner: Mutex::new(inner) }
    }

    /// Lets a request in, or refuses it.
    pub fn try_enter(&self, urgency: Urgency) -> Option<Ticket<'_>> {
        let entered = self.gate.try_enter(|limit| urgency.part_of(limit));
        entered.then(|| Ticket { limit: self })
    }

    /// Requests that were let in and have not left.
    pub fn in_flight(&self) -> u64 {
        self.gate.in_flight()
    }

    /// Requests that were refused so far.
    pub fn refused(&self) -> u64 {
        self.gate.refused()
    }

    /// How many ordinary requests may be in flight now.
    pub fn limit(&self) -> u64 {
        self.gate.limit()
    }

    /// Whether requests were refused, or waited longer than they should, when this was last
    /// looked at. Then nothing should be asked for that can be done without.
    pub fn is_strained(&self) -> bool {
        self.strained.load(Ordering::Relaxed)
    }

    /// Takes note of a request that was let in.
    ///
    /// Where another thread is at this in the same moment, it is not counted: one of many changes
    /// nothing, and no request waits for statistics.
    fn count(&self, completion: Completion, now: Instant) {
        let Some(mut inner) = self.inner.try_lock() else { return };
        if inner.changed.is_some_and(|changed| completion.began < changed) {
            return;
        }
        let pressure = self.pressure(completion, now);
        let window = &mut inner.window;
        let began = *window.began.get_or_insert(now);
        window.pressure += pressure;
        window.samples += 1;
        let passed = now.saturating_duration_since(began);
        if passed >= WINDOW_MAX || (passed >= WINDOW && window.samples >= SAMPLES_MIN) {
            self.decide(&mut inner, now);
        }
    }

    /// How long a request took, of the time that it should take at most; 1 is just right.
    fn pressure(&self, completion: Completion, now: Instant) -> f64 {
        let Completion { began, ran, allowed } = completion;
        let wait = now.saturating_duration_since(began).saturating_sub(ran).as_secs_f64();
        let allowed = allowed.max(ALLOWED_MIN).as_secs_f64();
        let due = (allowed * self.config.wait_share).min(self.config.wait_max.as_secs_f64());
        let (wait, ran) = (wait.min(PRESSURE_MAX * due), ran.as_secs_f64());
        if due > 0.0 { (wait + ran) / (due + ran) } else { PRESSURE_MAX }
    }

    fn decide(&self, inner: &mut Inner, now: Instant) {
        let refused = self.gate.refused();
        let window = std::mem::take(&mut inner.window);
        (inner.window.refused_before, inner.window.began) = (refused, Some(now));
        let was_refused = refused > window.refused_before;
        let peak = self.gate.take_peak() as f64;
        let pressure = window.pressure / f64::from(window.samples);
        self.strained.store(was_refused || pressure > 1.0, Ordering::Relaxed);

        let is_used = was_refused || peak >= USED * inner.limit;
        let next = if pressure > 1.0 {
            // Lowered from what was in flight: a limit above that has not caused this.
            inner.limit.min(peak) / pressure
        } else if is_used {
            inner.limit * pressure.recip().min(GROWTH_MAX)
        } else {
            return;
        };
        let next = next.clamp(self.config.limit_min as f64, self.config.limit_max as f64);
        if next as u64 != self.gate.limit() {
            inner.changed = Some(now);
            self.gate.set_limit(next as u64);
        }
        inner.limit = next;
    }
}

/// A request's place, until it is dropped.
#[derive(Debug)]
#[must_use = "a ticket that is dropped at once holds no place"]
pub struct Ticket<'a> {
    limit: &'a ConcurrencyLimit,
}

impl Ticket<'_> {
    /// Gives the place back and tells how it went. Requests that were refused further on, or
    /// failed at once, say nothing of waiting: their ticket is only dropped.
    pub fn complete(self, completion: Completion, now: Instant) {
        self.limit.count(completion, now);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.limit.gate.leave();
    }
}
