//! Which of the workers that could be asked is: a function of what each has in flight.

use super::ledger::Load;
use crate::mix::mix;

/// The most workers that one key is spread over.
pub const REPLICAS_MAX: usize = 4;

/// How far above its fair share of the load a worker may be: the c of the rule, 1 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadFactor(f64);

impl LoadFactor {
    /// A quarter above the fair share. Nearer to 1, requests leave the worker that knows their
    /// answers for small differences of load; further off, more of them wait at one worker while
    /// others are idle.
    pub const DEFAULT: Self = Self(1.25);

    /// `factor`, unless it is below 1 or no number: then nobody might have room.
    pub fn new(factor: f64) -> Option<Self> {
        (factor >= 1.0 && factor.is_finite()).then_some(Self(factor))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// How many of `total` requests in flight a worker may have that has `weight` of all
    /// `weights`: at least one.
    pub fn cap(self, total: u64, weight: f64, weights: f64) -> u64 {
        (self.bound(total as f64 * weight / weights).ceil() as u64).max(1)
    }

    /// Whether a worker of this fair share, with so many in flight, may have one more.
    fn has_room(self, in_flight: u64, fair_share: f64) -> bool {
        // A whole number is below a bound as it is below the bound rounded up.
        in_flight == 0 || (in_flight as f64) < self.bound(fair_share)
    }

    fn bound(self, fair_share: f64) -> f64 {
        // A product that is a whole number may come out a hair above it: 1.1 * 10 * 1 / 11. What
        // is taken off here is far less than a bound needs for somebody to have room, c * (m + 1)
        // being above m by 1 at least.
        self.0 * fair_share * (1.0 - 1e-12)
    }
}

impl Default for LoadFactor {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A worker that a request could be given to.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What it has in flight.
    pub load: &'a Load,
    /// Its part of the fleet, relative to the other candidates: above 0.
    pub weight: f64,
    /// Whether requests wait there by its own account, of whichever gateway.
    pub has_queue: bool,
    /// Whether this request is not its to take yet, as long as it has another one to do.
    pub hesitates: bool,
}

impl Candidate<'_> {
    fn is_ready(&self) -> bool {
        !self.hesitates || self.load.in_flight() == 0
    }

    fn is_idle(&self) -> bool {
        !self.has_queue && self.load.in_flight() == 0
    }

    /// Its load with one more request, per weight.
    fn relative_load(&self) -> f64 {
        (self.load.in_flight() + 1) as f64 / self.weight
    }
}

/// Over how many workers a key is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Workers at the head of the key's order that take its requests: 1 to [`REPLICAS_MAX`].
    pub replicas: usize,
    /// Whether these are too few.
    pub exceeds: bool,
    /// A number that differs from request to request: which two of more than two are compared.
    pub turn: u64,
}

impl Spread {
    /// All requests belong to the key's first worker.
    pub const NONE: Self = Self { replicas: 1, exceeds: false, turn: 0 };

    /// Two of `replicas`, the earlier one first.
    pub(super) fn pair(self, replicas: usize) -> (usize, usize) {
        let random = mix(self.turn);
        let one = (random >> 32) as usize % replicas;
        let step = 1 + (random & 0xffff_ffff) as usize % (replicas - 1);
        let other = (one + step) % replicas;
        (one.min(other), one.max(other))
    }
}

/// Why a candidate was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// It is the first of the candidates in the key's order.
    First,
    /// The key is spread over several, and it is lighter than another one of them.
    Replica,
    /// The first one was at its bound.
    Bound,
    /// The first one hesitates.
    Hesitation,
}

/// The candidate that takes the request: its place in `candidates`, and why; `None` where there
/// are none.
///
/// `order` gives places in `candidates` in the order in which the request's key prefers them,
/// each once. What is `None` there is no candidate.
pub(super) fn choose(
    candidates: &[Option<Candidate<'_>>],
    order: impl Iterator<Item = usize> + Clone,
    spread: Spread,
    factor: LoadFactor,
) -> Option<(usize, Because)> {
    let (mut total, mut weights) = (1, 0.0);
    for candidate in candidates.iter().flatten() {
        total += candidate.load.in_flight();
        weights += candidate.weight;
    }
    let per_weight = total as f64 / weights;
    let is_below = |factor: LoadFactor, candidate: &Candidate<'_>| {
        factor.has_room(candidate.load.in_flight(), per_weight * candidate.weight)
    };
    let has_room = |candidate: &Candidate<'_>| is_below(factor, candidate);
    let order = order.filter_map(|place| Some((place, candidates[place].as_ref()?)));
    let (first, preferred) = order.clone().next()?;
    if spread.replicas == 1 && preferred.is_ready() && has_room(preferred) {
        return Some((first, Because::First));
    }
    let because = |place, or| match place == first {
        true => Because::First,
        false if preferred.is_ready() => or,
        false => Because::Hesitation,
    };

    if spread.replicas > 1 {
        // A key that is too much for its replicas would fill each up to the bound and drive out
        // the keys that are at home there. So it takes fair shares, and then goes wherever there
        // is least to do. Together the fair shares exceed what is in flight, too.
        let limit = if spread.exceeds { LoadFactor(1.0) } else { factor };
        let is_light = |candidate: &Candidate<'_>| is_below(limit, candidate);
        if let Some(place) = lighter_replica(order.clone(), spread, is_light) {
            return Some((place, because(place, Because::Replica)));
        }
        let others = order.clone().filter(|(_, other)| other.is_ready() && is_light(other));
        if spread.exceeds
            && let Some((place, _)) = others.min_by(|(_, a), (_, b)| by_load(a, b))
        {
            return Some((place, because(place, Because::Bound)));
        }
    }

    let in_order = order
        .clone()
        .find(|(_, candidate)| candidate.is_ready() && has_room(candidate))
        // All others being at their bounds, one that hesitates is below its own.
        .or_else(|| order.clone().find(|(_, candidate)| has_room(candidate)));
    debug_assert!(in_order.is_some(), "the bounds exceed what is in flight");
    let (place, _) = in_order.or_else(|| order.min_by(|(_, a), (_, b)| by_load(a, b)))?;
    Some((place, because(place, Because::Bound)))
}

/// The key's first worker as long as it is idle, else the lighter of two of its replicas, if it
/// is light.
///
/// Two, not all: gateways do not see each other's requests, and those that all saw the same one
/// lightest would all send there at once.
fn lighter_replica<'a>(
    order: impl Iterator<Item = (usize, &'a Candidate<'a>)>,
    spread: Spread,
    is_light: impl Fn(&Candidate<'_>) -> bool,
) -> Option<usize> {
    let mut replicas = [None; REPLICAS_MAX];
    let mut count = 0;
    let ready = order.filter(|(_, candidate)| candidate.is_ready());
    for replica in ready.take(spread.replicas.min(REPLICAS_MAX)) {
        replicas[count] = Some(replica);
        count += 1;
    }
    let (first, candidate) = replicas[0]?;
    if count == 1 || candidate.is_idle() {
        return is_light(candidate).then_some(first);
    }
    let (one, other) = spread.pair(count);
    let (one, other) = (replicas[one]?, replicas[other]?);
    let (place, lighter) = if by_load(other.1, one.1).is_lt() { other } else { one };
    is_light(lighter).then_some(place)
}

fn by_load(a: &Candidate<'_>, b: &Candidate<'_>) -> std::cmp::Ordering {
    a.relative_load().total_cmp(&b.relative_load())
}
