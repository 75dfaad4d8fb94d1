//! Which lane's turn it is, of which class, and how large its batch is.

use std::hash::Hash;
use std::time::Instant;

use super::dispatch::{Plan, Situation, plan};
use super::pace::Pace;
use super::{DispatchReason, Scheduler};

/// For how many requests it is kept what can be sustained.
const PACE_KEPT: u64 = 64;

/// What an idle instance is to do.
pub(super) enum Choice {
    Run(Chosen),
    WaitUntil(Instant),
    Nothing,
}

/// A batch that is to leave.
pub(super) struct Chosen {
    pub(super) lane: usize,
    /// Whose turn it is.
    pub(super) class: usize,
    /// How large it is at most.
    pub(super) rows: usize,
    pub(super) reason: DispatchReason,
    /// Jobs that are due before that are given up for it.
    pub(super) sacrifice: Option<Instant>,
    /// Whether those go first who were overtaken for too long.
    pub(super) is_for_overtaken: bool,
}

impl<K: Eq + Hash + Clone, J> Scheduler<K, J> {
    /// Among the lanes with work of the class whose turn it is, the one that is due first; or the one
    /// with the job that was overtaken longest, if it is its turn.
    pub(super) fn choose(&mut self, now: Instant) -> Choice {
        let mut wait: Option<Instant> = None;
        let mut passed_over: Vec<(usize, usize)> = Vec::new();
        loop {
            let lanes = &self.lanes;
            let heads = |class: usize| {
                let passed_over = &passed_over;
                lanes.active().iter().filter_map(move |&lane| {
                    let head = lanes.get(lane).queues[class].head()?;
                    (!passed_over.contains(&(lane, class))).then_some((head.due, lane))
                })
            };
            let Some(class) = self.classes.next(|class| heads(class).next().is_some()) else {
                return wait.map_or(Choice::Nothing, Choice::WaitUntil);
            };
            let (due, lane) = heads(class).min().expect("the class has work");
            let overtaken = self.overtaken(class, now).map(|(due, lane)| (due, lane, true));
            for (due, lane, is_for_overtaken) in overtaken.into_iter().chain([(due, lane, false)]) {
                match self.plan(lane, class, due, now) {
                    Plan::Run { rows, reason, sacrifice, .. } => {
                        let batch =
                            Chosen { lane, class, rows, reason, sacrifice, is_for_overtaken };
                        return Choice::Run(batch);
                    }
                    Plan::WaitUntil(moment) => {
                        wait = Some(wait.map_or(moment, |earliest| earliest.min(moment)));
                        if !is_for_overtaken {
                            passed_over.push((lane, class));
                        }
                    }
                }
            }
        }
    }

    fn plan(&mut self, lane: usize, class: usize, due: Instant, now: Instant) -> Plan {
        let rate = self.arrivals.rate(now);
        self.set_pace(lane, rate);
        let idle = self.config.instances.saturating_sub(self.runs.count() + 1);
        let lane = self.lanes.get_mut(lane);
        let oldest = lane.oldest(&self.jobs).unwrap_or(now);
        let situation = Situation {
            costs: self.costs.of(lane.cost_class),
            pace: &lane.pace.0,
            lead: &lane.queues[class],
            rows: lane.rows(),
            waiting: self.waiting.rows,
            rate,
            due,
            oldest,
            idle,
            trials: &self.trials,
            closed: self.closed,
        };
        let plan = plan(&self.config, &situation, now);
        if let Plan::Run { rows, is_trial, .. } = plan
            && situation.rows.min(self.config.rows_max()) > 1
        {
            let run_rows = self.config.run_rows(rows);
            let time = situation.costs.map_or(0.0, |costs| costs.expected(run_rows));
            self.trials.dispatched(is_trial, time);
        }
        plan
    }

    /// Finds out what can be sustained, anew after a while.
    fn set_pace(&mut self, lane: usize, rate: f64) {
        let requests = self.arrivals.requests();
        let lane = self.lanes.get_mut(lane);
        let found_at = lane.pace.1;
        let stale = requests >= found_at + PACE_KEPT.min(found_at) || lane.pace.0.rows == 0;
        if let Some(costs) = self.costs.of(lane.cost_class)
            && stale
        {
            lane.pace = (Pace::of(&self.config, costs, &self.arrivals, rate), requests);
        }
    }
}
