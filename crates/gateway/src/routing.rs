//! Which workers to ask for a request, and in which order.
//!
//! A request's content belongs to workers in an order of its own (`policy::hash_ring`). From those
//! that serve the model, are there, are not held back by their breakers and could answer in time,
//! the first one that has room takes it (`policy::bounded_load`): where the key is hot, one of its
//! first few (`policy::hot_keys`); and not one that has only just begun, unless the key has moved
//! there already (`policy::slow_start`). Where most workers do badly, how they do is set aside, and
//! all that are there are asked.
//!
//! Before all that, a request goes along with an equal one that is under way and not answered yet
//! (`policy::flights`), if it could be given to that one's worker at all.
//!
//! A step of a sequence goes where its state is, see [`sequence`].

mod homes;
mod sequence;
mod stay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_policy::bounded_load::{Because, Candidate, Spread};
use inferring_policy::flights::{Flights, Turn};
use inferring_policy::slow_start::has_moved;
use inferring_policy::{HotKeys, HotKeysConfig, LoadLedger, LoadSlot, Permit, SlowStart};
use inferring_types::{Allotment, InferRequest, RouteReason, RoutingKey, WorkerLoad};
use smallvec::SmallVec;

use self::homes::{Homes, Limits};
pub(crate) use self::sequence::Unplaced;
pub(crate) use self::stay::Stay;
use crate::clock;
use crate::config::GatewayConfig;
use crate::ejection;
use crate::endpoint::Endpoint;
use crate::membership::Membership;
use crate::standing::Standing;

/// What routing goes by beside the request and the workers: how the load lies, which keys are hot,
/// which are under way and where sequences live. It outlives changes of membership.
pub(crate) struct Router {
    ledger: LoadLedger,
    flights: Flights,
    hot_keys: HotKeys,
    homes: Homes,
    slow_start: SlowStart,
    report_age_max: Duration,
    panic_threshold: f64,
}

impl Router {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let factor = config.load.bound.policy();
        Self {
            ledger: LoadLedger::new(factor),
            flights: Flights::new(clock::now()),
            hot_keys: HotKeys::new(HotKeysConfig {
                half_life: config.hot_keys.half_life,
                replicas_max: config.hot_keys.replicas_max,
                factor,
            }),
            homes: Homes::new(Limits::DEFAULT, clock::now()),
            slow_start: config.slow_start.policy(),
            report_age_max: config.load.report_age_max,
            panic_threshold: config.ejection.panic_threshold,
        }
    }

    /// The route of a request with this key.
    pub(crate) fn route<'a>(
        &'a self,
        membership: &'a Membership,
        request: &'a InferRequest,
        key: RoutingKey,
    ) -> Route<'a> {
        Route { router: self, membership, request, key, tried: SmallVec::new() }
    }

    /// How many keys are spread over several workers.
    pub(crate) fn hot_keys(&self) -> u64 {
        self.hot_keys.len() as u64
    }

    /// Whether so few of the workers that serve a model are well that all of them are asked.
    fn panics(&self, standings: &Standings) -> bool {
        // The common case is told without counting.
        let standings = standings.iter().flatten().map(|known| known.standing);
        standings.clone().any(|standing| !standing.is_healthy())
            && ejection::panics(standings, self.panic_threshold)
    }

    /// The part of its work that a worker gets, which has only just begun.
    fn slow_start_factor(&self, endpoint: &Endpoint, now: Instant) -> f64 {
        self.slow_start.factor(now.saturating_duration_since(endpoint.began()))
    }

    /// How load lies on these workers, for people: with a request more that all of them serve.
    pub(crate) fn allotments(&self, endpoints: &[Arc<Endpoint>], now: Instant) -> Vec<Allotment> {
        let weight = |endpoint: &Endpoint| {
            let is_asked = endpoint.standing(now).may_be_asked();
            is_asked.then(|| endpoint.weight() * self.slow_start_factor(endpoint, now))
        };
        let weights: Vec<_> = endpoints.iter().map(|endpoint| weight(endpoint)).collect();
        let asked =
            || endpoints.iter().zip(&weights).filter_map(|(e, weight)| Some((e, (*weight)?)));
        let total = 1 + asked().map(|(endpoint, _)| endpoint.load.in_flight()).sum::<u64>();
        let sum = asked().map(|(_, weight)| weight).sum::<f64>();
        let status = |(endpoint, weight): (&Arc<Endpoint>, &Option<f64>)| Allotment {
            bound: weight.map_or(0, |weight| self.ledger.factor().cap(total, weight, sum)),
            taken: endpoint.load.in_flight(),
            part: self.slow_start_factor(endpoint, now),
        };
        endpoints.iter().zip(&weights).map(status).collect()
    }
}

