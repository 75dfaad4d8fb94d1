//! How long a run takes by its number of rows, learnt from runs.
//!
//! Each size of run has a window of its latest times. Between them a table is laid that says of
//! *every* size what a run is expected to take (the median) and what it takes at most 19 times of
//! 20; it never falls as rows are added, for a run that is measured faster than a smaller one was
//! lucky, or the smaller one unlucky, and both are judged by their mean. Gaps between measured
//! sizes are filled in a straight line, and beyond them the line is drawn on.
//!
//! A model whose host slows down threefold does so at every size, but only the sizes in use would
//! notice. So the curve as a whole moves when several runs in a row agree that it should: what
//! was known of each size is kept, in proportion.

use std::time::{Duration, Instant};

use inferring_types::CostPoint;
use smallvec::SmallVec;

use super::window::Window;
use super::{Costs, Seconds, sizes};

/// Runs of which all but one must agree before the whole curve moves.
const WITNESSES: usize = 8;
/// How far they must be off, either way.
const DRIFT: f64 = 1.15;
/// Of a run larger than any measured: how much of the known cost of a row another row adds. Too
/// little is put right by the first such run; too much would never be found out.
const OPTIMISM: f64 = 0.5;
/// How many measurements of its own a size needs to count as much as its neighbours next to it.
const SMOOTHING: f64 = 8.0;
/// Throughput that is worth no larger batch.
const WORTH: f64 = 0.98;

#[derive(Debug)]
pub(crate) struct Curve {
    windows: Vec<Option<Box<Window>>>,
    table: Vec<Entry>,
    /// The size with the best throughput.
    best: Entry,
    fixed: Seconds,
    runs: u64,
    /// Of the latest runs, over all sizes: how long each took, in terms of what was expected.
    ratios: [f32; WITNESSES],
    /// Until which run the size of each had taken what was expected.
    held_until: [u64; WITNESSES],
    /// The runs since the curve was moved as a whole.
    since_moved: u64,
    learnt_at: Instant,
}

/// What is known of runs of one size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    pub(crate) rows: usize,
    expected: Seconds,
    safe: Seconds,
}

impl Curve {
    pub(crate) fn new(rows_max: usize, now: Instant) -> Self {
        let sizes = sizes::index(rows_max) + 1;
        let entry = |index| Entry { rows: sizes::rows(index), ..Entry::default() };
        Self {
            windows: (0..sizes).map(|_| None).collect(),
            table: (0..sizes).map(entry).collect(),
            best: entry(0),
            fixed: 0.0,
            runs: 0,
            ratios: [1.0; WITNESSES],
            held_until: [0; WITNESSES],
            since_moved: 0,
            learnt_at: now,
        }
    }

    /// A curve that supposes what `costs` says of rows of another size.
    pub(crate) fn like(costs: &Costs<'_>, rows_max: usize, now: Instant) -> Self {
        let mut curve = Self::new(rows_max, now);
        for (index, window) in curve.windows.iter_mut().enumerate() {
            if costs.curve.windows.get(index).is_some_and(Option::is_some) {
                let rows = sizes::rows(index);
                let supposed = Window::supposed(costs.expected(rows), costs.safe(rows));
                *window = Some(Box::new(supposed));
            }
        }
        curve.lay_out();
        curve
    }

    /// A run took that long.
    pub(crate) fn learn(&mut self, rows: usize, time: Duration, now: Instant) {
        self.runs += 1;
        self.take_note(rows, time, true, now);
    }

    /// A run took that long before there was anything to do. All such runs are as one: were the
    /// first of them wrong, all would be.
    pub(crate) fn learn_ahead(&mut self, rows: usize, time: Duration, now: Instant) {
        self.take_note(rows, time, false, now);
    }

