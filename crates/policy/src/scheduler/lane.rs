//! Lanes: jobs that may share a run, by class of priority and by when they are due.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use smallvec::SmallVec;

use super::jobs::Jobs;
use super::pace::Pace;
use super::queue::Queue;
use crate::cost::Class;

/// Lanes without jobs that are kept for what is known of them.
const EMPTY_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Lane<K> {
    key: K,
    /// By class.
    pub(super) queues: SmallVec<[Queue; 2]>,
    pub(super) cost_class: Class,
    /// What can be sustained, and how many requests there had been when that was found.
    pub(super) pace: (Pace, u64),
    /// Where it is on the list of lanes with jobs.
    active: Option<usize>,
}

impl<K> Lane<K> {
    pub(super) fn rows(&self) -> usize {
        self.queues.iter().map(Queue::rows).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(Queue::is_empty)
    }

    /// When the job came that has waited longest.
    pub(super) fn oldest<J>(&mut self, jobs: &Jobs<J>) -> Option<Instant> {
        let queues = self.queues.iter_mut().enumerate();
        let oldest = queues.filter_map(|(class, queue)| queue.oldest(class, jobs));
        oldest.map(|(_, at)| at).min()
    }
}

/// The lanes of a model, found by key.
#[derive(Debug)]
pub(super) struct Lanes<K> {
    by_key: HashMap<K, usize>,
    lanes: Vec<Option<Lane<K>>>,
    free: Vec<usize>,
    active: Vec<usize>,
    /// The one that last got a job.
    latest: Option<usize>,
}

impl<K: Eq + Hash + Clone> Lanes<K> {
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::new(),
            lanes: Vec::new(),
            free: Vec::new(),
            active: Vec::new(),
            latest: None,
        }
    }

    /// The lane of that key, if it has jobs or had some lately.
    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The lane that last got a job, if it is still known.
    pub(super) fn latest(&self) -> Option<usize> {
        self.latest
    }

    /// The lane of that key, which is about to get a job.
    pub(super) fn enter(&mut self, key: K, cost_class: Class, classes: usize) -> usize {
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None => {
                let queues = (0..classes).map(|_| Queue::default()).collect();
                self.add(Lane { key, queues, cost_class, pace: (Pace::default(), 0), active: None })
            }
        };
        self.latest = Some(index);
        let active = self.active.len();
        let lane = self.get_mut(index);
        lane.cost_class = lane.cost_class.max(cost_class);
        if lane.active.is_none() {
            lane.active = Some(active);
            self.active.push(index);
        }
        index
    }

    /// Takes it off the list of lanes with jobs if it has none.
    pub(super) fn leave_if_empty(&mut self, index: usize) {
        let lane = self.get_mut(index);
        if !lane.is_empty() {
            return;
        }
        let Some(place) = lane.active.take() else { return };
        self.active.swap_remove(place);
        if let Some(&moved) = self.active.get(place) {
            self.get_mut(moved).active = Some(place);
        }
        if self.by_key.len() > self.active.len() + EMPTY_MAX {
            self.forget_empty();
        }
    }

    pub(super) fn get(&self, index: usize) -> &Lane<K> {
        self.lanes[index].as_ref().expect("a lane with jobs is not forgotten")
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Lane<K> {
        self.lanes[index].as_mut().expect("a lane with jobs is not forgotten")
    }

    /// The lanes with jobs.
    pub(super) fn active(&self) -> &[usize] {
        &self.active
    }

    fn add(&mut self, lane: Lane<K>) -> usize {
        let key = lane.key.clone();
        let index = match self.free.pop() {
            Some(index) => {
                self.lanes[index] = Some(lane);
                index
            }
            None => {
                self.lanes.push(Some(lane));
                self.lanes.len() - 1
            }
        };
        self.by_key.insert(key, index);
        index
    }

    fn forget_empty(&mut self) {
        for (index, slot) in self.lanes.iter_mut().enumerate() {
            if let Some(lane) = slot.take_if(|lane| lane.active.is_none()) {
                self.by_key.remove(&lane.key);
                self.free.push(index);
                self.latest = self.latest.filter(|&latest| latest != index);
            }
        }
    }
}
