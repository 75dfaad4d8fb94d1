//! How many of a lane's rows an idle instance runs, or until when it waits for more.
//!
//! A larger batch gets more rows done per second, if the model is one that gains from batches at
//! all, and makes everybody wait longer. Which counts more depends on how long the queue is and
//! how fast it grows. So each size is charged with the time that everybody who is there will
//! wait: for the run, and whoever is left then for what remains to be done, which under load is
//! long if the batch wasted capacity (`pace`). On a quiet machine the least is the batch with the
//! least mean waiting time, a row at a time for a model whose batches save nothing; near full load
//! it is the batch with the best throughput.
//!
//! Then there are deadlines. A batch must be done before the first of its jobs is due, and where
//! that allows only a smaller one than was wanted, there is a trap: under overload jobs are near
//! their deadline *because* they had to wait, small batches make the others wait longer still, and
//! in the end every job is served last minute in a batch of one. What is lost then is throughput,
//! and the way out is to give up those who would force a small batch, for they cost more than they
//! are (`triage`). Where there is capacity to spare nobody is given up.

use std::time::{Duration, Instant};

use super::pace::Pace;
use super::queue::Queue;
use super::trials::Trials;
use super::{DispatchReason, SchedulerConfig};
use crate::cost::{Costs, Seconds};

/// What there is to run, and what is known of it.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    /// `None` where nothing has run yet.
    pub(super) costs: Option<Costs<'a>>,
    pub(super) pace: &'a Pace,
    /// The jobs of the class whose turn it is.
    pub(super) lead: &'a Queue,
    /// Rows of all classes in the lane.
    pub(super) rows: usize,
    /// Rows in all lanes.
    pub(super) waiting: usize,
    /// Rows per second that come, to all lanes.
    pub(super) rate: f64,
    /// When the first of the lead is due.
    pub(super) due: Instant,
    /// When the lane's oldest job came.
    pub(super) oldest: Instant,
    /// Other instances that are idle too.
    pub(super) idle: usize,
    pub(super) trials: &'a Trials,
    /// Nothing more will come.
    pub(super) closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plan {
    /// Up to so many rows, now; those that are due before `sacrifice` are given up.
    Run {
        rows: usize,
        reason: DispatchReason,
        sacrifice: Option<Instant>,
        /// Whether it is of this size to learn what such a run costs.
        is_trial: bool,
    },
    WaitUntil(Instant),
}

pub(super) fn plan(config: &SchedulerConfig, situation: &Situation<'_>, now: Instant) -> Plan {
    let rows_max = match situation.costs {
        Some(costs) => config.rows_within_limit(costs, config.rows_max()),
        None => config.rows_max(),
    };
    let run = |reason| run(config, situation, rows_max, now, reason);
    if config.dispatch_when_idle || situation.closed {
        return run(DispatchReason::Idle);
    }
    if situation.rows >= config.rows_enough().min(rows_max) {
        return run(DispatchReason::Full);
    }
    let delay_ends = later(situation.oldest, config.delay_max);
    if delay_ends <= now {
        return run(DispatchReason::Delay);
    }
    // To be answered when it is due, the batch must leave a run's time before, and a little more.
    let run_time = situation
        .costs
        .map_or(0.0, |costs| costs.safe(config.run_rows(situation.rows.min(rows_max))));
    let ahead = seconds(run_time * RUN_MARGIN) + WAKING;
    let leave = situation.due.checked_sub(ahead).unwrap_or(now);
    if leave <= now {
        return run(DispatchReason::Deadline);
    }
    Plan::WaitUntil(leave.min(delay_ends))
}

fn run(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    rows_max: usize,
    now: Instant,
    reason: DispatchReason,
) -> Plan {
    let most = situation.rows.min(rows_max).max(1);
    let reason = |rows| if rows >= rows_max { DispatchReason::Full } else { reason };
    let run = |rows, is_trial| Plan::Run { rows, reason: reason(rows), sacrifice: None, is_trial };
    let Some(costs) = situation.costs else {
        return run(most, false);
    };
    // Who asks for batches to be held back for others wants them as large as they have become.
    let (wanted, trial) = if config.dispatch_when_idle {
        let wanted = size_wanted(config, situation, costs, most);
        let most = situation.rows.min(config.rows_max());
        (wanted, situation.trials.due(config, costs, wanted, most))
    } else {
        (most, None)
    };
    if !costs.are_measured() {
        return run(wanted, false);
    }
    let slack = situation.due.saturating_duration_since(now).as_secs_f64();
    let is_safe = |&rows: &usize| costs.safe(config.run_rows(rows)) <= slack;
    if let Some(rows) = trial.filter(is_safe) {
        return run(rows, true);
    }
    if is_safe(&wanted) {
        return run(wanted, false);
    }
    let (rows, sacrifice) = triage(config, situation, costs, now, wanted);
    Plan::Run { rows, reason: DispatchReason::Deadline, sacrifice, is_trial: false }
}

