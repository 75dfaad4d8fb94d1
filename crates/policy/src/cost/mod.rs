//! What a run costs: how long it takes, by the number of its rows and by how big a row is.
//!
//! Nobody tells; it is learnt from the runs themselves. Rows of about the same size share a
//! [`Curve`]: a text of 16 tokens and one of 256 cost differently, one of 250 and one of 256 do
//! not. A size that has never run is judged by the nearest that has.

mod curve;
mod sizes;
mod window;

use std::time::{Duration, Instant};

use inferring_types::CostCurve;

pub(crate) use curve::Curve;

/// Seconds, in which costs are reckoned: sums, quotients and comparisons of many of them are made
/// for every batch.
pub(crate) type Seconds = f64;

/// Curves by class of row size: class `c` has rows of more than `2^(c-1)` and at most `2^c` bytes.
#[derive(Debug)]
pub(crate) struct CostModel {
    rows_max: usize,
    curves: Vec<(Class, Curve)>,
}

/// A class of row sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) fn of(row_bytes: u64) -> Self {
        // A row of more than 2^63 bytes is no row; it shares the last class.
        Self(row_bytes.max(1).checked_next_power_of_two().map_or(63, u64::trailing_zeros) as u8)
    }

    /// The largest rows of the class, in bytes.
    pub(crate) fn row_bytes(self) -> u64 {
        1 << self.0
    }

    fn distance(self, other: Self) -> u8 {
        self.0.abs_diff(other.0)
    }
}

impl CostModel {
    /// Nothing is known yet; runs mostly have up to `rows_max` rows.
    pub(crate) fn new(rows_max: usize) -> Self {
        Self { rows_max, curves: Vec::new() }
    }

    /// What runs of such rows cost; `None` where nothing has run yet at all.
    pub(crate) fn of(&self, class: Class) -> Option<Costs<'_>> {
        let nearest = self.nearest(class)?;
        let (known, curve) = &self.curves[nearest];
        Some(Costs { curve, factor: growth(*known, class), measured: *known == class })
    }

    /// A run took that long.
    pub(crate) fn learn(&mut self, class: Class, rows: usize, time: Duration, now: Instant) {
        self.curve(class, now).learn(rows, time, now);
    }

    /// A run took that long at warm-up.
    pub(crate) fn learn_ahead(&mut self, class: Class, rows: usize, time: Duration, now: Instant) {
        self.curve(class, now).learn_ahead(rows, time, now);
    }

    fn curve(&mut self, class: Class, now: Instant) -> &mut Curve {
        let index = match self.curves.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(index) => index,
            Err(index) => {
                let curve = match self.of(class) {
                    Some(costs) => Curve::like(&costs, self.rows_max, now),
                    None => Curve::new(self.rows_max, now),
                };
                self.curves.insert(index, (class, curve));
                index
            }
        };
        &mut self.curves[index].1
    }

    /// What is known, for people.
    pub(crate) fn curves(&self) -> Vec<CostCurve> {
        let curve = |(class, curve): &(Class, Curve)| CostCurve {
            row_bytes: class.row_bytes(),
            points: curve.points(),
        };
        self.curves.iter().map(curve).collect()
    }

    fn nearest(&self, class: Class) -> Option<usize> {
        match self.curves.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(index) => Some(index),
            Err(next) => {
                let neighbours = next.saturating_sub(1)..self.curves.len().min(next + 1);
                neighbours.min_by_key(|&index| self.curves[index].0.distance(class))
            }
        }
    }
}

/// How much more a row of the one class costs than one of the other: in proportion to its size.
fn growth(known: Class, class: Class) -> f64 {
    2_f64.powi(i32::from(class.0) - i32::from(known.0))
}

/// What runs of rows of one class cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs<'a> {
    curve: &'a Curve,
    /// What is measured is about rows of another size: this many times as costly.
    factor: f64,
    measured: bool,
}

impl Costs<'_> {
    /// Whether rows of this class have run. If not, all that is said of them is supposed: good
    /// enough to choose a batch by, and no reason to turn anybody away.
    pub(crate) fn are_measured(&self) -> bool {
        self.measured
    }

    /// How long a run of so many rows takes, half of the times.
    pub(crate) fn expected(&self, rows: usize) -> Seconds {
        self.scaled(self.curve.expected(rows), self.curve.fixed())
    }

    /// How long it takes at most, 19 times of 20.
    pub(crate) fn safe(&self, rows: usize) -> Seconds {
        self.scaled(self.curve.safe(rows), self.curve.fixed())
    }

    /// How long it took when it went best of late.
    pub(crate) fn fastest(&self, rows: usize) -> Seconds {
        self.expected(rows) * self.curve.luck()
    }

    /// The size of run that gets most rows done per second.
    pub(crate) fn best(&self) -> Best {
        let best = self.curve.best();
        Best { rows: best.rows, throughput: best.rows as f64 / self.expected(best.rows) }
    }

    /// Of how many runs of exactly so many rows, not too long ago, the times are known.
    pub(crate) fn known_of(&self, rows: usize) -> usize {
        self.curve.known_of(rows)
    }

    /// When the last run ended that taught anything.
    pub(crate) fn learnt_at(&self) -> Instant {
        self.curve.learnt_at()
    }

    /// The part of a run's cost that does not depend on rows stays what it is.
    fn scaled(&self, time: Seconds, fixed: Seconds) -> Seconds {
        if self.factor == 1.0 { time } else { fixed + (time - fixed).max(0.0) * self.factor }
    }
}

/// The run that gets most done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Best {
    pub(crate) rows: usize,
    /// Rows per second of one instance.
    pub(crate) throughput: f64,
}
