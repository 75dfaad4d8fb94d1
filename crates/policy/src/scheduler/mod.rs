//! Which of the jobs that wait for a model run next, how many together, and which are refused.
//!
//! ```text
//!            offer                          next                    ended
//!  job ───────────────▶ a lane's queue ─────────────▶ a batch runs ───────▶ its cost is learnt
//!        │ refused                        │ late, unwanted
//!        ▼                                ▼
//! ```
//!
//! Jobs that may share a run wait in one *lane*; within it, earliest deadline first, in classes of
//! priority (`classes`), and nobody is overtaken for ever (`overtaken`). An instance that is idle
//! asks for the [`next`](Scheduler::next) batch (`choice`); how large that is follows from what runs
//! of this model were found to cost and from how much is there to do (`dispatch`), with nothing to
//! set by hand. What cannot be done in time is refused when it comes (`admission`) or, when that
//! shows later, dropped before it runs.
//!
//! All is plain data and `now` is an argument. Who owns a scheduler guards it and sleeps.

mod admission;
mod choice;
mod classes;
mod config;
mod dispatch;
mod jobs;
mod lane;
mod lateness;
mod overtaken;
mod pace;
mod queue;
mod runs;
#[cfg(test)]
mod tests;
mod trials;
mod waiting;

use std::hash::Hash;
use std::time::{Duration, Instant};

use inferring_types::CostCurve;

pub use admission::{Foreseen, Outlook, Prospect, Refusal, Refused};
use choice::{Choice, Chosen};
use classes::Classes;
pub use config::SchedulerConfig;
use dispatch::later;
pub use jobs::JobId;
use jobs::{Jobs, Place};
use lane::Lanes;
use lateness::Fate;
use overtaken::Overtaken;
use queue::Entry;
pub use runs::RunId;
use runs::Runs;
use trials::Trials;
pub use waiting::Waiting;

use crate::arrivals::Arrivals;
use crate::cost::{Class, CostModel};

/// What a scheduler must know of a job.
#[derive(Debug, Clone, Copy)]
pub struct Work<K> {
    /// Jobs of equal lane may share a run.
    pub lane: K,
    /// How many rows it has.
    pub rows: usize,
    /// Bytes of one row, over all inputs.
    pub row_bytes: u64,
    /// Bytes of all its inputs.
    pub bytes: u64,
    /// Its priority: 0 is the most urgent; more than there are counts as the last.
    pub class: usize,
    /// When it came.
    pub enqueued: Instant,
    /// After which nobody waits for the answer.
    pub deadline: Instant,
    /// Whether it is part of a request that has [entered](Scheduler::enter): it takes no place of its
    /// own, and is not refused for want of room.
    pub is_part: bool,
}

impl<K> Work<K> {
    /// The same in the lane that is known so.
    fn in_lane(&self, lane: Option<usize>) -> Work<Option<usize>> {
        let Self { rows, row_bytes, bytes, class, enqueued, deadline, is_part, .. } = *self;
        Work { lane, rows, row_bytes, bytes, class, enqueued, deadline, is_part }
    }
}

/// Why a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DispatchReason {
    /// It cannot grow, or need not.
    Full,
    /// There is an instance with nothing else to do.
    Idle,
    /// A larger or later one would come too late for the first of its jobs.
    Deadline,
    /// Its oldest job has waited for company as long as it may.
    Delay,
}

/// What an idle instance gets.
#[derive(Debug)]
pub struct Next<J> {
    /// What it does.
    pub step: Step<J>,
    /// Jobs that nobody wants any more.
    pub dropped: Vec<J>,
    /// Jobs that cannot be done in time any more.
    pub late: Vec<J>,
}

/// What an idle instance does.
#[derive(Debug)]
pub enum Step<J> {
    /// Run these.
    Run(Batch<J>),
    /// Ask again when a job comes, at this moment at the latest.
    WaitUntil(Instant),
    /// Ask again when a job comes.
    Nothing,
}

/// Jobs to be run together.
#[derive(Debug)]
pub struct Batch<J> {
    /// By which its end is told.
    pub run: RunId,
    /// At least one.
    pub jobs: Vec<J>,
    /// Rows of all jobs.
    pub rows: usize,
    /// Rows of the run, padding included.
    pub run_rows: usize,
    /// Why it leaves now and is as large as it is.
    pub reason: DispatchReason,
    /// Whether there are other jobs that another idle instance may run.
    pub more: bool,
}

/// The jobs that wait for one model. `K` says which may share a run, `J` is what is to be done.
#[derive(Debug)]
pub struct Scheduler<K, J> {
    config: SchedulerConfig,
    costs: CostModel,
    lanes: Lanes<K>,
    jobs: Jobs<J>,
    classes: Classes,
    overtaken: Overtaken,
    runs: Runs,
    arrivals: Arrivals,
    waiting: Waiting,
    /// No job becomes late before.
    late_from: Option<Instant>,
    /// Of the rows of the last job that came: what is told of costs is told of such rows.
    latest_class: Option<Class>,
    trials: Trials,
    /// When a job was last let through in doubt.
    probed_at: Option<Instant>,
    closed: bool,
}

