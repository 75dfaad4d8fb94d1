//! Whether a job that comes now can be answered in time.
//!
//! Whoever cannot is told so at once: it may go elsewhere while there is time, and does not take
//! from others what it cannot use itself. The estimate leans to admitting. A job that is admitted
//! and turns out to be late is dropped before it runs and has cost nothing but a place; one that
//! is refused by mistake is lost.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::dispatch::{later, seconds};
use super::queue::Queue;
use super::{Scheduler, Waiting, Work};
use crate::Caution;
use crate::cost::{Class, Costs, Seconds};

/// What is known of the costs of rows is doubted when it is as old as this: then one job that
/// would be refused for it is let through to find out. Else a model that was slow once and refused
/// everybody would never learn that it is fast again.
const TRUST: Duration = Duration::from_secs(1);

/// Lanes that are asked how many of their rows go before another.
const LANES_ASKED: usize = 16;

/// Why a job is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The scheduler is closed.
    Closed,
    /// As many jobs or bytes wait as may.
    Full {
        /// Jobs that wait.
        requests: usize,
        /// Their bytes.
        bytes: u64,
        /// After how long they are worked off.
        retry_after: Duration,
    },
    /// There is too much to be done before it.
    Late {
        /// How long it would take, the waiting included.
        needed: Duration,
        /// How long it has.
        remaining: Duration,
        /// After how long another try is reckoned to succeed.
        retry_after: Duration,
    },
    /// It would take longer than it has even if it were alone.
    Hopeless {
        /// How long it would take.
        needed: Duration,
        /// How long it has.
        remaining: Duration,
    },
}

/// What a job that came now could expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// When an instance would take it. Told as a moment, because until then it comes nearer by
    /// itself and nothing need be reckoned anew.
    pub free_at: Instant,
    /// How long it would then run, alone. Zero where nothing has been measured.
    pub run: Duration,
}

/// What is known of a job before it comes.
#[derive(Debug, Clone, Copy)]
pub struct Foreseen {
    /// Bytes of its inputs, as far as that is known.
    pub tensor_bytes: Option<u64>,
    /// Bytes of one of its rows. Without, its rows are taken to be like those of the last job.
    pub row_bytes: Option<u64>,
    /// Bytes that it takes while it waits.
    pub bytes: u64,
    /// Its priority; the most urgent that it may have.
    pub class: usize,
    /// After which nobody waits for the answer.
    pub deadline: Instant,
}

/// What is to be expected of a job that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prospect {
    /// Why it would not be taken, if so.
    pub refusal: Option<Refusal>,
    /// What it takes of the queue.
    pub demand: Waiting,
    /// How long an instance works for it; zero where nothing is known of costs.
    pub cost: Duration,
}

/// A job that was not taken, and why.
#[derive(Debug)]
pub struct Refused<J> {
    /// The job, given back.
    pub job: J,
    /// Why.
    pub refusal: Refusal,
}

/// A job that is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    pub(super) probe: bool,
    /// After how long it is reckoned to be answered; zero where nothing is known.
    pub(super) expected: Seconds,
}

impl<K: Eq + Hash + Clone, J> Scheduler<K, J> {
    pub(super) fn admit(&mut self, work: &Work<K>, now: Instant) -> Result<Admission, Refusal> {
        let lane = self.lanes.find(&work.lane);
        let admission = self.judge(&work.in_lane(lane), Waiting::default(), Caution::new(), now)?;
        if admission.probe {
            self.probed_at = Some(now);
        }
        Ok(admission)
    }

