//! Jobs that wait and can no longer be answered in time, or not when they should be.

use std::hash::Hash;
use std::time::Instant;

use super::Scheduler;
use super::dispatch::{later, seconds};
use super::jobs::Place;

/// What becomes of a job that would run now.
pub(super) enum Fate {
    InTime,
    /// It will be answered in time, but not when it should be.
    Overdue,
    Late,
}

impl<K: Eq + Hash + Clone, J> Scheduler<K, J> {
    /// Drops what is first in its queue and can no longer be done in time.
    pub(super) fn drop_late(&mut self, now: Instant, late: &mut Vec<J>) {
        if self.late_from.is_none_or(|moment| now < moment) {
            return;
        }
        self.late_from = None;
        let mut index = 0;
        while let Some(&lane) = self.lanes.active().get(index) {
            for class in 0..self.classes.count() {
                while let Some(head) = self.lanes.get(lane).queues[class].head().copied() {
                    match self.fate(head.place, now) {
                        Fate::InTime => {
                            self.watch(head.place);
                            break;
                        }
                        Fate::Overdue => self.postpone(head.place),
                        Fate::Late => {
                            self.dequeue(head.place);
                            late.push(self.remove(head.place));
                        }
                    }
                }
            }
            self.lanes.leave_if_empty(lane);
            // A lane that left the list has given its place to another one.
            if self.lanes.active().get(index) == Some(&lane) {
                index += 1;
            }
        }
    }

    /// Notes when that job, the first of its queue, must be looked at again.
    pub(super) fn watch(&mut self, place: Place) {
        let waiting = self.jobs.get(place);
        let costs = self.costs.of(self.lanes.get(waiting.lane).cost_class);
        let rows = self.config.run_rows(waiting.rows);
        let run_time = seconds(costs.map_or(0.0, |costs| costs.fastest(rows)));
        let from = waiting.due.checked_sub(run_time).unwrap_or(waiting.due);
        self.late_from = Some(self.late_from.map_or(from, |earliest| earliest.min(from)));
    }

    /// Gives up the jobs that are due before that: all who wait are better off without them.
    pub(super) fn give_up(&mut self, lane: usize, class: usize, due: Instant, late: &mut Vec<J>) {
        while let Some(head) = self.lanes.get(lane).queues[class].head().copied() {
            if head.due >= due {
                break;
            }
            if self.jobs.get(head.place).due < self.jobs.get(head.place).deadline {
                self.postpone(head.place);
            } else {
                self.dequeue(head.place);
                late.push(self.remove(head.place));
            }
        }
    }

    pub(super) fn fate(&self, place: Place, now: Instant) -> Fate {
        let waiting = self.jobs.get(place);
        if waiting.deadline <= now {
            return Fate::Late;
        }
        let costs = self.costs.of(self.lanes.get(waiting.lane).cost_class);
        let rows = self.config.run_rows(waiting.rows);
        let ends = later(now, seconds(costs.map_or(0.0, |costs| costs.fastest(rows))));
        let known = !waiting.probe
            && costs.is_some_and(|costs| costs.are_measured() && self.trusts(costs, now));
        if ends <= waiting.due {
            Fate::InTime
        } else if ends > waiting.deadline && known {
            Fate::Late
        } else if waiting.due < waiting.deadline {
            Fate::Overdue
        } else {
            Fate::InTime
        }
    }

    /// It will not be answered when it should be; from now on it counts when it must.
    pub(super) fn postpone(&mut self, place: Place) {
        self.dequeue(place);
        let waiting = self.jobs.get_mut(place);
        waiting.due = waiting.deadline;
        self.enqueue(place);
    }
}
