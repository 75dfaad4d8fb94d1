//! Who is let in, and what can be expected.

use super::*;
use crate::Caution;

/// What small rows cost says little about large ones: 4 MiB of the same model are no million
/// times dearer than 4 bytes.
#[test]
fn nobody_is_turned_away_for_costs_that_are_only_supposed() {
    let config = SchedulerConfig::default();
    let mut fixture = Fixture::with_flat_costs(config, MILLISECOND);
    let large =
        |fixture: &Fixture| Work { row_bytes: 4 << 20, rows: 4, lane: 1, ..fixture.work(LONG) };
    let soon = Work { deadline: fixture.now + MILLISECOND, ..large(&fixture) };
    fixture.offer(soon).unwrap();
    fixture.offer(large(&fixture)).unwrap();
    let next = fixture.next();
    assert!(next.late.is_empty());
    let Step::Run(batch) = next.step else { panic!("no batch: {:?}", next.step) };
    assert_eq!(batch.jobs, [1, 2]);
    // Once they have run a few times, it is known.
    fixture.scheduler.ended(batch.run, Some(20 * MILLISECOND), fixture.now);
    (0..20).for_each(|_| fixture.scheduler.learn(4 << 20, 4, 20 * MILLISECOND, fixture.now));
    let soon = Work { deadline: fixture.now + MILLISECOND, ..large(&fixture) };
    assert!(matches!(fixture.offer(soon), Err(Refusal::Hopeless { .. })));
}

#[test]
fn a_request_in_parts_has_one_place_and_its_parts_are_not_refused_for_room() {
    let config = SchedulerConfig { requests_max: 2, bytes_max: 10, ..SchedulerConfig::default() };
    let mut fixture = Fixture::new(config);
    fixture.scheduler.enter(4, fixture.now).unwrap();
    for _ in 0..5 {
        fixture.offer(Work { is_part: true, ..fixture.work(LONG) }).unwrap();
    }
    assert_eq!(fixture.scheduler.waiting(), Waiting { requests: 1, rows: 5, bytes: 20 });
    let full =
        |requests, bytes| Err(Refusal::Full { requests, bytes, retry_after: Duration::ZERO });
    assert_eq!(fixture.scheduler.enter(4, fixture.now), full(1, 20), "by its bytes");
    assert_eq!(fixture.batch().jobs.len(), 5);
    // It is there until it leaves, whether any part waits or not.
    assert!(fixture.scheduler.is_empty());
    fixture.scheduler.enter(4, fixture.now).unwrap();
    assert_eq!(fixture.offer(fixture.work(LONG)).map(|_| ()), full(2, 0));
    fixture.scheduler.leave();
    fixture.offer(fixture.work(LONG)).unwrap();
    fixture.scheduler.close();
    assert_eq!(fixture.scheduler.enter(4, fixture.now), Err(Refusal::Closed));
}

#[test]
fn a_full_queue_refuses_and_an_empty_one_takes_any_job() {
    let config = SchedulerConfig { requests_max: 2, bytes_max: 10, ..SchedulerConfig::default() };
    let mut fixture = Fixture::new(config);
    fixture.offer(Work { bytes: 99, ..fixture.work(LONG) }).unwrap();
    let full = |requests, bytes| {
        // Nothing is known of costs.
        Err(Refusal::Full { requests, bytes, retry_after: Duration::ZERO })
    };
    assert_eq!(fixture.offer(fixture.work(LONG)), full(1, 99));
    fixture.batch();
    for _ in 0..2 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    assert_eq!(fixture.offer(fixture.work(LONG)), full(2, 8));
}

#[test]
fn who_finds_the_queue_full_is_told_when_it_is_worked_off() {
    let config = SchedulerConfig { requests_max: 64, ..SchedulerConfig::default() };
    let mut fixture = Fixture::with_flat_costs(config, 10 * MILLISECOND);
    for _ in 0..64 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    let refusal = fixture.offer(fixture.work(LONG)).unwrap_err();
    let Refusal::Full { retry_after, .. } = refusal else { panic!("{refusal:?}") };
    assert_eq!(retry_after, 20 * MILLISECOND, "two runs of 32 rows");
}