impl<K: Eq + Hash + Clone, J> Scheduler<K, J> {
    /// A scheduler without jobs that has learnt nothing yet.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            costs: CostModel::new(config.rows_max()),
            lanes: Lanes::new(),
            jobs: Jobs::new(),
            classes: Classes::new(config.classes.get()),
            overtaken: Overtaken::new(config.classes.get()),
            runs: Runs::default(),
            arrivals: Arrivals::new(),
            waiting: Waiting::default(),
            late_from: None,
            latest_class: None,
            trials: Trials::default(),
            probed_at: None,
            closed: false,
            config,
        }
    }

    /// A request comes whose parts will be [offered](Self::offer) as jobs, a few at a time. It has one
    /// place, however many there are, until it [leaves](Self::leave). `bytes` are those of its first
    /// parts.
    ///
    /// # Errors
    /// There is no room for it; see [`Refusal`].
    pub fn enter(&mut self, bytes: u64, now: Instant) -> Result<(), Refusal> {
        self.check_room(self.waiting, bytes, now)?;
        self.waiting.requests += 1;
        Ok(())
    }

    /// No more parts come of a request that has entered.
    pub fn leave(&mut self) {
        self.waiting.requests -= 1;
    }

    /// A job comes.
    ///
    /// # Errors
    /// It cannot be answered in time, or there is no room for it; see [`Refusal`].
    pub fn offer(&mut self, work: Work<K>, job: J, now: Instant) -> Result<JobId, Refused<J>> {
        let allowance = work.deadline.saturating_duration_since(now).as_secs_f64();
        self.arrivals.count(work.rows, allowance, now);
        self.latest_class = Some(Class::of(work.row_bytes));
        let admission = match self.admit(&work, now) {
            Ok(admission) => admission,
            Err(refusal) => return Err(Refused { job, refusal }),
        };
        let class = work.class.min(self.classes.count() - 1);
        let due = self.due(work.enqueued, work.deadline);
        let cost_class = Class::of(work.row_bytes);
        let lane = self.lanes.enter(work.lane, cost_class, self.classes.count());
        let id = self.jobs.insert(jobs::Waiting {
            job,
            rows: work.rows,
            bytes: work.bytes,
            lane,
            class,
            enqueued: work.enqueued,
            due,
            deadline: work.deadline,
            patient_until: overtaken::patient_until(work.enqueued, admission.expected),
            probe: admission.probe,
            is_part: work.is_part,
        });
        self.comes(id);
        self.waiting.requests += usize::from(!work.is_part);
        self.waiting.rows += work.rows;
        self.waiting.bytes += work.bytes;
        Ok(id)
    }

    /// An instance is idle and asks what to do. Of the jobs it would get, those that are not
    /// `wanted` are given out apart.
    pub fn next(&mut self, now: Instant, mut wanted: impl FnMut(&mut J) -> bool) -> Next<J> {
        let mut next = Next { step: Step::Nothing, dropped: Vec::new(), late: Vec::new() };
        loop {
            self.drop_late(now, &mut next.late);
            let chosen = match self.choose(now) {
                Choice::Run(chosen) => chosen,
                Choice::WaitUntil(moment) => {
                    next.step = Step::WaitUntil(moment);
                    return next;
                }
                Choice::Nothing => return next,
            };
            if let Some(due) = chosen.sacrifice {
                self.give_up(chosen.lane, chosen.class, due, &mut next.late);
            }
            let batch = self.take(&chosen, now, &mut wanted, &mut next);
            // All that were taken may have been unwanted; then another lane may have work.
            if let Some(batch) = batch {
                next.step = Step::Run(batch);
                return next;
            }
        }
    }

    /// A run has ended after that time; without one if it failed or nobody waited for it any more, so
    /// that it says nothing about the next.
    pub fn ended(&mut self, run: RunId, time: Option<Duration>, now: Instant) {
        let Some(run) = self.runs.end(run) else { return };
        let Some(time) = time else { return };
        // How long a run would have taken that was ended at its limit, nobody knows. Twice as long is
        // supposed: so a few runs are enough to find a size that keeps to it.
        let was_cut_short = self.config.run_limit.is_some_and(|limit| time >= limit);
        let time = if was_cut_short { 2 * time } else { time };
        self.costs.learn(run.cost_class, run.rows, time, now);
    }

    /// A run that was not handed out here took that long, as at warm-up.
    pub fn learn(&mut self, row_bytes: u64, rows: usize, time: Duration, now: Instant) {
        self.latest_class.get_or_insert(Class::of(row_bytes));
        self.costs.learn_ahead(Class::of(row_bytes), rows, time, now);
    }

    /// Somebody else waits for that job too: it is as urgent as either asks for, and of use until
    /// the later of both deadlines. Nothing happens if it has left the queue.
    pub fn expedite(&mut self, id: JobId, class: usize, deadline: Instant) {
        let Some(place) = self.jobs.place(id) else { return };
        self.dequeue(place);
        let due_in = self.config.target;
        let waiting = self.jobs.get_mut(place);
        let is_promoted = class < waiting.class;
        waiting.class = waiting.class.min(class);
        waiting.due = waiting.due.min(due(due_in, waiting.enqueued, deadline));
        waiting.deadline = waiting.deadline.max(deadline);
        if is_promoted {
            self.comes(id);
        } else {
            self.enqueue(place);
        }
    }

    /// From now on every job is refused; those that wait are handed out without delay.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether no job waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// What runs of this model were found to cost, by size of row.
    #[must_use]
    pub fn curves(&self) -> Vec<CostCurve> {
        self.costs.curves()
    }

    /// Takes the jobs of a batch, those of its class first, then of the others by urgency; one in any
    /// case. `None` if nobody wants any of them.
    fn take(
        &mut self,
        chosen: &Chosen,
        now: Instant,
        wanted: &mut impl FnMut(&mut J) -> bool,
        next: &mut Next<J>,
    ) -> Option<Batch<J>> {
        let &Chosen { lane, class, rows, reason, is_for_overtaken, .. } = chosen;
        let others = (0..self.classes.count()).filter(|&other| other != class);
        let mut jobs = Vec::new();
        let mut taken = 0;
        'classes: for class in std::iter::once(class).chain(others) {
            while let Some(place) = self.first(lane, class, is_for_overtaken, now) {
                let job_rows = self.jobs.get(place).rows;
                if !jobs.is_empty() && taken + job_rows > rows {
                    break 'classes;
                }
                if !wanted(&mut self.jobs.get_mut(place).job) {
                    self.dequeue(place);
                    next.dropped.push(self.remove(place));
                    continue;
                }
                match self.fate(place, now) {
                    Fate::InTime => {
                        self.dequeue(place);
                        jobs.push(self.remove(place));
                        taken += job_rows;
                    }
                    Fate::Overdue => self.postpone(place),
                    Fate::Late => {
                        self.dequeue(place);
                        next.late.push(self.remove(place));
                    }
                }
            }
        }
        let cost_class = self.lanes.get(lane).cost_class;
        self.lanes.leave_if_empty(lane);
        if jobs.is_empty() {
            return None;
        }
        // There is nothing to pad a run without rows with.
        let run_rows = if taken == 0 { 0 } else { self.config.run_rows(taken) };
        let expected = self.costs.of(cost_class).map_or(0.0, |costs| costs.expected(run_rows));
        // Where nothing is known of costs, a row is as good as another.
        self.classes.charge(class, if expected > 0.0 { expected } else { run_rows as f64 });
        self.overtaken.served(class, is_for_overtaken);
        let run = self.runs.start(cost_class, run_rows, expected, now);
        let more = !self.is_empty();
        Some(Batch { run, jobs, rows: taken, run_rows, reason, more })
    }

    fn due(&self, enqueued: Instant, deadline: Instant) -> Instant {
        due(self.config.target, enqueued, deadline)
    }

    /// A job is new in its class.
    fn comes(&mut self, id: JobId) {
        self.enqueue(id.place());
        let waiting = self.jobs.get(id.place());
        let queue = &mut self.lanes.get_mut(waiting.lane).queues[waiting.class];
        queue.came(id, waiting.enqueued, waiting.class, &self.jobs);
    }

    fn enqueue(&mut self, place: Place) {
        let waiting = self.jobs.get(place);
        let rows = u32::try_from(waiting.rows).unwrap_or(u32::MAX);
        let entry = Entry { due: waiting.due, place, rows };
        let (lane, class) = (waiting.lane, waiting.class);
        let mut lanes = self.lanes.active().iter();
        if lanes.all(|&lane| self.lanes.get(lane).queues[class].is_empty()) {
            self.classes.wake(class);
        }
        let queue = &mut self.lanes.get_mut(lane).queues[class];
        queue.insert(entry);
        if queue.head().is_some_and(|head| head.place == place) {
            self.watch(place);
        }
    }

    fn dequeue(&mut self, place: Place) {
        let waiting = self.jobs.get(place);
        let queue = &mut self.lanes.get_mut(waiting.lane).queues[waiting.class];
        let entry = queue.remove(waiting.due, place);
        debug_assert!(entry.is_some(), "a job that waits is in its queue");
    }

    /// A job that is in no queue any more leaves.
    fn remove(&mut self, place: Place) -> J {
        let waiting = self.jobs.remove(place);
        self.waiting.requests -= usize::from(!waiting.is_part);
        self.waiting.rows -= waiting.rows;
        self.waiting.bytes -= waiting.bytes;
        waiting.job
    }
}

/// When a job should be answered.
fn due(target: Option<Duration>, enqueued: Instant, deadline: Instant) -> Instant {
    target.map_or(deadline, |target| deadline.min(later(enqueued, target)))
}
