//! A model's instances and its requests on a clock of their own, under one policy at a time.
//!
//! Time is a number. A run takes what the model's curve says, times a random factor; everything
//! else takes no time. So what differs between two policies is what they decided.

pub(crate) mod arrivals;
pub(crate) mod curves;
pub(crate) mod ours;
pub(crate) mod rivals;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use arrivals::{Arrivals, Deadlines, Request};
use curves::Curve;

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) curve: Curve,
    /// Runs that may overlap, none slower for it.
    pub(crate) instances: usize,
    pub(crate) arrivals: Arrivals,
    pub(crate) deadlines: Deadlines,
    /// Requests per second, in terms of the best throughput that can be had.
    pub(crate) load: f64,
    pub(crate) requests: usize,
    pub(crate) seed: u64,
    /// Half-way, runs begin to take this many times as long.
    pub(crate) change: f64,
}

/// Who decides what an idle instance does. Requests are known by number.
pub(crate) trait Policy {
    /// A request comes.
    fn arrive(&mut self, request: usize, deadline: f64, now: f64);
    /// An instance is idle.
    fn idle(&mut self, now: f64) -> Decision;
    /// A run has ended, which took that long.
    fn ended(&mut self, run: u64, seconds: f64, now: f64);
}

/// What an idle instance does.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Runs these, under that number.
    Run(u64, Vec<usize>),
    /// Asks again then, or when a request comes.
    WaitUntil(f64),
    /// Asks again when a request comes.
    Nothing,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The share of all requests that were answered in time.
    pub(crate) goodput: f64,
    /// Seconds from arrival to answer, of those that were answered at all.
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Rows per run.
    pub(crate) batch: f64,
    /// The share of requests that were answered too late: work for nothing.
    pub(crate) wasted: f64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.goodput += other.goodput;
        self.mean += other.mean;
        self.p50 += other.p50;
        self.p99 += other.p99;
        self.batch += other.batch;
        self.wasted += other.wasted;
    }

    pub(crate) fn divided_by(&self, count: f64) -> Self {
        Self {
            goodput: self.goodput / count,
            mean: self.mean / count,
            p50: self.p50 / count,
            p99: self.p99 / count,
            batch: self.batch / count,
            wasted: self.wasted / count,
        }
    }
}

/// How much runs vary: the deviation of the logarithm of their time.
const NOISE: f64 = 0.1;
/// Runs of 200 of which one is held up.
const HELD_UP: f64 = 0.005;

/// Every case: each curve, on one instance and two, however requests come and whatever they are
/// allowed, at each of the loads.
pub(crate) fn cases(loads: &[f64], requests: usize, seed: u64) -> Vec<Scenario> {
    let mut cases = Vec::new();
    for curve in curves::CURVES {
        for &load in loads {
            for instances in [1, 2] {
                for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
                    for deadlines in [Deadlines::Uniform, Deadlines::Mixed] {
                        cases.push(Scenario {
                            curve,
                            instances,
                            arrivals,
                            deadlines,
                            load,
                            requests,
                            seed,
                            change: 1.0,
                        });
                    }
                }
            }
        }
    }
    cases
}

impl Scenario {
    /// A time that a run of so many rows may take.
    pub(crate) fn run_time(&self, rows: usize, rng: &mut Rng) -> f64 {
        // The sum of twelve has nearly a normal distribution of deviation 1.
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let held_up = if rng.f64() < HELD_UP { 2.0 } else { 1.0 };
        self.curve.seconds(rows) * (NOISE * normal).exp() * held_up
    }

    fn rate(&self) -> f64 {
        self.load * self.curve.throughput() * self.instances as f64
    }

    /// What comes of it under that policy.
    pub(crate) fn run(&self, policy: &mut dyn Policy) -> Outcome {
        let mut rng = Rng::with_seed(self.seed);
        let (arrivals, deadlines) = (self.arrivals, self.deadlines);
        let requests = arrivals::requests(
            &self.curve,
            arrivals,
            deadlines,
            self.rate(),
            self.requests,
            &mut rng,
        );
        World {
            scenario: self,
            requests: &requests,
            next: 0,
            idle: self.instances,
            running: BinaryHeap::new(),
            wake: f64::INFINITY,
            answered: vec![f64::NAN; requests.len()],
            rows: 0,
            runs: 0,
            rng,
        }
        .play(policy)
    }
}

struct Running {
    ends: f64,
    began: f64,
    run: u64,
    members: Vec<usize>,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ends.total_cmp(&other.ends).then(self.run.cmp(&other.run))
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    requests: &'a [Request],
    next: usize,
    idle: usize,
    running: BinaryHeap<Reverse<Running>>,
    wake: f64,
    answered: Vec<f64>,
    rows: usize,
    runs: usize,
    rng: Rng,
}

impl World<'_> {
    fn play(mut self, policy: &mut dyn Policy) -> Outcome {
        loop {
            let arrives = self.requests.get(self.next).map_or(f64::INFINITY, |next| next.arrives);
            let ends = self.running.peek().map_or(f64::INFINITY, |Reverse(running)| running.ends);
            let now = arrives.min(ends).min(self.wake);
            if now == f64::INFINITY {
                return self.outcome();
            }
            if ends <= now {
                let Reverse(running) = self.running.pop().expect("it was peeked at");
                for member in running.members {
                    self.answered[member] = now;
                }
                policy.ended(running.run, now - running.began, now);
                self.idle += 1;
            } else if arrives <= now {
                policy.arrive(self.next, self.requests[self.next].deadline, now);
                self.next += 1;
            }
            if self.wake <= now {
                self.wake = f64::INFINITY;
            }
            self.ask(policy, now);
        }
    }

    fn ask(&mut self, policy: &mut dyn Policy, now: f64) {
        while self.idle > 0 {
            match policy.idle(now) {
                Decision::Run(run, members) => {
                    let changed = self.next > self.requests.len() / 2;
                    let factor = if changed { self.scenario.change } else { 1.0 };
                    let time = factor * self.scenario.run_time(members.len(), &mut self.rng);
                    self.rows += members.len();
                    self.runs += 1;
                    self.idle -= 1;
                    self.running.push(Reverse(Running {
                        ends: now + time,
                        began: now,
                        run,
                        members,
                    }));
                }
                Decision::WaitUntil(moment) => {
                    assert!(moment > now, "waits until {moment}, but it is {now} already");
                    self.wake = moment;
                    return;
                }
                Decision::Nothing => return,
            }
        }
    }

    fn outcome(&self) -> Outcome {
        // The first tenth is left out: a queue must fill first.
        let from = self.requests.len() / 10;
        let mut times = Vec::new();
        let mut good = 0;
        for (request, &answered) in self.requests.iter().zip(&self.answered).skip(from) {
            if answered.is_nan() {
                continue;
            }
            times.push(answered - request.arrives);
            good += usize::from(answered <= request.deadline);
        }
        let all = (self.requests.len() - from) as f64;
        times.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| {
            let index = (share * times.len() as f64) as usize;
            times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        Outcome {
            goodput: good as f64 / all,
            mean: times.iter().sum::<f64>() / times.len().max(1) as f64,
            p50: quantile(0.5),
            p99: quantile(0.99),
            batch: self.rows as f64 / self.runs.max(1) as f64,
            wasted: (times.len() - good) as f64 / all,
        }
    }
}
