//! What a run costs, measured on one core of a server with ONNX Runtime: milliseconds for runs of
//! 1, 4, 8 and 32 rows.

/// A model by what its runs cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Curve {
    /// Its name.
    pub(crate) name: &'static str,
    /// Milliseconds of runs of 1, 4, 8 and 32 rows.
    pub(crate) milliseconds: [f64; 4],
}

/// The most rows in a run.
pub(crate) const ROWS_MAX: usize = 32;
const MEASURED: [usize; 4] = [1, 4, 8, 32];

/// From one whose batches are for nothing extra to those whose batches gain nothing.
pub(crate) const CURVES: [Curve; 6] = [
    Curve { name: "tiny MLP", milliseconds: [0.003, 0.003, 0.003, 0.003] },
    Curve { name: "MLP 784", milliseconds: [0.046, 0.053, 0.116, 0.378] },
    Curve { name: "silero VAD", milliseconds: [0.116, 0.325, 0.541, 1.77] },
    Curve { name: "MiniLM-L3", milliseconds: [5.3, 18.0, 35.0, 137.0] },
    Curve { name: "orientation", milliseconds: [4.6, 18.0, 37.0, 164.0] },
    Curve { name: "ResNet-50", milliseconds: [95.0, 368.0, 815.0, 3200.0] },
];

impl Curve {
    /// Seconds that a run of so many rows takes, half of the times; in a straight line between
    /// the sizes that were measured.
    pub(crate) fn seconds(&self, rows: usize) -> f64 {
        let after = MEASURED.iter().position(|&measured| measured >= rows);
        let after = after.expect("no run has more than 32 rows");
        let milliseconds = if MEASURED[after] == rows {
            self.milliseconds[after]
        } else {
            let (from, to) = (MEASURED[after - 1], MEASURED[after]);
            let share = (rows - from) as f64 / (to - from) as f64;
            let (least, most) = (self.milliseconds[after - 1], self.milliseconds[after]);
            least + share * (most - least)
        };
        milliseconds / 1000.0
    }

    /// Rows per second of one instance, with runs of the best size.
    pub(crate) fn throughput(&self) -> f64 {
        let throughput = |rows| rows as f64 / self.seconds(rows);
        (1..=ROWS_MAX).map(throughput).fold(0.0, f64::max)
    }
}