/// The size with which those who are there wait least.
///
/// Instances are taken one by one, each with its share of what comes. Where others are idle too,
/// they may take theirs of what is there; but not if it costs next to nothing to take it along.
fn size_wanted(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    costs: Costs<'_>,
    most: usize,
) -> usize {
    let wanted = least_waiting(config, situation, costs, most, situation.waiting);
    if situation.idle == 0 {
        return wanted;
    }
    let share = situation.waiting.div_ceil(situation.idle + 1);
    let shared = least_waiting(config, situation, costs, most.min(share), share);
    let time = |rows| costs.expected(config.run_rows(rows));
    if time(wanted) <= ALONG * time(shared) { wanted } else { shared }
}

fn least_waiting(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    costs: Costs<'_>,
    most: usize,
    waiting: usize,
) -> usize {
    let pace = situation.pace;
    let expected = |rows| costs.expected(config.run_rows(rows));
    let lead = situation.lead.rows();
    let lead_time = ALONG * expected(lead.min(most));
    let mut least = (f64::INFINITY, 1);
    for rows in config.sizes(most) {
        let time = expected(rows);
        if rows > lead && time > lead_time {
            break;
        }
        // How long all wait, in sum: for the end of this run, and whoever is left then for the
        // rest.
        let left = waiting.saturating_sub(rows) as f64 + pace.rate * time;
        let during = (waiting as f64 + pace.rate * time / 2.0 - pace.calm) * time;
        let cost = during + pace.drain(left, expected);
        if cost <= least.0 + INDIFFERENCE * waiting as f64 * expected(1) {
            least = (cost.min(least.0), rows);
        }
    }
    least.1
}

/// What to do when the batch that is `wanted` is not done before the first of its jobs is due: how
/// many rows to run, and before when jobs are due that are given up for it.
fn triage(
    config: &SchedulerConfig,
    situation: &Situation<'_>,
    costs: Costs<'_>,
    now: Instant,
    wanted: usize,
) -> (usize, Option<Instant>) {
    let pace = situation.pace;
    let pressure = pace.pressure(config.instances, situation.waiting, situation.rate);
    let lead = situation.lead;
    let expected = |rows| costs.expected(config.run_rows(rows));
    let horizon = expected(pace.rows);
    let mut least = (f64::INFINITY, 1, None);
    for rows in config.sizes(wanted) {
        let time = expected(rows);
        let safe = later(now, seconds(costs.safe(config.run_rows(rows))));
        let endangered = lead.rows_due_before(safe);
        let doomed = lead.rows_due_before(later(now, seconds(time)));
        // As far as there is no capacity to spare, each row that could have been done and is not
        // is a request lost, in this run and in the next ones, which will be alike; as far as
        // there is, only those are lost who are given up or left to chance.
        let cost = |served: f64, lost: f64| {
            let wasted = (pace.throughput - served / time) * horizon;
            pressure * wasted + (1.0 - pressure) * lost
        };
        if endangered > 0 {
            // Nobody is given up. Some of those in the batch may be lucky, the others come too
            // late.
            let (unsafe_rows, unlucky) = (endangered.min(rows), doomed.min(rows));
            let late = 0.25 * unsafe_rows as f64 + 0.5 * unlucky as f64;
            let cost = cost(rows as f64 - late, late + (endangered - unsafe_rows) as f64);
            if cost <= least.0 {
                least = (cost, rows, None);
            }
        }
        let served = rows.min(lead.rows() - endangered);
        let cost = cost(served as f64, endangered as f64);
        if served > 0 && cost <= least.0 {
            least = (cost, rows, (endangered > 0).then_some(safe));
        }
    }
    (least.1, least.2)
}

/// How much earlier than it must a batch leaves that was held back: whoever runs it wakes from a
/// wait by the clock, and the answers are on their way for a moment. Held to the last instant it
/// would find that it is too late.
const WAKING: Duration = Duration::from_millis(2);
/// The same in terms of the run, whose time is not known exactly.
const RUN_MARGIN: f64 = 1.25;
/// How much longer a run may take for the sake of jobs that need not be in it: those of other
/// classes, and those that another instance could take.
const ALONG: f64 = 1.2;
/// How much longer everybody may wait, in terms of a run of one row, for a larger batch: costs are
/// not known exactly, and of two that seem alike the larger one leaves more capacity.
const INDIFFERENCE: f64 = 0.1;

pub(super) fn seconds(seconds: Seconds) -> Duration {
    const CENTURY: Seconds = 100.0 * 365.0 * 24.0 * 3600.0;
    Duration::from_secs_f64(seconds.clamp(0.0, CENTURY))
}

/// `delay` after `moment`; a delay too long for the clock ("never") ends in about a century.
pub(super) fn later(moment: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    moment + delay.min(CENTURY)
}
