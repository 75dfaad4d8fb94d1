//! The scheduler that serves, as it is, on the simulation's clock.

use std::time::{Duration, Instant};

use fastrand::Rng;
use inferring_policy::scheduler::{RunId, Scheduler, SchedulerConfig, Step, Work};

use super::curves::ROWS_MAX;
use super::{Decision, Policy, Scenario};

/// Row size, of which the scheduler is told; all rows are alike here.
const ROW_BYTES: u64 = 1000;

pub(crate) struct Ours {
    scheduler: Scheduler<(), usize>,
    start: Instant,
    runs: Vec<Option<RunId>>,
    /// Requests that were refused, and that became late.
    pub(crate) refused: usize,
    pub(crate) late: usize,
}

impl Ours {
    /// It has been warmed up: three runs of each power of two. What it was told of them is wrong by
    /// the factor `error`.
    pub(crate) fn new(scenario: &Scenario, error: f64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
        let start = Instant::now();
        let config = SchedulerConfig {
            rows_max: ROWS_MAX,
            rows_enough: ROWS_MAX,
            instances: scenario.instances,
            requests_max: 1 << 20,
            ..SchedulerConfig::default()
        };
        let mut scheduler = Scheduler::new(config);
        let mut rng = Rng::with_seed(scenario.seed ^ 1);
        for rows in [1, 2, 4, 8, 16, 32] {
            for _ in 0..3 {
                let time = scenario.run_time(rows, &mut rng) * error;
                scheduler.learn(ROW_BYTES, rows, Duration::from_secs_f64(time), start);
            }
        }
        Self { scheduler, start, runs: Vec::new(), refused: 0, late: 0 }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }
}

impl Policy for Ours {
    fn arrive(&mut self, request: usize, deadline: f64, now: f64) {
        let now = self.at(now);
        let work = Work {
            lane: (),
            rows: 1,
            row_bytes: ROW_BYTES,
            bytes: ROW_BYTES,
            class: 0,
            enqueued: now,
            deadline: self.at(deadline),
            is_part: false,
        };
        if self.scheduler.offer(work, request, now).is_err() {
            self.refused += 1;
        }
    }

    fn idle(&mut self, now: f64) -> Decision {
        let next = self.scheduler.next(self.at(now), |_| true);
        self.late += next.late.len();
        match next.step {
            Step::Run(batch) => {
                self.runs.push(Some(batch.run));
                Decision::Run(self.runs.len() as u64 - 1, batch.jobs)
            }
            Step::WaitUntil(moment) => {
                // Rounded up: an Instant counts nanoseconds.
                Decision::WaitUntil((moment - self.start).as_secs_f64() + 1e-9)
            }
            Step::Nothing => Decision::Nothing,
        }
    }

    fn ended(&mut self, run: u64, seconds: f64, now: f64) {
        let run = self.runs[run as usize].take().expect("a run ends once");
        let now = self.at(now);
        self.scheduler.ended(run, Some(Duration::from_secs_f64(seconds)), now);
    }
}
