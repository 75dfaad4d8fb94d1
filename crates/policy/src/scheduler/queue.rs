//! Jobs of one lane and one class, earliest due first; and as they came.
//!
//! Most requests for a model carry the same time-out, so jobs nearly come in order: a new one is
//! looked for a place from the end. Where they do not, a binary search and a move of a few bytes
//! for each job behind it are cheaper than a heap, which could not be read in order.

use std::collections::VecDeque;
use std::time::Instant;

use super::jobs::{JobId, Jobs, Place};

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) due: Instant,
    pub(super) place: Place,
    pub(super) rows: u32,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    rows: usize,
    /// As the jobs came; those that have left since are still in it.
    came: VecDeque<(JobId, Instant)>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn head(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Puts it behind all that are due as early.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.rows += entry.rows as usize;
        match self.entries.back() {
            Some(last) if entry.due < last.due => {
                let index = self.entries.partition_point(|other| other.due <= entry.due);
                self.entries.insert(index, entry);
            }
            _ => self.entries.push_back(entry),
        }
    }

    /// A job that came then is in this queue, which is that of its class.
    pub(super) fn came<J>(&mut self, id: JobId, at: Instant, class: usize, jobs: &Jobs<J>) {
        if self.came.len() > 2 * self.entries.len() + 64 {
            self.came.retain(|&(id, _)| waits_in(class, id, jobs).is_some());
        }
        // Who changes its class came before others who are here.
        let index = match self.came.back() {
            Some(&(_, last)) if at < last => self.came.partition_point(|&(_, other)| other <= at),
            _ => self.came.len(),
        };
        self.came.insert(index, (id, at));
    }

    /// The job that has waited longest, and since when. This is the queue of that class.
    pub(super) fn oldest<J>(&mut self, class: usize, jobs: &Jobs<J>) -> Option<(Place, Instant)> {
        while let Some(&(id, at)) = self.came.front() {
            if let Some(place) = waits_in(class, id, jobs) {
                return Some((place, at));
            }
            self.came.pop_front();
        }
        None
    }

    #[cfg(test)]
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.rows -= entry.rows as usize;
        Some(entry)
    }

    /// Takes out the job in that place, which is due then.
    pub(super) fn remove(&mut self, due: Instant, place: Place) -> Option<Entry> {
        let first = self.entries.partition_point(|entry| entry.due < due);
        let alike = self.entries.range(first..).take_while(|entry| entry.due == due);
        let index = first + alike.into_iter().position(|entry| entry.place == place)?;
        let entry = self.entries.remove(index)?;
        self.rows -= entry.rows as usize;
        Some(entry)
    }

    /// About how many rows are due before that.
    pub(super) fn rows_due_before(&self, due: Instant) -> usize {
        let jobs = match self.entries.back() {
            Some(last) if due <= last.due => self.entries.partition_point(|entry| entry.due < due),
            _ => return self.rows,
        };
        // Jobs mostly have as many rows as others of their lane; a sum over all of them for each
        // that comes would be worth no more than this mean.
        self.rows * jobs / self.entries.len()
    }
}

fn waits_in<J>(class: usize, id: JobId, jobs: &Jobs<J>) -> Option<Place> {
    jobs.place(id).filter(|&place| jobs.get(place).class == class)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn jobs_come_out_by_when_they_are_due_and_then_as_they_came() {
        let start = clock::start();
        let mut queue = Queue::default();
        for (place, due) in [50, 20, 50, 90, 20, 10].into_iter().enumerate() {
            let due = start + Duration::from_millis(due);
            queue.insert(Entry { due, place: place as Place, rows: 2 });
        }
        assert_eq!(queue.rows_due_before(start + Duration::from_millis(21)), 6);
        assert_eq!(queue.rows_due_before(start + Duration::from_millis(500)), 12);
        assert!(queue.remove(start + Duration::from_millis(50), 2).is_some());
        assert!(queue.remove(start + Duration::from_millis(50), 2).is_none());
        assert_eq!(queue.rows(), 10);
        let places: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.place).collect();
        assert_eq!(places, [5, 1, 4, 0, 3]);
        assert_eq!(queue.rows(), 0);
    }
}
