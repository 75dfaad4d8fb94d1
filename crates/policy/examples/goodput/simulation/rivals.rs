//! What others do. Where a rule asks what runs cost, it is told the truth: what a run takes 19
//! times of 20.

use std::collections::VecDeque;

use super::curves::{Curve, ROWS_MAX};
use super::{Decision, NOISE, Policy};

/// A request that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    request: usize,
    came: f64,
    deadline: f64,
}

/// A rule that decides over a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// One by one, in order; those that have expired are dropped.
    Alone,
    /// All there is up to the maximum, in order; those that have expired are dropped.
    Eager,
    /// When there are 32, or the oldest has waited 20 ms, in order; those that have expired are
    /// dropped.
    Timer,
    /// Triton's dynamic batcher: preferred sizes 8 and 32, at most 2 ms of delay, and by default
    /// nothing is dropped.
    Triton,
    /// Earliest deadline first, all there is that is done before the first deadline; those that
    /// would be late alone are dropped.
    Bounded,
    /// Symphony: as above, but a batch leaves only when no further request could join it without
    /// making the first one late.
    Deferred,
}

impl Rule {
    pub(crate) const ALL: [Self; 6] =
        [Self::Alone, Self::Eager, Self::Timer, Self::Triton, Self::Bounded, Self::Deferred];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Eager => "eager",
            Self::Timer => "timer",
            Self::Triton => "Triton",
            Self::Bounded => "bounded",
            Self::Deferred => "Symphony",
        }
    }

    fn earliest_deadline_first(self) -> bool {
        matches!(self, Self::Bounded | Self::Deferred)
    }
}

pub(crate) struct Rival {
    rule: Rule,
    curve: Curve,
    queue: VecDeque<Waiting>,
    runs: u64,
}

impl Rival {
    pub(crate) fn new(rule: Rule, curve: Curve) -> Self {
        Self { rule, curve, queue: VecDeque::new(), runs: 0 }
    }

    /// What a run takes 19 times of 20.
    fn safe(&self, rows: usize) -> f64 {
        self.curve.seconds(rows.min(ROWS_MAX)) * (1.645 * NOISE).exp()
    }

    fn drop_late(&mut self, now: f64) {
        let needed = if self.rule.earliest_deadline_first() { self.curve.seconds(1) } else { 0.0 };
        while self.queue.front().is_some_and(|head| head.deadline <= now + needed) {
            self.queue.pop_front();
        }
        if !self.rule.earliest_deadline_first() {
            self.queue.retain(|waiting| waiting.deadline > now);
        }
    }

    /// How many of the queue leave, or when to ask again.
    fn decide(&self, now: f64) -> Result<usize, f64> {
        let all = self.queue.len().min(ROWS_MAX);
        let head = self.queue[0];
        let delayed = |delay: f64| {
            if head.came + delay <= now { Ok(all) } else { Err(head.came + delay) }
        };
        let fits = |rows: usize| now + self.safe(rows) <= head.deadline;
        let bounded = (1..=all).rev().find(|&rows| fits(rows)).unwrap_or(1);
        match self.rule {
            Rule::Alone => Ok(1),
            Rule::Eager => Ok(all),
            Rule::Timer if all == ROWS_MAX => Ok(all),
            Rule::Timer => delayed(0.020),
            Rule::Triton => match all {
                32 => Ok(32),
                8.. => Ok(8),
                _ => delayed(0.002),
            },
            Rule::Bounded => Ok(bounded),
            Rule::Deferred if bounded < all || all == ROWS_MAX => Ok(bounded),
            Rule::Deferred => {
                let front_run = head.deadline - self.safe(all + 1);
                if front_run <= now { Ok(bounded) } else { Err(front_run) }
            }
        }
    }
}

impl Policy for Rival {
    fn arrive(&mut self, request: usize, deadline: f64, now: f64) {
        let waiting = Waiting { request, came: now, deadline };
        let index = if self.rule.earliest_deadline_first() {
            self.queue.partition_point(|other| other.deadline <= deadline)
        } else {
            self.queue.len()
        };
        self.queue.insert(index, waiting);
    }

    fn idle(&mut self, now: f64) -> Decision {
        if !matches!(self.rule, Rule::Triton) {
            self.drop_late(now);
        }
        if self.queue.is_empty() {
            return Decision::Nothing;
        }
        match self.decide(now) {
            Ok(rows) => {
                self.runs += 1;
                let members = self.queue.drain(..rows).map(|waiting| waiting.request);
                Decision::Run(self.runs, members.collect())
            }
            Err(moment) => Decision::WaitUntil(moment),
        }
    }

    fn ended(&mut self, _run: u64, _seconds: f64, _now: f64) {}
}
