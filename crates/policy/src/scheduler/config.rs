//! What can be set about a scheduler.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::cost::Costs;

/// How a model's jobs become batches. The default is for any model: it learns what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// The most rows in one run; a single job that is bigger runs alone.
    pub rows_max: usize,
    /// Rows that need not wait for more, though more would have room.
    pub rows_enough: usize,
    /// Runs have exactly one of these numbers of rows, the rest of it padding; any number where
    /// empty. In ascending order.
    pub allowed: Vec<usize>,
    /// The longest that a job waits for company.
    pub delay_max: Duration,
    /// Whether an idle instance runs what there is, as far as that is wise. If not, jobs wait
    /// until there are `rows_enough`, or `delay_max` has passed, or one of them would be late.
    pub dispatch_when_idle: bool,
    /// Levels of priority.
    pub classes: NonZeroUsize,
    /// Within which time answers should come. Batches are planned so; nothing is dropped for it.
    pub target: Option<Duration>,
    /// Jobs that may wait.
    pub requests_max: usize,
    /// Bytes of jobs that may wait.
    pub bytes_max: u64,
    /// Runs that may overlap.
    pub instances: usize,
    /// How long a run may take: none is made of several jobs that is reckoned to take longer.
    pub run_limit: Option<Duration>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            rows_max: 32,
            rows_enough: 32,
            allowed: Vec::new(),
            delay_max: Duration::from_millis(20),
            dispatch_when_idle: true,
            classes: NonZeroUsize::MIN,
            target: None,
            requests_max: 4096,
            bytes_max: 512 << 20,
            instances: 1,
            run_limit: None,
        }
    }
}

impl SchedulerConfig {
    /// The most rows in one run, by either bound; at least one.
    #[must_use]
    pub fn rows_max(&self) -> usize {
        let allowed = self.allowed.last().copied().unwrap_or(usize::MAX);
        self.rows_max.min(allowed).max(1)
    }

    pub(super) fn rows_enough(&self) -> usize {
        self.rows_enough.min(self.rows_max()).max(1)
    }

    /// How many rows a run has that is for `rows`: itself, or the next allowed number. A job of
    /// more than any allowed number runs as it is.
    #[must_use]
    pub fn run_rows(&self, rows: usize) -> usize {
        let next = self.allowed.partition_point(|&allowed| allowed < rows);
        self.allowed.get(next).copied().unwrap_or(rows)
    }

    /// Sizes of run that tell what the others cost, in ascending order: those that are allowed, or
    /// powers of two and the maximum.
    pub fn landmarks(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.landmark_above(0), |&rows| self.landmark_above(rows))
    }

    /// The first landmark of more rows.
    pub(super) fn landmark_above(&self, rows: usize) -> Option<usize> {
        if self.allowed.is_empty() {
            let next = (rows + 1).checked_next_power_of_two().unwrap_or(usize::MAX);
            return (rows < self.rows_max()).then(|| next.min(self.rows_max()));
        }
        self.allowed.iter().copied().find(|&allowed| allowed > rows)
    }

    /// The last landmark of fewer rows.
    pub(super) fn landmark_below(&self, rows: usize) -> Option<usize> {
        self.landmarks().take_while(|&landmark| landmark < rows).last()
    }

    /// The most rows, of so many, of a run that is reckoned to keep to its limit; one in any case.
    pub(super) fn rows_within_limit(&self, costs: Costs<'_>, most: usize) -> usize {
        let Some(limit) = self.run_limit else { return most };
        let keeps_to_it = |&rows: &usize| {
            let rows = self.run_rows(rows);
            let time = costs.safe(rows).max(LIMIT_MARGIN * costs.expected(rows));
            time <= limit.as_secs_f64()
        };
        if keeps_to_it(&most) {
            return most;
        }
        self.sizes(most).take_while(keeps_to_it).last().unwrap_or(1)
    }

    /// Whether a run mostly keeps to its limit, so that it may be tried whether it does so always.
    pub(super) fn may_keep_to_limit(&self, costs: Costs<'_>, rows: usize) -> bool {
        let time = || costs.expected(self.run_rows(rows));
        self.run_limit.is_none_or(|limit| time() <= limit.as_secs_f64())
    }

    /// The sizes of batch worth a thought, when there are `most` rows: each up to 64, powers of
    /// two beyond, and all there is.
    pub(super) fn sizes(&self, most: usize) -> impl Iterator<Item = usize> {
        let mut next = 1;
        std::iter::from_fn(move || {
            if next > most {
                return None;
            }
            let size = next;
            next = if size < 64 { size + 1 } else { size * 2 };
            if size < most && next > most {
                next = most;
            } else if size == most {
                next = usize::MAX;
            }
            Some(size)
        })
    }
}

/// How much longer than reckoned a run may take that is to keep to its limit.
const LIMIT_MARGIN: f64 = 1.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_worth_a_thought_end_with_all_there_is() {
        let config = SchedulerConfig::default();
        for (most, expected) in
            [(0, vec![]), (1, vec![1]), (3, vec![1, 2, 3]), (64, (1..=64).collect())]
        {
            assert_eq!(config.sizes(most).collect::<Vec<_>>(), expected);
        }
        let sizes: Vec<_> = config.sizes(300).skip(62).collect();
        assert_eq!(sizes, [63, 64, 128, 256, 300]);
    }

    #[test]
    fn landmarks_are_powers_of_two_and_the_maximum_or_what_is_allowed() {
        let upto = |rows_max| SchedulerConfig { rows_max, ..SchedulerConfig::default() };
        let allowing = |allowed| SchedulerConfig { allowed, ..SchedulerConfig::default() };
        for (config, expected) in [
            (upto(1), vec![1]),
            (upto(24), vec![1, 2, 4, 8, 16, 24]),
            (upto(32), vec![1, 2, 4, 8, 16, 32]),
            (allowing(vec![3, 7]), vec![3, 7]),
        ] {
            let landmarks: Vec<_> = config.landmarks().collect();
            assert_eq!(landmarks, expected);
            for rows in 0..40 {
                let below = landmarks.iter().copied().rfind(|&landmark| landmark < rows);
                assert_eq!(config.landmark_below(rows), below, "{rows} of {expected:?}");
            }
        }
    }

    #[test]
    fn runs_have_an_allowed_number_of_rows() {
        let config = SchedulerConfig { allowed: vec![1, 4, 8], ..SchedulerConfig::default() };
        for (rows, expected) in [(1, 1), (2, 4), (4, 4), (5, 8), (8, 8), (9, 9)] {
            assert_eq!(config.run_rows(rows), expected);
        }
        assert_eq!(config.rows_max(), 8);
        assert_eq!(SchedulerConfig::default().run_rows(7), 7);
    }
}
