//! Batches of another size than seems best, made now and then to find out whether it is.
//!
//! A size that was slow while the machine was busy with other things would otherwise not run again,
//! and never be known better. So one of the two sizes next to the best is tried, the one that less is
//! known of: often while little is, seldom where much is, and never at a noticeable cost.

use super::SchedulerConfig;
use crate::cost::{Costs, Seconds};

/// Batches since the last trial of which another size could have been tried.
#[derive(Debug, Default)]
pub(super) struct Trials {
    batches: usize,
    /// How long they take.
    time: Seconds,
}

impl Trials {
    /// So many batches come before a trial for each time that is known of its size, and so many
    /// times are enough.
    const SPACING: usize = 8;
    const ENOUGH: usize = 16;

    /// How much longer trials may keep an instance busy than batches of the best size would with as
    /// many rows, as a share of all its time.
    const BUDGET: f64 = 0.001;

    /// The rows of the trial that is due instead of a batch of the `wanted` size, if there is one;
    /// `most` could be had. A size that is too slow for the limit now and then is tried as well, or
    /// that would never be found to have changed.
    pub(super) fn due(
        &self,
        config: &SchedulerConfig,
        costs: Costs<'_>,
        wanted: usize,
        most: usize,
    ) -> Option<usize> {
        if self.batches < Self::SPACING {
            return None;
        }
        let neighbours = [config.landmark_above(wanted), config.landmark_below(wanted)];
        let possible = neighbours
            .into_iter()
            .flatten()
            .filter(|&rows| rows <= most && config.may_keep_to_limit(costs, rows));
        let (known, rows) = possible.map(|rows| (costs.known_of(rows), rows)).min()?;
        let per_row = costs.expected(config.run_rows(wanted)) / wanted as f64;
        let excess = costs.expected(rows) - rows as f64 * per_row;
        // That a larger run takes very much longer is what is in doubt, so it is believed as far as
        // it is known. A smaller one is over soon.
        let doubt = if rows > wanted { known as f64 / Self::ENOUGH as f64 } else { 1.0 };
        let is_due = known < Self::ENOUGH
            && self.batches >= Self::SPACING * (1 + known)
            && excess * doubt <= Self::BUDGET * self.time;
        is_due.then_some(rows)
    }

    /// A batch leaves for which there was a choice, and takes that long.
    pub(super) fn dispatched(&mut self, is_trial: bool, time: Seconds) {
        if is_trial {
            *self = Self::default();
        } else {
            self.batches += 1;
            self.time += time;
        }
    }
}
