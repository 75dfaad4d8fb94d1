//! The queue between requests and a model's instances: bounded, and sorted into lanes of jobs
//! that may share a run.
//!
//! What leaves when, and what is not taken, is decided by [`inferring_policy::scheduler`], which
//! knows neither clock nor thread; here jobs come and instances wait for them. What cannot be
//! answered in time is refused at once, because a queue that takes it turns overload into
//! time-outs.

mod arriving;
mod batch;
mod expectation;
mod job;
mod parts;
mod refusal;
mod sleepers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_policy::Caution;
use inferring_policy::scheduler::{
    self, DispatchReason, Foreseen, JobId, Next, Prospect, Refused, RunId, Scheduler,
    SchedulerConfig, Step, Waiting,
};
use inferring_types::{BatchStatus, CostCurve, Deadline, ServiceError, Tensor, WorkerLoad};
use parking_lot::{Mutex, MutexGuard};

use arriving::Arriving;
pub(crate) use arriving::Place;
pub(crate) use batch::Batch;
use expectation::Expectation;
use job::Job;
pub(crate) use parts::InParts;
use sleepers::Sleepers;

use crate::assembly::{Assembly, LaneKey};
use crate::cache::Leader;
use crate::system::{self, Condvar};
use crate::turn;

/// When a job came, and how soon it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// When the worker took the request.
    pub(crate) accepted: Instant,
    /// After which the answer is of no use to whoever asked first.
    pub(crate) deadline: Deadline,
    /// Its priority class; 0 is the most urgent.
    pub(crate) class: usize,
    /// Whether it is part of a request that has [entered](Batcher::enter).
    pub(crate) is_part: bool,
}

/// Where jobs for one model wait for its instances.
pub(crate) struct Batcher {
    form: Arc<Form>,
    state: Mutex<State>,
    job_arrived: Condvar,
    expectation: Expectation,
}

/// What runs of a model are like.
struct Form {
    assembly: Assembly,
    config: SchedulerConfig,
}

struct State {
    scheduler: Scheduler<LaneKey, Job>,
    arriving: Arriving,
    /// Of what became of large jobs.
    caution: Caution,
    /// The most urgent class of the jobs that came lately, and when one of it did.
    most_urgent: Option<(usize, Instant)>,
    status: BatchStatus,
    sleepers: Sleepers,
}

/// What each run costs beside what is measured of it: an instance wakes and takes a batch, and
/// clients are woken, on processors that would otherwise serve others. It counts for models that
/// take microseconds, of which a row at a time would cost three times as much as a batch
/// (`examples/request_cost`), and nothing for the others.
const RUN_OVERHEAD: Duration = Duration::from_micros(20);

/// A head does not tell its request's priority. As long after an urgent one as this, another one
/// may be behind each.
const URGENCY_KEPT: Duration = Duration::from_secs(10);

/// A run that an instance has made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) run: RunId,
    /// How long it took from when its batch was taken until its outputs were there; `None` where
    /// that says nothing about other runs, because it did not run as a whole.
    pub(crate) time: Option<Duration>,
}

