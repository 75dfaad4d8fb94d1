//! Leaves a worker alone for a while that does far worse than the others.
//!
//! A breaker sees one worker and so needs a plain fault: failures in a row, or half of them. What
//! it cannot tell is whether a worker that fails one request of four, or takes a hundred times
//! its time, is ill, or whether the requests are. The other workers tell: they get the same kind
//! of requests. So the judge compares, each second anew, over the last ten seconds.
//!
//! *What is compared.* The share of successes, and the time that answers took, model by model.
//! *With what.* With the median of the fleet, not its mean: in a fleet of n the one bad worker
//! lies at most √(n - 1) standard deviations from the mean that it itself has moved, 1.4 in a
//! fleet of three. A rule of 1.9 deviations could never catch it, and two bad workers of five
//! hide each other. The median does not move until half of the fleet is bad.
//! *How far off.* A success rate must lie below the median by a margin and by
//! [`DEVIATIONS`] of the fleet's own spread; a time must be some factor longer.
//!
//! *When.* At any look, also some seconds after the last failure: the window forgets successes as
//! it forgets failures. Where requests get few after a worker has failed, those that went well
//! before that are forgotten first, and its share falls below the bound as nothing new is known. No
//! verdict rests on what is older than ten seconds, and where requests are few the others bear them
//! easily; to ask for a fresh failure would let go whoever is asked too seldom to fail each second.
//!
//! *Refusals* count as non-successes only while most of the fleet refuses next to nothing. When
//! all queues are full, the one that refuses a little more is not ill, and to leave it alone would
//! push its load onto the others, which refuse already.
//!
//! *How many.* Judging by comparison can go wrong for many workers at once, so those that are out
//! for whatever reason, ejected or not, may be no more than a share of the fleet by the judge's
//! hand; one may always be, but never the last that is in. The worst go first.
//!
//! *How long.* As [`PenaltyConfig`] says. When the time is over the worker is asked as before; what
//! it did earlier does not count against it twice.

use std::time::{Duration, Instant};

use inferring_types::{EjectedStatus, EjectionReason};

mod times;
mod verdict;

pub use self::times::{MeanTime, ModelTimes};
use self::verdict::Judge;
use crate::circuit_breaker::Tally;
use crate::penalty::{Penalty, PenaltyConfig};

/// How many of the fleet's own deviations a success rate must lie below the median. 1.9 of a
/// normal distribution leaves 3 % to chance; the margin of the configuration takes care of those.
pub const DEVIATIONS: f64 = 1.9;

/// When a worker is ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EjectionConfig {
    /// Requests of the last ten seconds below which a worker is neither judged nor compared with.
    pub samples_min: u32,
    /// By how much its success rate must lie below the fleet's median, 0 to 1; above 1 it never
    /// does.
    pub margin: f64,
    /// How many times as long as the fleet's median its answers must take; 1 or less: times are
    /// not judged.
    pub slow_factor: f64,
    /// How much longer they must take at least. Between 1 ms and 12 ms nobody waits.
    pub slow_excess: Duration,
    /// The share of the fleet that may be out, 0 to 1, when another worker is ejected. 0: nobody
    /// is ever ejected.
    pub share_max: f64,
    /// For how long.
    pub time: PenaltyConfig,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            samples_min: 20,
            margin: 0.2,
            slow_factor: 10.0,
            slow_excess: Duration::from_millis(20),
            share_max: 0.5,
            time: PenaltyConfig::default(),
        }
    }
}

/// Whether one worker is ejected, and how often it was.
#[derive(Debug, Clone)]
pub struct Ejection {
    current: Option<Current>,
    count: u64,
    penalty: Penalty,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    reason: EjectionReason,
    since: Instant,
    time: Duration,
}

impl Current {
    fn left(&self, now: Instant) -> Duration {
        self.time.saturating_sub(now.saturating_duration_since(self.since))
    }
}