/// A job that comes exactly as it was foreseen, none being on its way before it.
#[test]
fn what_is_foreseen_of_a_job_is_what_becomes_of_it() {
    let config = SchedulerConfig { requests_max: 500, ..SchedulerConfig::default() };
    let mut fixture = Fixture::with_flat_costs(config, 10 * MILLISECOND);
    let mut refusals = [0; 3];
    // One runs, so that there is something to wait for.
    fixture.offer(fixture.work(LONG)).unwrap();
    fixture.batch();
    for number in 0..3000 {
        fixture.now += MILLISECOND / 100;
        let timeout = [LONG, 9 * MILLISECOND, 35 * MILLISECOND][number % 3];
        let work = fixture.work(timeout);
        let (job, before) = (foreseen(&work), Waiting::default());
        let prospect = fixture.scheduler.foresee(&job, before, Caution::new(), fixture.now);
        assert_eq!(prospect.demand, Waiting { requests: 1, rows: 1, bytes: 4 });
        let refusal = fixture.offer(work).err();
        assert_eq!(prospect.refusal, refusal, "job {number}");
        match refusal {
            Some(Refusal::Full { .. }) => refusals[0] += 1,
            Some(Refusal::Late { .. }) => refusals[1] += 1,
            Some(Refusal::Hopeless { .. }) => refusals[2] += 1,
            Some(Refusal::Closed) => panic!("it is not closed"),
            None => {}
        }
    }
    assert!(refusals.iter().all(|&count| count > 0), "{refusals:?}");
    fixture.scheduler.close();
    let job = foreseen(&fixture.work(LONG));
    let prospect = fixture.scheduler.foresee(&job, Waiting::default(), Caution::new(), fixture.now);
    assert_eq!(prospect.refusal, Some(Refusal::Closed));
}

fn foreseen(work: &Work<u8>) -> Foreseen {
    Foreseen {
        tensor_bytes: Some(work.bytes),
        row_bytes: Some(work.row_bytes),
        bytes: work.bytes,
        class: work.class,
        deadline: work.deadline,
    }
}

#[test]
fn jobs_on_their_way_count_like_those_that_wait() {
    let mut fixture = Fixture::with_flat_costs(SchedulerConfig::default(), 10 * MILLISECOND);
    fixture.offer(fixture.work(LONG)).unwrap();
    fixture.batch();
    let job = foreseen(&fixture.work(35 * MILLISECOND));
    let on_their_way = |rows| Waiting { requests: rows, rows, bytes: 4 * rows as u64 };
    let prospect =
        |rows| fixture.scheduler.foresee(&job, on_their_way(rows), Caution::new(), fixture.now);
    assert_eq!(prospect(31).refusal, None);
    assert!(matches!(prospect(320).refusal, Some(Refusal::Late { .. })));
    assert!(matches!(prospect(5000).refusal, Some(Refusal::Full { .. })));
    // Two runs, of which the one under way has just begun.
    let cautious = |caution| {
        let caution = Caution::of(caution);
        fixture.scheduler.foresee(&job, on_their_way(31), caution, fixture.now).refusal
    };
    assert_eq!(cautious(1.7), None);
    assert!(matches!(cautious(1.8), Some(Refusal::Late { .. })));
}

#[test]
fn what_is_not_known_of_a_job_is_taken_in_its_favour() {
    let fixture = Fixture::with_flat_costs(SchedulerConfig::default(), 10 * MILLISECOND);
    let rows = |tensor_bytes, row_bytes| {
        let job = Foreseen { tensor_bytes, row_bytes, ..foreseen(&fixture.work(LONG)) };
        fixture.scheduler.foresee(&job, Waiting::default(), Caution::new(), fixture.now).demand.rows
    };
    assert_eq!(rows(Some(64), Some(4)), 16);
    assert_eq!(rows(Some(64), None), 16, "as large as the rows before");
    assert_eq!(rows(Some(3), None), 1);
    assert_eq!((rows(None, Some(4)), rows(None, None)), (1, 1));
    assert_eq!(rows(Some(4 << 20), Some(4)), 32, "no run has more");
    let new = Scheduler::<u8, u32>::new(SchedulerConfig::default());
    let job = Foreseen { row_bytes: None, ..foreseen(&fixture.work(MILLISECOND)) };
    let prospect = new.foresee(&job, Waiting::default(), Caution::new(), fixture.now);
    assert_eq!((prospect.refusal, prospect.cost), (None, Duration::ZERO));
}

