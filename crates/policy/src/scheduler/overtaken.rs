//! Jobs that wait because others are always due earlier.
//!
//! Most are in time if who is due first goes first. But where new jobs keep coming that are due
//! earlier, as from clients that ask for answers within two seconds and get them within a tenth of
//! one, a job with more time than that waits until it has hardly more left than they. Nobody gains
//! by that: a queue so short would let everybody be in time in any order.
//!
//! So a job that has waited several times as long as it was reckoned to take when it came has been
//! overtaken for too long. Of each class, every other batch goes to such jobs first, in the order
//! in which they came. The others still go by when jobs are due, so that what is in a hurry has
//! half the capacity at least. Where the queue is nearly as long as jobs have time, which is when
//! their order decides who is in time, no job waits several times as long as that.

use std::hash::Hash;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Scheduler;
use super::dispatch::{later, seconds};
use super::jobs::Place;
use crate::cost::Seconds;

/// How many times as long as it was reckoned to take a job waits for others that are due earlier.
const PATIENCE: f64 = 4.0;
/// And at least so long: nobody notices who did not ask for an answer sooner, and a burst may be over.
const PATIENCE_MIN: Duration = Duration::from_millis(50);

/// Until when a job waits for others that are due earlier.
pub(super) fn patient_until(enqueued: Instant, expected: Seconds) -> Instant {
    later(enqueued, seconds(PATIENCE * expected).max(PATIENCE_MIN))
}

/// By class, whose turn it is.
#[derive(Debug)]
pub(super) struct Overtaken {
    have_a_turn: SmallVec<[bool; 4]>,
}

impl Overtaken {
    pub(super) fn new(classes: usize) -> Self {
        Self { have_a_turn: SmallVec::from_elem(false, classes.max(1)) }
    }

    /// A batch of a class leaves.
    pub(super) fn served(&mut self, class: usize, is_for_overtaken: bool) {
        self.have_a_turn[class] = !is_for_overtaken;
    }
}

impl<K: Eq + Hash + Clone, J> Scheduler<K, J> {
    /// Where it is their turn, the lane of the job of a class that has been overtaken longest, and
    /// by when it must be answered.
    pub(super) fn overtaken(&mut self, class: usize, now: Instant) -> Option<(Instant, usize)> {
        if !self.overtaken.have_a_turn[class] {
            return None;
        }
        let mut longest: Option<(Instant, Place, usize)> = None;
        for index in 0..self.lanes.active().len() {
            let lane = self.lanes.active()[index];
            let oldest = self.lanes.get_mut(lane).queues[class].oldest(class, &self.jobs);
            if let Some((place, came)) = oldest
                && self.jobs.get(place).patient_until <= now
                && longest.is_none_or(|(earliest, ..)| came < earliest)
            {
                longest = Some((came, place, lane));
            }
        }
        longest.map(|(_, place, lane)| (self.jobs.get(place).deadline, lane))
    }

    /// The job of a lane and class that goes first: who was overtaken for too long, where the batch
    /// is for those, or else who is due first.
    pub(super) fn first(
        &mut self,
        lane: usize,
        class: usize,
        is_for_overtaken: bool,
        now: Instant,
    ) -> Option<Place> {
        let queue = &mut self.lanes.get_mut(lane).queues[class];
        if is_for_overtaken
            && let Some((oldest, _)) = queue.oldest(class, &self.jobs)
            && self.jobs.get(oldest).patient_until <= now
        {
            return Some(oldest);
        }
        queue.head().map(|head| head.place)
    }
}