impl Ejection {
    /// Of a worker that never was. `seed`: as for a
    /// [`CircuitBreaker`](crate::CircuitBreaker::new).
    pub fn new(config: &EjectionConfig, seed: u64) -> Self {
        Self { current: None, count: 0, penalty: Penalty::new(config.time, seed) }
    }

    /// Why it is left alone at `now`, and for how much longer; `None` where it is not.
    pub fn status(&self, now: Instant) -> Option<EjectedStatus> {
        let current = self.current?;
        let returns_in = current.left(now);
        (!returns_in.is_zero()).then_some(EjectedStatus { reason: current.reason, returns_in })
    }

    /// Whether it is left alone at `now`.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.status(now).is_some()
    }

    /// How often it was ejected.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// There is a new process in its place: that one is asked at once, and inherits nothing.
    pub fn restarted(&mut self, now: Instant) {
        if self.current.take().is_some() {
            self.penalty.good_from(now);
        }
    }

    fn eject(&mut self, reason: EjectionReason, now: Instant) {
        let time = self.penalty.impose(now);
        self.current = Some(Current { reason, since: now, time });
        self.count += 1;
    }

    /// Whether its time has ended since this was last asked.
    fn has_returned(&mut self, now: Instant) -> bool {
        let returned = self.current.is_some() && !self.is_ejected(now);
        if returned {
            self.current = None;
            self.penalty.good_from(now);
        }
        returned
    }
}

/// One worker before the judge.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its ejections.
    pub ejection: &'a mut Ejection,
    /// What its requests of the last ten seconds said.
    pub tally: Tally,
    /// How long its answers took.
    pub times: Vec<MeanTime>,
    /// Whether it is not asked for another reason: it is not there, or its breaker is not closed.
    pub out: bool,
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It is left alone from now on.
    Ejected(EjectedStatus),
    /// It is asked again.
    Returned,
}

/// Judges a fleet at `now`: all workers that are not draining. The changes, by their place in
/// `fleet`, those of a worker that returns first.
pub fn judge(
    config: &EjectionConfig,
    fleet: &mut [Worker<'_>],
    now: Instant,
) -> Vec<(usize, Change)> {
    let mut changes: Vec<_> = (0..fleet.len())
        .filter(|&place| fleet[place].ejection.has_returned(now))
        .map(|place| (place, Change::Returned))
        .collect();
    let is_out = |worker: &Worker<'_>| worker.out || worker.ejection.is_ejected(now);
    let mut out = fleet.iter().filter(|worker| is_out(worker)).count();
    for (place, reason) in Judge::new(config, fleet).verdicts() {
        if is_out(&fleet[place]) {
            continue;
        }
        if out >= out_max(config.share_max, fleet.len()) {
            break;
        }
        let ejection = &mut *fleet[place].ejection;
        ejection.eject(reason, now);
        // A time of zero is over as it begins.
        let Some(status) = ejection.status(now) else { continue };
        changes.push((place, Change::Ejected(status)));
        out += 1;
    }
    changes
}

/// How many of a fleet may be out after an ejection.
fn out_max(share: f64, fleet: usize) -> usize {
    if share.is_nan() || share <= 0.0 {
        return 0;
    }
    let of_the_fleet = (share.min(1.0) * fleet as f64) as usize;
    of_the_fleet.max(1).min(fleet.saturating_sub(1))
}

/// Whether so few of the workers that do not drain are well that judgements are in doubt, and all
/// that are there are to be asked. `threshold` is the least healthy share, 0 to 1; 0: never.
///
/// The requests that unhealthy workers would get fall on the healthy ones. Above half that is a
/// load they may bear; below it, leaving workers alone makes more workers fail, and it is likelier
/// that what they are judged by is wrong than that most of the fleet fell ill at a time.
pub fn panics(healthy: usize, of: usize, threshold: f64) -> bool {
    (healthy as f64) < threshold * of as f64
}

#[cfg(test)]
mod tests;
