mod admission;
mod overtaken;

use std::time::{Duration, Instant};

use super::*;
use crate::clock;

const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    scheduler: Scheduler<u8, u32>,
    now: Instant,
    jobs: u32,
}

impl Fixture {
    fn new(config: SchedulerConfig) -> Self {
        Self { scheduler: Scheduler::new(config), now: clock::start(), jobs: 0 }
    }

    /// Every run takes that long, whatever its rows.
    fn with_flat_costs(config: SchedulerConfig, time: Duration) -> Self {
        let mut fixture = Self::new(config);
        for _ in 0..10 {
            for rows in [1, 2, 4, 8, 16, 32] {
                fixture.scheduler.learn(4, rows, time, fixture.now);
            }
        }
        fixture
    }

    fn work(&self, timeout: Duration) -> Work<u8> {
        Work {
            lane: 0,
            rows: 1,
            row_bytes: 4,
            bytes: 4,
            class: 0,
            enqueued: self.now,
            deadline: self.now + timeout,
            is_part: false,
        }
    }

    fn offer(&mut self, work: Work<u8>) -> Result<JobId, Refusal> {
        self.jobs += 1;
        self.scheduler.offer(work, self.jobs, self.now).map_err(|refused| {
            assert_eq!(refused.job, self.jobs, "the job comes back");
            refused.refusal
        })
    }

    fn next(&mut self) -> Next<u32> {
        self.scheduler.next(self.now, |_| true)
    }

    /// The rows of so many runs for clients each of whom asks again as soon as it is answered.
    fn answer_sixteen_clients(
        &mut self,
        runs: usize,
        time: impl Fn(usize) -> Duration,
    ) -> Vec<usize> {
        let mut leave = 16;
        let mut run = || {
            (0..leave).for_each(|_| _ = self.offer(self.work(LONG)).unwrap());
            let batch = self.batch();
            self.now += time(batch.rows);
            self.scheduler.ended(batch.run, Some(time(batch.rows)), self.now);
            leave = batch.rows;
            batch.rows
        };
        (0..runs).map(|_| run()).collect()
    }