impl Batcher {
    /// A batcher for a model whose requests are joined so.
    pub(crate) fn new(config: SchedulerConfig, assembly: Assembly) -> Self {
        Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(config.clone()),
                arriving: Arriving::default(),
                caution: Caution::new(),
                most_urgent: None,
                status: BatchStatus::default(),
                sleepers: Sleepers::default(),
            }),
            form: Arc::new(Form { assembly, config }),
            job_arrived: Condvar::new(),
            expectation: Expectation::new(system::now()),
        }
    }

    /// How requests are joined.
    pub(crate) fn assembly(&self) -> &Assembly {
        &self.form.assembly
    }

    /// The most rows of a run. A job of more is run alone, as it is.
    pub(crate) fn rows_max(&self) -> usize {
        self.form.config.rows_max()
    }

    /// Numbers of rows that runs may have, as many as tell what a run costs, in ascending order.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.form.config.landmarks().collect()
    }

    /// The inputs of a run for these alone.
    pub(crate) fn alone(&self, inputs: &[Tensor]) -> Vec<Tensor> {
        let Form { assembly, config } = &*self.form;
        assembly.join(&[inputs], config.run_rows(assembly.rows(inputs)))
    }

    /// Queues the computation of `inputs`, which are in the model's declared order. Where that
    /// cannot be, all who wait are told so at once and there is no id:
    ///
    /// - `Overloaded`: the queue is full, or so long that the answer would come too late;
    /// - `DeadlineExceeded`: the run alone would take longer than there is time;
    /// - `Unavailable`: the batcher is closed.
    pub(crate) fn submit(
        self: &Arc<Self>,
        inputs: Vec<Tensor>,
        order: Order,
        leader: Leader,
    ) -> Option<JobId> {
        let job = Job::new(inputs, &self.form.assembly, order, leader);
        self.offer(job, |run, now| turn::put_off(self, run, now))
    }

    /// Keeps a place for a job that is on its way, as long as it is not here. A part of them,
    /// `misses`, will have to be computed.
    ///
    /// Where [`Self::submit`] would refuse it, `is_worth_it` is asked, with the time that computing
    /// it would have taken: then it may come, without a place, in the hope that it need not be
    /// computed.
    ///
    /// # Errors
    /// As of [`Self::submit`]. It is counted as refused.
    pub(crate) fn anticipate(
        self: &Arc<Self>,
        job: &Foreseen,
        misses: f64,
        is_worth_it: impl FnOnce(Duration) -> bool,
    ) -> Result<Option<Place>, ServiceError> {
        let now = system::now();
        let mut state = self.state.lock();
        let State { scheduler, arriving, caution, most_urgent, status, .. } = &mut *state;
        let class = match *most_urgent {
            Some((class, at)) if now.saturating_duration_since(at) < URGENCY_KEPT => class,
            _ => job.class,
        };
        let before = arriving.sum(misses, now);
        let prospect = scheduler.foresee(&Foreseen { class, ..*job }, before, *caution, now);
        let Prospect { refusal, demand, cost } = prospect;
        let Some(refusal) = refusal else {
            let moment = arriving.expect(demand, now);
            drop(state);
            return Ok(Some(Place::new(self.clone(), demand, moment)));
        };
        if !scheduler.is_closed() && is_worth_it(cost) {
            return Ok(None);
        }
        scheduler.turned_away(demand.rows, job.deadline, now);
        status.refused += 1;
        Err(refusal::error(refusal))
    }

    fn arrived(&self, demand: Waiting, moment: u64) {
        self.state.lock().arriving.arrived(demand, moment, system::now());
    }

    /// Somebody who is in more of a hurry, or more patient, waits for a job as well. Without
    /// effect once it has left the queue.
    pub(crate) fn expedite(&self, job: JobId, order: Order) {
        let mut state = self.state.lock();
        state.scheduler.expedite(job, order.class, order.deadline.at());
        state.sleepers.call_one(&self.job_arrived);
    }

    /// The next batch, once there is one; `None` when the batcher is closed and all is done.
    /// `last` is what the instance that asks has run before.
    ///
    /// Work that nobody waits for, or that would come too late, is dropped here and never runs.
    pub(crate) fn next_batch(&self, last: Option<Ran>) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut now = system::now();
        if let Some(Ran { run, time }) = last {
            state.scheduler.ended(run, time.map(|time| time + RUN_OVERHEAD), now);
        }
        loop {
            let Next { step, dropped, late } = state.scheduler.next(now, |job| job.is_wanted(now));
            let (batch, until) = match step {
                Step::Run(batch) => (Some(batch), None),
                Step::WaitUntil(moment) => (None, Some(moment)),
                Step::Nothing => (None, None),
            };
            self.expectation.set(state.scheduler.outlook(now));
            if let Some(batch) = &batch {
                state.count(batch);
                if batch.more {
                    state.sleepers.call_one(&self.job_arrived);
                }
            }
            let is_clean = dropped.is_empty() && late.is_empty();
            if !is_clean {
                // Who waits is told outside of the lock.
                MutexGuard::unlocked(&mut state, || self.end(dropped, late, now));
            }
            if let Some(batch) = batch {
                return Some(Batch::new(batch, self.form.clone(), now));
            }
            // What was dropped may have come back, and others have come.
            if is_clean {
                if until.is_none() && state.scheduler.is_closed() {
                    return None;
                }
                self.wait_for_jobs(&mut state, until);
            }
            now = system::now();
        }
    }

    /// Wakes an instance for what has come and is still there.
    pub(crate) fn wake(&self) {
        let mut state = self.state.lock();
        if !state.scheduler.is_empty() {
            state.sleepers.call_one(&self.job_arrived);
        }
    }

    /// Tells of a run of which nothing can be learnt, by whoever takes the instance's place.
    pub(crate) fn lost(&self, run: RunId) {
        self.state.lock().scheduler.ended(run, None, system::now());
    }

    /// Counts a run that was ended early.
    pub(crate) fn interrupted(&self) {
        self.state.lock().status.interrupted += 1;
    }

    /// A run of so many rows that was made for nobody took that long.
    pub(crate) fn learn(&self, row_bytes: u64, rows: usize, time: Duration) {
        let mut state = self.state.lock();
        let now = system::now();
        state.scheduler.learn(row_bytes, rows, time + RUN_OVERHEAD, now);
        self.expectation.set(state.scheduler.outlook(now));
    }

    /// Refuses new jobs; those that are queued are still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().scheduler.close();
        self.job_arrived.notify_all();
    }

    /// Whether nothing waits here.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().scheduler.is_empty()
    }

    /// Whether it refuses new jobs.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().scheduler.is_closed()
    }

    pub(crate) fn status(&self) -> BatchStatus {
        let state = self.state.lock();
        BatchStatus { queued: state.scheduler.waiting().requests as u64, ..state.status }
    }

    /// What a request may expect that comes at `now`.
    pub(crate) fn load(&self, now: Instant) -> WorkerLoad {
        self.expectation.at(now)
    }

    /// What runs of this model were found to cost.
    pub(crate) fn curves(&self) -> Vec<CostCurve> {
        self.state.lock().scheduler.curves()
    }

    /// Queues a job, and wakes an instance for it; unless somebody else will, as `is_put_off` tells
    /// when it is asked, with how long a run would take and what time it is.
    fn offer(&self, job: Job, is_put_off: impl FnOnce(Duration, Instant) -> bool) -> Option<JobId> {
        let work = job.work(&self.form.assembly);
        let now = system::now();
        let mut state = self.state.lock();
        state.note_urgency(work.class, now);
        match state.scheduler.offer(work, job, now) {
            Ok(id) => {
                let outlook = state.scheduler.outlook(now);
                self.expectation.set(outlook);
                let is_full = state.scheduler.waiting().rows >= self.rows_max();
                if state.sleepers.can_be_called() && (is_full || !is_put_off(outlook.run, now)) {
                    state.sleepers.call_one(&self.job_arrived);
                }
                Some(id)
            }
            Err(Refused { job, refusal }) => {
                state.status.refused += 1;
                if job.is_large() {
                    state.caution.record(true);
                }
                drop(state);
                job.leader.complete(Err(refusal::error(refusal)));
                None
            }
        }
    }

    /// Ends jobs that were not run, but for those for which somebody has come meanwhile.
    fn end(&self, dropped: Vec<Job>, late: Vec<Job>, now: Instant) {
        let (mut count, mut late_and_large) = (0, 0);
        for mut job in dropped {
            if job.leader.is_wanted_or_ends(now) {
                self.offer(job.renewed(), |_, _| false);
            } else {
                count += 1;
                late_and_large += u32::from(job.is_large() && job.order.deadline.has_passed(now));
            }
        }
        for job in late {
            if job.is_wanted_longer() {
                self.offer(job.renewed(), |_, _| false);
            } else {
                count += 1;
                late_and_large += u32::from(job.is_large());
                job.leader.complete(Err(refusal::too_late()));
            }
        }
        let mut state = self.state.lock();
        state.status.dropped += count;
        (0..late_and_large).for_each(|_| state.caution.record(true));
    }

    fn wait_for_jobs(&self, state: &mut MutexGuard<'_, State>, until: Option<Instant>) {
        state.sleepers.falls_asleep();
        match until {
            Some(moment) => {
                self.job_arrived.wait_until(state, moment);
            }
            None => self.job_arrived.wait(state),
        }
        state.sleepers.has_come();
    }
}

impl State {
    fn note_urgency(&mut self, class: usize, now: Instant) {
        let is_past = |at| now.saturating_duration_since(at) >= URGENCY_KEPT;
        if self.most_urgent.is_none_or(|(most, at)| class <= most || is_past(at)) {
            self.most_urgent = Some((class, now));
        }
    }

    fn count(&mut self, batch: &scheduler::Batch<Job>) {
        let status = &mut self.status;
        status.batches += 1;
        status.rows += batch.rows as u64;
        let large = batch.jobs.iter().filter(|job| job.is_large());
        large.for_each(|_| self.caution.record(false));
        match batch.reason {
            DispatchReason::Full => status.full += 1,
            DispatchReason::Idle => status.idle += 1,
            DispatchReason::Deadline => status.deadline += 1,
            DispatchReason::Delay => status.delay += 1,
        }
    }
}

#[cfg(test)]
mod tests;