    fn take_note(&mut self, rows: usize, time: Duration, is_witness: bool, now: Instant) {
        // No run takes no time; a clock that says so is too coarse.
        let mut seconds = time.as_secs_f64().max(1e-9);
        let index = sizes::index(rows).min(self.windows.len() - 1);
        if rows != sizes::rows(index) && self.best.expected > 0.0 {
            // A table's place stands for its largest size.
            seconds *= self.expected(sizes::rows(index)) / self.expected(rows);
        }
        self.learnt_at = now;
        let moved = is_witness && self.testify(index, seconds);
        let window = self.windows[index].get_or_insert_with(|| Box::new(Window::new()));
        let changed = window.push(seconds, self.runs);
        if moved || changed {
            self.lay_out();
        }
    }

    /// How long a run takes, half of the times.
    pub(crate) fn expected(&self, rows: usize) -> Seconds {
        self.read(rows, |entry| entry.expected)
    }

    /// How long it takes at most, 19 times of 20.
    pub(crate) fn safe(&self, rows: usize) -> Seconds {
        self.read(rows, |entry| entry.safe)
    }

    /// The part of a run's cost that does not depend on its rows.
    pub(crate) fn fixed(&self) -> Seconds {
        self.fixed
    }

    /// The luckiest of the latest runs: its time in terms of what was expected, at most 1.
    pub(crate) fn luck(&self) -> f64 {
        f64::from(self.ratios.iter().copied().fold(1.0, f32::min))
    }

    pub(crate) fn best(&self) -> Entry {
        self.best
    }

    pub(crate) fn learnt_at(&self) -> Instant {
        self.learnt_at
    }

    /// Of how many runs of that size, not too long ago, the times are known.
    pub(crate) fn known_of(&self, rows: usize) -> usize {
        let window = self.windows.get(sizes::index(rows)).and_then(Option::as_deref);
        window.map_or(0, |window| window.recent(self.runs))
    }

    /// What is known of the sizes that have run.
    pub(crate) fn points(&self) -> Vec<CostPoint> {
        let known = self.windows.iter().zip(&self.table);
        let known = known.filter_map(|(window, entry)| Some((window.as_deref()?, entry)));
        let point = |(window, entry): (&Window, &Entry)| CostPoint {
            rows: entry.rows as u64,
            time: Duration::from_secs_f64(entry.safe),
            runs: window.runs(),
        };
        known.map(point).collect()
    }

    fn read(&self, rows: usize, value: impl Fn(&Entry) -> Seconds) -> Seconds {
        let rows = rows.max(1);
        let index = sizes::index(rows);
        let Some(entry) = self.table.get(index) else {
            let last = self.table.last().expect("a table has a size at least");
            return value(last) * rows as f64 / last.rows as f64;
        };
        if entry.rows == rows {
            return value(entry);
        }
        let before = &self.table[index - 1];
        between((before.rows, value(before)), (entry.rows, value(entry)), rows)
    }

    /// Takes a run's word for whether the curve as a whole is still right; moves it if not.
    fn testify(&mut self, index: usize, seconds: Seconds) -> bool {
        let Some(window) = self.windows[index].as_mut() else { return false };
        let Some(anchor) = window.anchor() else { return false };
        let ratio = seconds / anchor.seconds;
        if (DRIFT.recip()..DRIFT).contains(&ratio) {
            window.confirm(self.runs);
        }
        let witness = (self.since_moved % WITNESSES as u64) as usize;
        self.ratios[witness] = ratio as f32;
        self.held_until[witness] = anchor.run;
        self.since_moved += 1;
        if self.since_moved < WITNESSES as u64 {
            return false;
        }
        let mut sorted = self.ratios.map(f64::from);
        sorted.sort_unstable_by(f64::total_cmp);
        let slower = sorted[1] >= DRIFT;
        let faster = sorted[WITNESSES - 2] <= DRIFT.recip();
        if !slower && !faster {
            return false;
        }
        // What ran after that may have taken what it takes now.
        let mut held_until = self.held_until;
        held_until.sort_unstable();
        let last = held_until[WITNESSES / 2];
        let factor = (sorted[WITNESSES / 2 - 1] + sorted[WITNESSES / 2]) / 2.0;
        for window in self.windows.iter_mut().flatten() {
            window.rescale(last, factor, self.runs);
        }
        self.ratios = [1.0; WITNESSES];
        self.since_moved = 0;
        true
    }

