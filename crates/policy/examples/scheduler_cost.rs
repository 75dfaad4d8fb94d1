//! What the scheduler itself costs: nanoseconds for a job to be offered, to leave in a batch and
//! for its run's end to be told, by how many jobs wait and how large batches are.
//!
//! ```text
//! cargo run --release -p inferring-policy --example scheduler_cost
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use inferring_policy::scheduler::{Scheduler, SchedulerConfig, Step, Work};

/// A request in a batcher is about as large as this.
type Job = [u64; 16];

fn main() {
    println!("| waiting | rows in a run | timeouts | lanes | ns per job |");
    println!("|---|---|---|---|---|");
    for (waiting, rows_max, timeouts, lanes) in [
        (1, 32, 1, 1),
        (8, 8, 1, 1),
        (64, 1, 1, 1),
        (64, 8, 1, 1),
        (64, 32, 1, 1),
        (64, 32, 7, 1),
        (64, 32, 7, 8),
        (4000, 32, 7, 1),
        (4000, 1, 7, 1),
        (4000, 32, 7, 500),
    ] {
        let best = (0..5).map(|_| measure(waiting, rows_max, timeouts, lanes)).min();
        let nanoseconds = best.expect("it was measured").as_nanos() as f64 / JOBS as f64;
        println!("| {waiting} | {rows_max} | {timeouts} | {lanes} | {nanoseconds:.0} |");
    }
}

const JOBS: usize = 200_000;

fn measure(waiting: usize, rows_max: usize, timeouts: u32, lanes: usize) -> Duration {
    let mut now = Instant::now();
    let config = SchedulerConfig { rows_max, ..SchedulerConfig::default() };
    let mut scheduler: Scheduler<Vec<u64>, Job> = Scheduler::new(config);
    let run_time = Duration::from_micros(3);
    for rows in [1, 2, 4, 8, 16, 32] {
        for _ in 0..3 {
            scheduler.learn(100, rows, run_time, now);
        }
    }
    let mut offered = 0;
    let began = Instant::now();
    let mut left = 0;
    while left < JOBS {
        while scheduler.waiting().requests < waiting {
            let timeout = Duration::from_secs(30 + u64::from(offered as u32 % timeouts));
            let work = Work {
                lane: vec![1, (offered % lanes) as u64],
                rows: 1,
                row_bytes: 100,
                bytes: 100,
                class: 0,
                enqueued: now,
                deadline: now + timeout,
                is_part: false,
            };
            now += Duration::from_nanos(500);
            offered += 1;
            scheduler.offer(work, black_box([0; 16]), now).expect("there is room and time");
        }
        let Step::Run(batch) = scheduler.next(now, |job| black_box(job[0]) == 0).step else {
            panic!("jobs wait");
        };
        left += batch.jobs.len();
        now += run_time;
        scheduler.ended(batch.run, Some(run_time), now);
        black_box(batch.jobs);
    }
    began.elapsed()
}