/// The workers that one request may be sent to, each at most once.
pub(crate) struct Route<'a> {
    router: &'a Router,
    membership: &'a Membership,
    request: &'a InferRequest,
    key: RoutingKey,
    /// Places in the membership of those that were asked.
    tried: SmallVec<[usize; 4]>,
}

/// A worker to ask, with leave to do so. It is held for as long as the worker is busy with the
/// request, and counts until then.
pub(crate) struct Chosen<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) permit: Permit<'a>,
    /// Counts the request as in flight there.
    pub(crate) stay: Stay<'a>,
    /// Why this one.
    pub(crate) reason: RouteReason,
}

/// What is known of a worker that serves the model.
#[derive(Clone, Copy)]
struct Known {
    standing: Standing,
    /// What it told of its queue, if that is news.
    report: Option<WorkerLoad>,
}

/// What is known of each worker of a membership, by its place; `None` for one that does not serve
/// the model.
type Standings = SmallVec<[Option<Known>; 32]>;

/// The workers of a membership by their places; `None` for one that does not take this request. Up
/// to 32 of them nothing is allocated.
type Field<'a> = SmallVec<[Option<Candidate<'a>>; 32]>;

/// The workers of a membership at one moment.
struct View<'a> {
    standings: Standings,
    /// Whether so few are well that all are asked.
    panics: bool,
    field: Field<'a>,
}