    /// Lays the table through what the windows say.
    fn lay_out(&mut self) {
        self.fill(Window::median, |entry, value| entry.expected = value);
        self.fill(Window::p95, |entry, value| entry.safe = value);
        for entry in &mut self.table {
            entry.safe = entry.safe.max(entry.expected);
        }
        let throughput = |entry: &Entry| entry.rows as f64 / entry.expected.max(1e-12);
        let most = self.table.iter().map(throughput).fold(0.0, f64::max);
        let best = self.table.iter().find(|entry| throughput(entry) >= WORTH * most);
        self.best = *best.expect("the best is as good as the best");
        let (one, two) = (self.expected(1), self.expected(2));
        self.fixed = (2.0 * one - two).clamp(0.0, one);
    }

    fn fill(&mut self, value: impl Fn(&Window) -> Seconds, set: impl Fn(&mut Entry, Seconds)) {
        let mut known: SmallVec<[Known; 64]> = SmallVec::new();
        let windows = self.windows.iter().enumerate();
        known.extend(windows.filter_map(|(index, window)| {
            let window = window.as_ref()?;
            let (rows, weight) = (sizes::rows(index), window.samples() as f64);
            Some(Known { first: rows, last: rows, value: value(window), weight })
        }));
        smooth(&mut known);
        pool(&mut known);
        let points = known.iter().flat_map(|pool| {
            let (first, last) = ((pool.first, pool.value), (pool.last, pool.value));
            [Some(first), (last.0 != first.0).then_some(last)].into_iter().flatten()
        });
        let points: SmallVec<[(usize, Seconds); 64]> = points.collect();
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return };
        let mut after = 0;
        for entry in &mut self.table {
            while points.get(after).is_some_and(|point| point.0 < entry.rows) {
                after += 1;
            }
            let value = match (after.checked_sub(1).map(|before| points[before]), points.get(after))
            {
                (_, Some(&point)) if point.0 == entry.rows => point.1,
                (Some(before), Some(&after)) => between(before, after, entry.rows),
                (None, _) => below(first, points.get(1).copied(), entry.rows),
                (Some(_), None) => above(first, last, entry.rows),
            };
            set(entry, value);
        }
    }
}

/// Sizes that were measured, and judged alike.
#[derive(Debug, Clone, Copy)]
struct Known {
    first: usize,
    last: usize,
    value: Seconds,
    weight: f64,
}

impl Known {
    fn absorb(&mut self, other: &Self) {
        let weight = self.weight + other.weight;
        self.value = (self.value * self.weight + other.value * other.weight) / weight;
        self.weight = weight;
        self.last = other.last;
    }
}

/// Draws each size towards the line between its neighbours, the more the nearer they are and the
/// less often it was measured itself. Of many sizes measured a few times each, the one that seems
/// best is one that was lucky; it would be chosen again and again.
fn smooth(known: &mut [Known]) {
    let measured: SmallVec<[Known; 64]> = SmallVec::from_slice(known);
    for (point, neighbours) in known.iter_mut().skip(1).zip(measured.windows(3)) {
        let [before, at, after] = neighbours else { continue };
        let distance = (after.first - before.first) as f64 / (2.0 * at.first as f64);
        let weight = SMOOTHING * (1.0 - 2.0 * distance).max(0.0);
        let line = between((before.first, before.value), (after.first, after.value), at.first);
        point.value = (at.value * at.weight + line * weight) / (at.weight + weight);
    }
}

/// Pools neighbours that fall until none does: the nearest sequence that never falls.
fn pool(known: &mut SmallVec<[Known; 64]>) {
    let mut pools = 0;
    for index in 0..known.len() {
        known[pools] = known[index];
        pools += 1;
        while pools > 1 && known[pools - 2].value > known[pools - 1].value {
            let after = known[pools - 1];
            known[pools - 2].absorb(&after);
            pools -= 1;
        }
    }
    known.truncate(pools);
}