    fn batch(&mut self) -> Batch<u32> {
        match self.next().step {
            Step::Run(batch) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }
}

#[test]
fn an_idle_instance_takes_what_is_there_up_to_the_maximum() {
    let mut fixture = Fixture::new(SchedulerConfig { rows_max: 4, ..SchedulerConfig::default() });
    for _ in 0..6 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    let batch = fixture.batch();
    assert_eq!((batch.jobs, batch.rows, batch.run_rows), (vec![1, 2, 3, 4], 4, 4));
    assert_eq!((batch.reason, batch.more), (DispatchReason::Full, true));
    let batch = fixture.batch();
    assert_eq!((batch.jobs, batch.reason, batch.more), (vec![5, 6], DispatchReason::Idle, false));
    assert!(matches!(fixture.next().step, Step::Nothing));
}

#[test]
fn jobs_leave_earliest_deadline_first() {
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for timeout in [50, 20, 90, 20] {
        fixture.offer(fixture.work(timeout * MILLISECOND)).unwrap();
    }
    assert_eq!(fixture.batch().jobs, [2, 4, 1, 3]);
}

#[test]
fn only_jobs_of_one_lane_share_a_run() {
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for lane in [0, 1, 0, 1] {
        fixture.offer(Work { lane, ..fixture.work(LONG) }).unwrap();
    }
    assert_eq!(fixture.batch().jobs, [1, 3]);
    assert_eq!(fixture.batch().jobs, [2, 4]);
}

#[test]
fn a_job_of_more_rows_than_a_run_may_have_runs_alone() {
    let mut fixture = Fixture::new(SchedulerConfig { rows_max: 4, ..SchedulerConfig::default() });
    for rows in [9, 1, 3, 1] {
        fixture.offer(Work { rows, ..fixture.work(LONG) }).unwrap();
    }
    let batches = [(); 3].map(|()| fixture.batch()).map(|batch| (batch.jobs, batch.rows));
    assert_eq!(batches, [(vec![1], 9), (vec![2, 3], 4), (vec![4], 1)]);
}

#[test]
fn without_idle_dispatch_a_batch_leaves_full_or_delayed_or_for_a_deadline() {
    let config = SchedulerConfig {
        rows_max: 2,
        dispatch_when_idle: false,
        delay_max: 30 * MILLISECOND,
        ..SchedulerConfig::default()
    };
    let mut fixture = Fixture::with_flat_costs(config, 5 * MILLISECOND);
    for timeout in [LONG, LONG, LONG, 22 * MILLISECOND] {
        fixture.offer(fixture.work(timeout)).unwrap();
        let Step::WaitUntil(moment) = fixture.next().step else {
            assert_eq!(fixture.jobs, 2, "two are enough");
            continue;
        };
        // A run's time before it is due and a quarter of that, and 2 ms.
        let in_time = 22 * MILLISECOND - 5 * MILLISECOND * 5 / 4 - 2 * MILLISECOND;
        let waited = if timeout < LONG { in_time } else { 30 * MILLISECOND };
        assert_eq!(moment, fixture.now + waited, "{timeout:?}");
        if timeout < LONG || fixture.jobs == 3 {
            // Whoever waits by the clock wakes a little late.
            fixture.now = moment + MILLISECOND;
            let reason = fixture.batch().reason;
            let expected =
                if timeout < LONG { DispatchReason::Deadline } else { DispatchReason::Delay };
            assert_eq!(reason, expected);
        }
    }
}

#[test]
fn expired_and_unwanted_jobs_never_run() {
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for timeout in [MILLISECOND, LONG, LONG] {
        fixture.offer(fixture.work(timeout)).unwrap();
    }
    fixture.now += MILLISECOND;
    let next = fixture.scheduler.next(fixture.now, |&mut job| job != 2);
    assert_eq!((next.late, next.dropped), (vec![1], vec![2]));
    assert!(matches!(next.step, Step::Run(batch) if batch.jobs == [3]));
    assert_eq!(fixture.scheduler.waiting(), Waiting::default());
}

#[test]
fn closing_hands_out_the_rest_and_refuses_the_new() {
    let config = SchedulerConfig { dispatch_when_idle: false, ..SchedulerConfig::default() };
    let mut fixture = Fixture::new(config);
    fixture.offer(fixture.work(LONG)).unwrap();
    assert!(matches!(fixture.next().step, Step::WaitUntil(_)));
    fixture.scheduler.close();
    assert_eq!(fixture.offer(fixture.work(LONG)), Err(Refusal::Closed));
    assert_eq!(fixture.batch().jobs, [1]);
    assert!(fixture.scheduler.is_empty() && fixture.scheduler.is_closed());
}

#[test]
fn a_job_that_is_joined_is_as_urgent_and_lives_as_long_as_either_asks() {
    let mut fixture = Fixture::new(SchedulerConfig { rows_max: 1, ..SchedulerConfig::default() });
    fixture.offer(fixture.work(20 * MILLISECOND)).unwrap();
    let joined = fixture.offer(fixture.work(90 * MILLISECOND)).unwrap();
    let short_lived = fixture.offer(fixture.work(5 * MILLISECOND)).unwrap();
    fixture.scheduler.expedite(joined, 0, fixture.now + 10 * MILLISECOND);
    fixture.scheduler.expedite(short_lived, 0, fixture.now + LONG);
    fixture.now += 6 * MILLISECOND;
    for expected in [2, 1, 3] {
        assert_eq!(fixture.batch().jobs, [expected]);
    }
    fixture.scheduler.expedite(joined, 0, fixture.now);
    assert!(fixture.scheduler.is_empty());
}

#[test]
fn urgent_jobs_go_first_and_nobody_starves() {
    let config = SchedulerConfig {
        rows_max: 1,
        classes: 2.try_into().unwrap(),
        ..SchedulerConfig::default()
    };
    let mut fixture = Fixture::new(config);
    for _ in 0..20 {
        for class in [1, 0] {
            fixture.offer(Work { class, ..fixture.work(LONG) }).unwrap();
        }
    }
    // Jobs with odd numbers are the less urgent.
    let urgent = (0..20).filter(|_| fixture.batch().jobs[0].is_multiple_of(2)).count();
    assert_eq!(urgent, 16);
}

#[test]
fn jobs_without_rows_run_alone_and_among_others() {
    let config = SchedulerConfig { allowed: vec![2, 4], ..SchedulerConfig::default() };
    for costs_are_known in [false, true] {
        let mut fixture = if costs_are_known {
            Fixture::with_flat_costs(config.clone(), MILLISECOND)
        } else {
            Fixture::new(config.clone())
        };
        fixture.offer(Work { rows: 0, ..fixture.work(LONG) }).unwrap();
        let batch = fixture.batch();
        assert_eq!((batch.jobs, batch.rows, batch.run_rows), (vec![1], 0, 0));
        fixture.scheduler.ended(batch.run, Some(MILLISECOND), fixture.now);
        for rows in [0, 1, 0, 2] {
            fixture.offer(Work { rows, ..fixture.work(LONG) }).unwrap();
        }
        let batch = fixture.batch();
        assert_eq!((batch.jobs, batch.rows, batch.run_rows), (vec![2, 3, 4, 5], 3, 4));
    }
}

#[test]
fn what_was_held_back_for_others_leaves_whole() {
    // Batches of this model save nothing: by itself it would be given single rows.
    let config = SchedulerConfig {
        rows_max: 4,
        rows_enough: 2,
        dispatch_when_idle: false,
        ..SchedulerConfig::default()
    };
    let mut fixture = Fixture::new(config);
    for rows in [1, 2, 4] {
        for _ in 0..3 {
            fixture.scheduler.learn(4, rows, rows as u32 * MILLISECOND, fixture.now);
        }
    }
    fixture.offer(fixture.work(LONG)).unwrap();
    assert!(matches!(fixture.next().step, Step::WaitUntil(_)));
    fixture.offer(fixture.work(LONG)).unwrap();
    assert_eq!(fixture.batch().jobs, [1, 2]);
}

/// A model of which runs of 1, 2, 4, ... 32 rows take so many milliseconds.
fn with_costs(milliseconds: [u32; 6]) -> Fixture {
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for (power, milliseconds) in milliseconds.into_iter().enumerate() {
        for _ in 0..3 {
            fixture.scheduler.learn(4, 1 << power, milliseconds * MILLISECOND, fixture.now);
        }
    }
    fixture
}

const FLAT: [u32; 6] = [10, 10, 10, 10, 10, 10];
/// Batches save nothing.
const LINEAR: [u32; 6] = [10, 20, 40, 80, 160, 320];
/// Batches save a fifth at most.
const NEARLY_LINEAR: [u32; 6] = [10, 18, 34, 66, 130, 258];

#[test]
fn on_a_quiet_machine_batches_are_as_large_as_they_are_worth_waiting_for() {
    for (costs, expected) in [(FLAT, 6..7), (LINEAR, 1..2), (NEARLY_LINEAR, 1..3)] {
        let mut fixture = with_costs(costs);
        for _ in 0..6 {
            fixture.now += Duration::from_secs(1);
            fixture.offer(fixture.work(LONG)).unwrap();
        }
        let rows = fixture.batch().rows;
        assert!(expected.contains(&rows), "{rows} rows, {costs:?}");
    }
}

#[test]
fn under_load_batches_are_larger_if_that_gets_more_done() {
    // 118 rows a second: more than single rows can be run, and nearly as many as batches of 32.
    for (costs, expected) in [(FLAT, 32..33), (LINEAR, 1..5), (NEARLY_LINEAR, 20..33)] {
        let mut fixture = with_costs(costs);
        for _ in 0..60 {
            fixture.now += Duration::from_micros(8475);
            fixture.offer(fixture.work(LONG)).unwrap();
        }
        let rows = fixture.batch().rows;
        assert!(expected.contains(&rows), "{rows} rows, {costs:?}");
    }
}

#[test]
fn idle_instances_share_what_batches_do_not_speed_up() {
    for (costs, expected) in [(FLAT, 2), (LINEAR, 1)] {
        let mut fixture = with_costs(costs);
        fixture.scheduler.config.instances = 2;
        for _ in 0..2 {
            fixture.offer(fixture.work(LONG)).unwrap();
        }
        let batch = fixture.batch();
        assert_eq!((batch.rows, batch.more), (expected, expected == 1), "{costs:?}");
    }
}

#[test]
fn a_batch_is_done_before_its_first_job_is_due_while_there_is_time_for_all() {
    let mut fixture = with_costs([10, 11, 13, 17, 25, 41]);
    for timeout in [LONG, LONG, LONG, LONG, LONG, LONG, LONG, 15 * MILLISECOND] {
        fixture.now += Duration::from_secs(1);
        fixture.offer(fixture.work(timeout)).unwrap();
    }
    let batch = fixture.batch();
    assert_eq!((batch.jobs[0], batch.reason), (8, DispatchReason::Deadline));
    assert!((4..=6).contains(&batch.rows), "{} rows take less than 15 ms", batch.rows);
}

/// A run takes 10 ms for each row.
#[test]
fn runs_are_as_large_as_keeps_to_their_limit() {
    let config = |limit| SchedulerConfig {
        run_limit: Some(limit * MILLISECOND),
        dispatch_when_idle: false,
        ..SchedulerConfig::default()
    };
    for (limit, expected) in [(1000, 32), (101, 8), (25, 2), (5, 1)] {
        let mut fixture = with_costs(LINEAR);
        fixture.scheduler.config = config(limit);
        assert_eq!(fixture.scheduler.rows_max(4), expected);
        for n in 0..expected {
            assert!(n == 0 || matches!(fixture.next().step, Step::WaitUntil(_)));
            fixture.offer(fixture.work(LONG)).unwrap();
        }
        // More would not leave with them, so they do not wait for more.
        let batch = fixture.batch();
        assert_eq!(batch.rows, expected, "{limit} ms");
        // A job that is larger by itself runs as it is.
        fixture.offer(Work { rows: 16, ..fixture.work(LONG) }).unwrap();
        fixture.scheduler.close();
        assert_eq!(fixture.batch().rows, 16);
    }
}

/// One that was ended at its limit would have taken at least as long.
#[test]
fn a_run_that_was_over_its_limit_is_not_made_again() {
    let config =
        SchedulerConfig { run_limit: Some(100 * MILLISECOND), ..SchedulerConfig::default() };
    let mut fixture = Fixture::new(config);
    for _ in 0..64 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    let batch = fixture.batch();
    assert_eq!(batch.rows, 32, "nothing is known");
    fixture.now += 100 * MILLISECOND;
    fixture.scheduler.ended(batch.run, Some(100 * MILLISECOND), fixture.now);
    assert!(fixture.batch().rows < 32);
}

#[test]
fn runs_have_an_allowed_size() {
    let config = SchedulerConfig { allowed: vec![1, 4, 8], ..SchedulerConfig::default() };
    let mut fixture = Fixture::new(config);
    for _ in 0..11 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    let sizes = [(); 2].map(|()| fixture.batch()).map(|batch| (batch.rows, batch.run_rows));
    assert_eq!(sizes, [(8, 8), (3, 4)]);
}

/// A run takes 8 ms and 1 ms for each row. While it was being learnt, larger ones took ten times
/// as long.
#[test]
fn sizes_that_were_slow_once_are_tried_again() {
    let time = |rows: usize| (8 + rows as u32) * MILLISECOND;
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for _ in 0..10 {
        for rows in [1, 2, 4, 8, 16] {
            let factor = if rows == 1 { 1 } else { 10 };
            fixture.scheduler.learn(4, rows, factor * time(rows), fixture.now);
        }
    }
    let batches = fixture.answer_sixteen_clients(5000, time);
    assert_eq!(batches[..100], [1; 100], "what was learnt is believed for a while");
    let late = &batches[4000..];
    let mean = late.iter().sum::<usize>() as f64 / late.len() as f64;
    assert!(mean > 6.0, "{mean} rows a run: {:?}", &late[..50]);
}

/// A run takes as long as its rows do one by one, so that hardly more than one is worth while.
#[test]
fn few_batches_are_larger_than_pays() {
    let time = |rows: usize| rows as u32 * MILLISECOND;
    let mut fixture = Fixture::new(SchedulerConfig::default());
    for rows in [1, 2, 4, 8, 16].repeat(10) {
        fixture.scheduler.learn(4, rows, time(rows), fixture.now);
    }
    let batches = fixture.answer_sixteen_clients(5000, time);
    let larger = batches.iter().filter(|&&rows| rows > 2).count();
    assert!(larger <= 5000 / 128 + 1, "{larger} of 5000");
}