    /// What would become of a job that is on its way, when `before` have come that are on theirs, and
    /// as far as what is reckoned is believed.
    #[must_use]
    pub fn foresee(
        &self,
        job: &Foreseen,
        before: Waiting,
        caution: Caution,
        now: Instant,
    ) -> Prospect {
        let row_class = job.row_bytes.map(Class::of).or(self.latest_class);
        let row_bytes = row_class.map_or(1, Class::row_bytes);
        // Of a class the largest rows, and of a request the fewest: what is not known is taken in
        // its favour.
        let rows = job.tensor_bytes.map_or(1, |bytes| {
            let rows = bytes / job.row_bytes.unwrap_or(row_bytes).max(1);
            usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, self.config.rows_max())
        });
        let work = Work {
            lane: self.lanes.latest(),
            rows,
            row_bytes,
            bytes: job.bytes,
            class: job.class,
            enqueued: now,
            deadline: job.deadline,
            is_part: false,
        };
        let costs = self.costs.of(Class::of(row_bytes)).filter(Costs::are_measured);
        Prospect {
            refusal: self.judge(&work, before, caution, now).err(),
            demand: Waiting { requests: 1, rows, bytes: job.bytes },
            cost: seconds(costs.map_or(0.0, |costs| rows as f64 / costs.best().throughput)),
        }
    }

    /// Counts a job as one that came, though it was turned away before it did.
    pub fn turned_away(&mut self, rows: usize, deadline: Instant, now: Instant) {
        let allowance = deadline.saturating_duration_since(now).as_secs_f64();
        self.arrivals.count(rows, allowance, now);
    }

    /// Whether a job would be taken after `before`; it is known in which lane it would wait, if
    /// there is that lane.
    fn judge(
        &self,
        work: &Work<Option<usize>>,
        before: Waiting,
        caution: Caution,
        now: Instant,
    ) -> Result<Admission, Refusal> {
        if work.is_part {
            self.check_open()?;
        } else {
            self.check_room(self.waiting.plus(before), work.bytes, now)?;
        }
        let remaining = work.deadline.saturating_duration_since(now);
        let class = Class::of(work.row_bytes);
        let Some(costs) = self.costs.of(class).filter(Costs::are_measured) else {
            return if remaining.is_zero() {
                Err(Refusal::Hopeless { needed: Duration::ZERO, remaining })
            } else {
                Ok(Admission { probe: false, expected: 0.0 })
            };
        };
        let rows = self.config.run_rows(work.rows);
        let alone = seconds(costs.fastest(rows));
        if remaining.is_zero() || (alone > remaining && self.trusts(costs, now)) {
            return Err(Refusal::Hopeless { needed: alone, remaining });
        }
        let (wait, run) = self.wait(work, before, costs, now);
        let needed = seconds(caution.factor() * (wait + run));
        if needed > remaining && wait > 0.0 {
            let over = needed - remaining;
            let retry_after = over.max(alone);
            return Err(Refusal::Late { needed, remaining, retry_after });
        }
        let best = costs.best();
        let expected = wait + run.max(best.rows as f64 / best.throughput);
        Ok(Admission { probe: alone > remaining, expected })
    }

    /// Refuses one more request where those that wait leave no room for it.
    pub(super) fn check_room(
        &self,
        waiting: Waiting,
        bytes: u64,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.check_open()?;
        let Waiting { requests, bytes: waiting, .. } = waiting;
        let fits = requests < self.config.requests_max
            && waiting.saturating_add(bytes) <= self.config.bytes_max;
        // An empty queue takes any one job: there is no point in refusing now what would be
        // refused for ever.
        if requests == 0 || fits {
            return Ok(());
        }
        Err(Refusal::Full { requests, bytes: waiting, retry_after: self.backlog(now) })
    }

    fn check_open(&self) -> Result<(), Refusal> {
        if self.closed { Err(Refusal::Closed) } else { Ok(()) }
    }

    /// Whether costs were measured recently, or are just being measured.
    pub(super) fn trusts(&self, costs: Costs<'_>, now: Instant) -> bool {
        let known =
            self.probed_at.map_or(costs.learnt_at(), |probed| probed.max(costs.learnt_at()));
        let often = seconds(20.0 * costs.expected(1));
        now.saturating_duration_since(known) < TRUST.max(often)
    }

    /// How long a job waits for what goes before it, and how long it then runs.
    fn wait(
        &self,
        work: &Work<Option<usize>>,
        before: Waiting,
        costs: Costs<'_>,
        now: Instant,
    ) -> (Seconds, Seconds) {
        let alone = costs.fastest(self.config.run_rows(work.rows));
        let instances = self.config.instances.max(1);
        let idle = instances.saturating_sub(self.runs.count());
        let waiting = self.waiting.plus(before);
        if idle > 0 && self.is_empty() && before.requests == 0 {
            return (0.0, alone);
        }
        let class = work.class.min(self.classes.count() - 1);
        let due = self.due(work.enqueued, work.deadline);
        let ahead = self.rows_ahead(class, due) + before.rows;
        let busy = if idle > 0 { 0.0 } else { self.runs.soonest(now) };
        let pace = work.lane.map(|lane| &self.lanes.get(lane).pace.0);
        let Some(pace) = pace.filter(|pace| pace.rows > 0) else {
            let best = costs.best();
            let ahead = (ahead + work.rows).saturating_sub(best.rows) as f64;
            return (busy + ahead / best.throughput / instances as f64, alone);
        };
        // It need not wait for those it shares its run with. How large that is depends on how much
        // there is to do: who would have to be given up for the others' sake is not taken.
        let ahead = (ahead + work.rows).saturating_sub(pace.rows) as f64;
        let rate = self.arrivals.rate(now);
        let pressure = pace.pressure(instances, waiting.rows, rate);
        let shared = costs.expected(self.config.run_rows(pace.rows));
        let run = alone + pressure * (shared - alone).max(0.0);
        (busy + ahead / pace.throughput / instances as f64, run)
    }

    /// How many rows are due before that, or more urgent; of many lanes some speak for all.
    fn rows_ahead(&self, class: usize, due: Instant) -> usize {
        let (mut ahead, mut asked) = (0, 0);
        for &lane in self.lanes.active().iter().take(LANES_ASKED) {
            let queues = &self.lanes.get(lane).queues;
            ahead += queues[..class].iter().map(Queue::rows).sum::<usize>();
            ahead += queues[class].rows_due_before(due);
            asked += self.lanes.get(lane).rows();
        }
        ahead * self.waiting.rows / asked.max(1)
    }

    /// What another job of one row could expect that came now, if it were as urgent as the rest:
    /// its wait for an instance, and its run. Nothing where nothing is known of costs.
    ///
    /// It is asked with every job and every run, so a few lanes speak for all.
    #[must_use]
    pub fn outlook(&self, now: Instant) -> Outlook {
        let Some(costs) = self.latest_class.and_then(|class| self.costs.of(class)) else {
            return Outlook { free_at: now, run: Duration::ZERO };
        };
        let run = seconds(costs.expected(self.config.run_rows(1)));
        let instances = self.config.instances.max(1);
        let idle = instances.saturating_sub(self.runs.count());
        if idle > 0 && self.is_empty() {
            return Outlook { free_at: now, run };
        }
        let busy = if idle > 0 { 0.0 } else { self.runs.soonest(now) };
        let (mut asked, mut time) = (0, 0.0);
        for &lane in self.lanes.active().iter().take(LANES_ASKED) {
            let lane = self.lanes.get(lane);
            asked += lane.rows();
            let costs = self.costs.of(lane.cost_class);
            time += costs.map_or(0.0, |costs| lane.rows() as f64 / costs.best().throughput);
        }
        let all = time * self.waiting.rows as f64 / asked.max(1) as f64;
        Outlook { free_at: later(now, seconds(busy + all / instances as f64)), run }
    }

    /// The most rows of a run, as things are.
    #[must_use]
    pub fn rows_max(&self, row_bytes: u64) -> usize {
        let rows_max = self.config.rows_max();
        let costs = self.costs.of(Class::of(row_bytes));
        costs.map_or(rows_max, |costs| self.config.rows_within_limit(costs, rows_max))
    }

    /// How long a run takes, by all that is known; a century where that is nothing.
    #[must_use]
    pub fn expected(&self, row_bytes: u64, rows: usize) -> Duration {
        let costs = self.costs.of(Class::of(row_bytes));
        let expected = |costs: Costs<'_>| costs.expected(self.config.run_rows(rows));
        seconds(costs.map_or(Seconds::INFINITY, expected))
    }

    /// How long the jobs that wait, and those that run, will take.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> Duration {
        let of_lane = |&lane: &usize| {
            let lane = self.lanes.get(lane);
            let costs = self.costs.of(lane.cost_class);
            costs.map_or(0.0, |costs| lane.rows() as f64 / costs.best().throughput)
        };
        let waiting: Seconds = self.lanes.active().iter().map(of_lane).sum();
        let busy = self.runs.remaining(now);
        seconds((waiting + busy) / self.config.instances.max(1) as f64)
    }
}