impl<'a> Route<'a> {
    /// Another worker than those before, as things are `now`: the one that an equal request is
    /// under way to, or else one that equal requests go along to from now on.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Chosen<'a>> {
        let view = self.view(now);
        let Some(turn) = self.turn(now) else { return self.choose(view, now) };
        match self.ride(turn, &view, now) {
            Ok(chosen) => Some(chosen),
            Err(turn) => {
                let mut chosen = self.choose(view, now)?;
                chosen.stay.leads(turn.lead(chosen.endpoint.number()));
                Some(chosen)
            }
        }
    }

    /// Another worker than those before that an equal request is under way to. To go along costs
    /// nobody anything.
    pub(crate) fn along(&mut self, now: Instant) -> Option<Chosen<'a>> {
        let view = self.view(now);
        let turn = self.turn(now)?;
        self.ride(turn, &view, now).ok()
    }

    /// Another worker beside one that takes long, as things are `now`. Nobody goes along with it:
    /// it may well be called off.
    pub(crate) fn beside(&mut self, now: Instant) -> Option<Chosen<'a>> {
        let view = self.view(now);
        self.choose(view, now)
    }

    /// Takes note of a worker's answer.
    pub(crate) fn answered(&self, now: Instant) {
        self.router.flights.answered(self.key, now);
    }

    fn view(&self, now: Instant) -> View<'a> {
        let standings = self.standings(now);
        let panics = self.router.panics(&standings);
        let field = self.field(&standings, panics, now);
        View { standings, panics, field }
    }

    /// The moment to look for an equal request under way; `None` where none is to be gone along
    /// with.
    fn turn(&self, now: Instant) -> Option<Turn<'a>> {
        let flights = &self.router.flights;
        match self.tried.is_empty() {
            true => flights.first_turn(self.key, now),
            false => Some(flights.another_turn(self.key)),
        }
    }

    /// The worker that an equal request is under way to, if it could take this one; or else the
    /// turn back.
    fn ride(
        &mut self,
        turn: Turn<'a>,
        view: &View<'_>,
        now: Instant,
    ) -> Result<Chosen<'a>, Turn<'a>> {
        let endpoints = self.membership.endpoints();
        let under_way = |worker| endpoints.iter().position(|e| e.number() == worker);
        let place = turn.worker().and_then(under_way).filter(|&place| view.field[place].is_some());
        let Some(place) = place else { return Err(turn) };
        let Some(permit) = permit(&endpoints[place], view.panics, now) else { return Err(turn) };
        let stay = Stay::riding(endpoints[place].load.ride(), turn.ride()?);
        let reason = match self.tried.is_empty() {
            true => RouteReason::Flight,
            false => RouteReason::Retry,
        };
        Ok(self.sent(place, permit, stay, reason))
    }

    /// The first worker that has room.
    fn choose(&mut self, mut view: View<'a>, now: Instant) -> Option<Chosen<'a>> {
        let spread = self.spread(&view.field, now);
        loop {
            let (place, because, slot) = self.take(&view.field, spread)?;
            if let Some(permit) = permit(&self.membership.endpoints()[place], view.panics, now) {
                let reason = self.reason(place, because, &view.standings);
                return Some(self.sent(place, permit, Stay::alone(slot), reason));
            }
            // Another request has just taken its last trial.
            view.field[place] = None;
        }
    }

    fn sent(
        &mut self,
        place: usize,
        permit: Permit<'a>,
        stay: Stay<'a>,
        reason: RouteReason,
    ) -> Chosen<'a> {
        let endpoint = &self.membership.endpoints()[place];
        self.tried.push(place);
        endpoint.count_request();
        Chosen { endpoint, permit, stay, reason }
    }

    /// Whether another worker could be asked.
    pub(crate) fn has_next(&self, now: Instant) -> bool {
        let others = || {
            let endpoints = self.membership.endpoints().iter().enumerate();
            endpoints.filter(|(place, endpoint)| {
                !self.tried.contains(place) && endpoint.serves(self.request.selector())
            })
        };
        others().any(|(_, endpoint)| endpoint.standing(now).may_be_asked())
            || others().any(|(_, endpoint)| endpoint.standing(now).may_be_asked_in_panic())
                && self.router.panics(&self.standings(now))
    }

    fn standings(&self, now: Instant) -> Standings {
        let (asked, age_max) = (self.request.selector(), self.router.report_age_max);
        let known = |endpoint: &Endpoint| {
            let report = endpoint.reported(asked, now, age_max)?;
            Some(Known { standing: endpoint.standing(now), report })
        };
        self.membership.endpoints().iter().map(|endpoint| known(endpoint)).collect()
    }

    /// Whether the worker in that place, which stands so, could be the next one to ask.
    fn is_candidate(&self, place: usize, standing: Standing, panics: bool) -> bool {
        let may_be_asked =
            self.may_be_asked(standing) || panics && standing.may_be_asked_in_panic();
        may_be_asked && !self.tried.contains(&place)
    }

    /// Whether a worker is asked that stands so.
    fn may_be_asked(&self, standing: Standing) -> bool {
        match &self.request.sequence {
            None => standing.may_be_asked(),
            Some(step) if step.start => standing.takes_new_sequences(),
            Some(_) => standing.takes_steps(),
        }
    }

    /// Who could take the request.
    fn field(&self, standings: &Standings, panics: bool, now: Instant) -> Field<'a> {
        let mut field = Field::new();
        // The largest part of its work that a candidate gets: those that began together share
        // what there is.
        let mut largest_part = 0.0_f64;
        let mut late = SmallVec::<[usize; 8]>::new();
        let remaining = self.request.deadline.at().saturating_duration_since(now);
        for (place, endpoint) in self.membership.endpoints().iter().enumerate() {
            let is_candidate = |known: &Known| self.is_candidate(place, known.standing, panics);
            let Some(Known { report, .. }) = standings[place].filter(is_candidate) else {
                field.push(None);
                continue;
            };
            if report.is_some_and(|load| load.wait.saturating_add(load.run) > remaining) {
                late.push(place);
            }
            let part = self.router.slow_start_factor(endpoint, now);
            largest_part = largest_part.max(part);
            field.push(Some(Candidate {
                load: &endpoint.load,
                weight: endpoint.weight() * part,
                has_queue: report.is_some_and(|load| !load.wait.is_zero()),
                hesitates: part < 1.0,
            }));
        }
        // Where nobody could answer in time by their reports, these may yet be wrong.
        if late.len() < field.iter().flatten().count() {
            late.iter().for_each(|&place| field[place] = None);
        }
        for (candidate, endpoint) in field.iter_mut().zip(self.membership.endpoints()) {
            if let Some(candidate) = candidate
                && candidate.hesitates
            {
                let part = self.router.slow_start_factor(endpoint, now) / largest_part;
                candidate.hesitates = !has_moved(self.key, part);
            }
        }
        field
    }

    /// Over how many workers the request's key is spread. It is counted at its first try only: who
    /// is asked again is not asked for more often.
    fn spread(&self, field: &Field<'_>, now: Instant) -> Spread {
        if !self.tried.is_empty() {
            return Spread::NONE;
        }
        let workers = field.iter().flatten().count();
        self.router.hot_keys.spread(self.key, workers, now)
    }

    fn take(&self, field: &Field<'a>, spread: Spread) -> Option<(usize, Because, LoadSlot<'a>)> {
        let order = self.membership.order_of(self.key);
        let reserved = self.router.ledger.reserve(field, order, spread)?;
        Some((reserved.place, reserved.because, reserved.slot))
    }

    /// Why the worker at `place` and not the one that the request belongs to: whatever kept it
    /// from that one counts, and not what kept it from others on the way.
    fn reason(&self, place: usize, because: Because, standings: &Standings) -> RouteReason {
        if !self.tried.is_empty() {
            return RouteReason::Retry;
        }
        let is_asked = |known: Known| self.may_be_asked(known.standing);
        if !standings[place].is_some_and(is_asked) {
            return RouteReason::Panic;
        }
        let own = self.membership.order_of(self.key).find(|&place| standings[place].is_some());
        match own {
            Some(own) if own != place => match (standings[own], because) {
                (Some(known), _) if !is_asked(known) => obstacle(known.standing),
                // It was no candidate, and is well.
                (_, Because::First) => RouteReason::Backlog,
                (_, Because::Replica) => RouteReason::Replica,
                (_, Because::Bound) => RouteReason::Bound,
                (_, Because::Hesitation) => RouteReason::SlowStart,
            },
            _ => RouteReason::Primary,
        }
    }
}

/// Its breaker's leave to ask it.
fn permit(endpoint: &Endpoint, panics: bool, now: Instant) -> Option<Permit<'_>> {
    let leave = endpoint.breaker.try_acquire(now);
    leave.or_else(|| panics.then(|| endpoint.breaker.acquire_anyway()))
}

/// What a worker that is not asked is said to be.
fn obstacle(standing: Standing) -> RouteReason {
    match standing {
        Standing::Absent | Standing::Unwell | Standing::Draining { .. } | Standing::Suspected => {
            RouteReason::Unreachable
        }
        Standing::Ejected => RouteReason::Ejected,
        // One that recovers has given its trials to others.
        Standing::Tripped | Standing::Recovering | Standing::Well => RouteReason::Breaker,
    }
}