#[test]
fn what_cannot_be_done_in_time_is_refused_when_it_comes() {
    let mut fixture = Fixture::with_flat_costs(SchedulerConfig::default(), 10 * MILLISECOND);
    let refusal = fixture.offer(fixture.work(9 * MILLISECOND)).unwrap_err();
    assert!(matches!(refusal, Refusal::Hopeless { .. }), "{refusal:?}");
    for _ in 0..64 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    fixture.batch();
    // What runs takes 10 ms, and so does it itself, first in the queue.
    let refusal = fixture.offer(fixture.work(19 * MILLISECOND)).unwrap_err();
    assert!(matches!(refusal, Refusal::Late { .. }), "{refusal:?}");
    fixture.offer(fixture.work(21 * MILLISECOND)).unwrap();
}

#[test]
fn a_curve_that_was_learnt_too_slow_does_not_refuse_for_ever() {
    let mut fixture = Fixture::with_flat_costs(SchedulerConfig::default(), 10 * MILLISECOND);
    for _ in 0..8 {
        fixture.offer(fixture.work(2 * MILLISECOND)).unwrap_err();
        fixture.now += Duration::from_millis(1001);
        fixture.offer(fixture.work(2 * MILLISECOND)).unwrap();
        fixture.offer(fixture.work(2 * MILLISECOND)).unwrap_err();
        let batch = fixture.batch();
        fixture.now += MILLISECOND;
        fixture.scheduler.ended(batch.run, Some(MILLISECOND), fixture.now);
        if fixture.offer(fixture.work(2 * MILLISECOND)).is_ok() {
            return;
        }
    }
    panic!("the model is fast again, and was never found to be");
}

#[test]
fn what_the_next_job_can_expect_follows_from_what_runs_and_waits() {
    let fixture = Fixture::new(SchedulerConfig::default());
    let unknown = Outlook { free_at: fixture.now, run: Duration::ZERO };
    assert_eq!(fixture.scheduler.outlook(fixture.now), unknown);

    let cost = 8 * MILLISECOND;
    let mut fixture = Fixture::with_flat_costs(SchedulerConfig::default(), cost);
    let start = fixture.now;
    let free_in = |fixture: &Fixture, expected: Duration| {
        let Outlook { free_at, run } = fixture.scheduler.outlook(fixture.now);
        let wait = free_at.saturating_duration_since(start);
        assert!(wait.abs_diff(expected) < MILLISECOND / 10, "{wait:?} for {expected:?}");
        assert!(run.abs_diff(cost) < MILLISECOND / 10, "{run:?}");
    };
    free_in(&fixture, Duration::ZERO);
    fixture.offer(fixture.work(LONG)).unwrap();
    let batch = fixture.batch();
    free_in(&fixture, cost);
    // Three quarters of the largest run: what waits takes that part of one.
    for _ in 0..24 {
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    free_in(&fixture, cost + 6 * MILLISECOND);
    // The moment stays where it is while time goes on.
    fixture.now += 3 * MILLISECOND;
    free_in(&fixture, cost + 6 * MILLISECOND);
    fixture.now = start + cost;
    fixture.scheduler.ended(batch.run, Some(cost), fixture.now);
    assert_eq!(fixture.batch().jobs.len(), 24);
    free_in(&fixture, 2 * cost);
}

#[test]
fn a_second_instance_that_is_idle_takes_a_job_at_once() {
    let config = SchedulerConfig { instances: 2, ..SchedulerConfig::default() };
    let mut fixture = Fixture::with_flat_costs(config, 8 * MILLISECOND);
    for expected in [Duration::ZERO, 8 * MILLISECOND] {
        fixture.offer(fixture.work(LONG)).unwrap();
        fixture.batch();
        let wait = fixture.scheduler.outlook(fixture.now).free_at - fixture.now;
        assert!(wait.abs_diff(expected) < MILLISECOND / 10, "{wait:?} for {expected:?}");
    }
}
