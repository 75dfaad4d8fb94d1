//! When requests come, and how long each may take.

use fastrand::Rng;

use super::curves::Curve;

/// How requests follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Independently of one another.
    Poisson,
    /// Two states that change at random: a third of the time two and a half times as many as on
    /// average come, the rest of the time a quarter. A burst lasts for about 40 runs of 4 rows.
    Bursty,
}

/// How long requests may take, in terms of a run of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadlines {
    /// All the same: 20 times as long.
    Uniform,
    /// A third each 5, 20 and 50 times as long.
    Mixed,
}

/// A request that will come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// When, in seconds.
    pub(crate) arrives: f64,
    /// After which its answer does not count.
    pub(crate) deadline: f64,
}

/// So many requests, `rate` per second.
pub(crate) fn requests(
    curve: &Curve,
    arrivals: Arrivals,
    deadlines: Deadlines,
    rate: f64,
    count: usize,
    rng: &mut Rng,
) -> Vec<Request> {
    let burst = 40.0 * curve.seconds(4);
    let mut now = 0.0;
    let mut busy = false;
    let mut changes = exponential(rng, burst);
    let mut next = || {
        loop {
            let factor = match arrivals {
                Arrivals::Poisson => 1.0,
                Arrivals::Bursty if busy => 2.5,
                Arrivals::Bursty => 0.25,
            };
            let arrives = now + exponential(rng, 1.0 / (rate * factor));
            if arrivals == Arrivals::Bursty && arrives > changes {
                // The gap has no memory: it is drawn anew from where the state changes.
                now = changes;
                busy = !busy;
                changes = now + exponential(rng, if busy { burst } else { 2.0 * burst });
                continue;
            }
            now = arrives;
            let allowance = match deadlines {
                Deadlines::Uniform => 20.0,
                Deadlines::Mixed => [5.0, 20.0, 50.0][rng.usize(..3)],
            };
            return Request { arrives, deadline: now + allowance * curve.seconds(1) };
        }
    };
    (0..count).map(|_| next()).collect()
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}
