//! A thousand fleets, and what holds in all of them.
//!
//! ```sh
//! # One fleet, with all that happened in it:
//! INFERRING_SIMULATION_SEED=17 cargo test -p inferring-simulation --test sim -- one_fleet --nocapture
//! # A night of fleets that nobody has seen yet:
//! INFERRING_SIMULATION_SECONDS=28800 cargo test -p inferring-simulation --test sim -- others
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use inferring_simulation::{Report, run};

/// How many fleets every run of the tests looks at.
const SEEDS: u64 = 1000;

/// Of so many fleets one is run twice.
const REPEATED: u64 = 20;

/// How many failures are told.
const TOLD: usize = 5;

/// What came of many fleets.
#[derive(Default)]
struct Tally {
    fleets: u64,
    requests: u64,
    answers: u64,
    tries: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Runs fleets of seeds from `first` on, as many at a time as there are processors, until
    /// `is_enough` says so of a seed.
    fn of(first: u64, is_enough: impl Fn(u64) -> bool + Sync) -> Self {
        let (next, tally) = (AtomicU64::new(first), Mutex::new(Self::default()));
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if is_enough(seed) {
                            return;
                        }
                        let outcome = catch_unwind(AssertUnwindSafe(|| look_at(seed)));
                        tally.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
                    }
                });
            }
        });
        tally.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&mut self, seed: u64, outcome: std::thread::Result<Result<Report, String>>) {
        self.fleets += 1;
        match outcome {
            Ok(Ok(report)) => {
                self.requests += report.requests;
                self.answers += report.answers;
                self.tries += report.tries;
            }
            Ok(Err(failure)) => self.failures.push(failure),
            Err(_) => self.failures.push(format!("seed {seed}: the simulation panicked")),
        }
    }

    fn tell(&self, began: Instant) {
        let Self { fleets, requests, answers, tries, .. } = self;
        let time = began.elapsed();
        println!(
            "{fleets} fleets, {requests} requests, {answers} answers, {tries} tries: {time:?}"
        );
        let told: Vec<_> = self.failures.iter().take(TOLD).map(String::as_str).collect();
        assert!(told.is_empty(), "{} fleets failed:\n{}", self.failures.len(), told.join("\n"));
    }
}

/// Runs a fleet; now and then twice, to see that it is the same.
fn look_at(seed: u64) -> Result<Report, String> {
    let report = run(seed);
    if !report.violations.is_empty() {
        return Err(format!("seed {seed}:\n{}", report.violations.join("\n")));
    }
    if seed.is_multiple_of(REPEATED) {
        same(&report, &run(seed))?;
    }
    Ok(report)
}

fn same(one: &Report, other: &Report) -> Result<(), String> {
    let lines = one.trace.iter().zip(&other.trace);
    let line = lines.clone().position(|(one, other)| one != other);
    match line {
        Some(line) => Err(format!(
            "seed {}: line {line} is `{}`, and then `{}`",
            one.seed, one.trace[line], other.trace[line],
        )),
        None if one == other => Ok(()),
        None => Err(format!("seed {}: one trace is longer", one.seed)),
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

#[test]
fn fault_50_a_thousand_fleets_keep_their_promises() {
    let began = Instant::now();
    let end = variable("INFERRING_SIMULATION_SEEDS").unwrap_or(SEEDS);
    Tally::of(0, |seed| seed >= end).tell(began);
}

#[test]
fn fault_50_a_seed_gives_the_same_trace_again() {
    for seed in 0..10 {
        let report = run(seed);
        assert!(report.trace.len() > 200, "{} lines", report.trace.len());
        same(&report, &run(seed)).unwrap();
    }
}

#[test]
fn different_seeds_give_different_traces() {
    assert_ne!(run(1).trace, run(2).trace);
}

/// Without a seed in the environment, the first that the others leave out.
#[test]
fn one_fleet() {
    let told = variable("INFERRING_SIMULATION_SEED");
    let report = run(told.unwrap_or(SEEDS));
    if told.is_some() {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    assert!(report.violations.is_empty(), "seed {}: {:#?}", report.seed, report.violations);
}

/// For nights: fleets that nobody has seen yet, for as long as the environment says. Where it says
/// nothing, a few that are always the same: what a test finds must not hang on the day.
#[test]
fn fault_50_others_keep_their_promises() {
    let began = Instant::now();
    match variable("INFERRING_SIMULATION_SECONDS") {
        None => Tally::of(SEEDS, |seed| seed >= SEEDS + 10),
        Some(time) => {
            let end = began + Duration::from_secs(time);
            Tally::of(fastrand::u64(SEEDS..u64::MAX / 2), |_| Instant::now() >= end)
        }
    }
    .tell(began);
}