type Point = (usize, Seconds);

fn between(before: Point, after: Point, rows: usize) -> Seconds {
    let share = (rows - before.0) as f64 / (after.0 - before.0) as f64;
    before.1 + share * (after.1 - before.1)
}

/// A smaller run than any measured: the line is drawn on, but a row alone costs no less than one
/// among others.
fn below(first: Point, second: Option<Point>, rows: usize) -> Seconds {
    let slope = second.map_or(0.5 * first.1 / first.0 as f64, |second| {
        (second.1 - first.1) / (second.0 - first.0) as f64
    });
    let drawn = first.1 - slope * (first.0 - rows) as f64;
    drawn.max(first.1 * rows as f64 / first.0 as f64)
}

/// A larger run than any measured.
fn above(first: Point, last: Point, rows: usize) -> Seconds {
    let slope = if last.0 > first.0 {
        (last.1 - first.1) / (last.0 - first.0) as f64
    } else {
        OPTIMISM * last.1 / last.0 as f64
    };
    last.1 + slope * (rows - last.0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn learnt(points: &[(usize, f64)], times: usize) -> Curve {
        let mut curve = Curve::new(32, clock::start());
        for &(rows, seconds) in points {
            for _ in 0..times {
                curve.learn(rows, Duration::from_secs_f64(seconds), clock::start());
            }
        }
        curve
    }

    fn assert_near(value: Seconds, expected: Seconds) {
        assert!((value - expected).abs() < 0.01 * expected, "{value} instead of {expected}");
    }

    #[test]
    fn gaps_are_filled_in_a_straight_line_and_the_line_is_drawn_on() {
        let curve = learnt(&[(2, 4.0), (4, 6.0), (16, 30.0)], 3);
        for (rows, expected) in [(1, 3.0), (2, 4.0), (3, 5.0), (10, 18.0), (16, 30.0), (32, 59.7)] {
            assert_near(curve.expected(rows), expected);
        }
    }

    #[test]
    fn more_rows_never_take_less_time() {
        let curve = learnt(&[(1, 1.0), (4, 9.0), (8, 3.0), (16, 20.0)], 3);
        let times: Vec<_> = (1..40).map(|rows| curve.expected(rows)).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert_near(curve.expected(4), 6.0);
        assert_near(curve.expected(8), 6.0);
    }

    #[test]
    fn a_model_that_slows_down_does_so_at_every_size() {
        let mut curve = learnt(&[(1, 1.0), (8, 4.0), (32, 10.0)], 8);
        curve.learn(1, Duration::from_secs(1), clock::start());
        for _ in 0..WITNESSES {
            curve.learn(1, Duration::from_secs(3), clock::start());
        }
        for (rows, expected) in [(1, 3.0), (8, 12.0), (32, 30.0)] {
            assert_near(curve.expected(rows), expected);
        }
    }

    /// A size that was learnt wrong says nothing of those that ran since.
    #[test]
    fn what_ran_since_is_not_moved() {
        let mut curve = learnt(&[(1, 1.0), (32, 10.0)], 3);
        for rows in [1, 32].repeat(WITNESSES) {
            curve.learn(rows, Duration::from_secs(if rows == 1 { 1 } else { 3 }), clock::start());
        }
        assert_near(curve.expected(1), 1.0);
        assert_near(curve.expected(32), 3.0);
        (0..WITNESSES).for_each(|_| curve.learn(32, Duration::from_secs(1), clock::start()));
        assert_near(curve.expected(1), 1.0);
    }

    #[test]
    fn one_slow_run_moves_nothing() {
        let mut curve = learnt(&[(1, 1.0), (8, 4.0)], 8);
        curve.learn(1, Duration::from_secs(50), clock::start());
        assert_near(curve.expected(1), 1.0);
        assert_near(curve.expected(8), 4.0);
    }
}
