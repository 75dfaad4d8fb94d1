//! Who waits for others that are due earlier.

use super::*;

const RUN: Duration = Duration::from_millis(10);
const SHORT: Duration = Duration::from_secs(2);

fn two_rows_a_run() -> Fixture {
    let mut fixture = Fixture::new(SchedulerConfig { rows_max: 2, ..SchedulerConfig::default() });
    for rows in [1, 2].repeat(10) {
        fixture.scheduler.learn(4, rows, RUN, fixture.now);
    }
    fixture
}

impl Fixture {
    /// Serves sixteen clients each of whom asks again as soon as it is answered and is in more of a
    /// hurry than some jobs that wait, until all these have run; and tells how long that took.
    fn answer_behind_sixteen_clients(&mut self, lane: u8, some: &[u32], runs: usize) -> Duration {
        let began = self.now;
        let mut left = some.to_vec();
        for _ in 0..runs {
            while self.scheduler.waiting().requests < 16 + left.len() {
                self.offer(Work { lane, ..self.work(SHORT) }).unwrap();
            }
            let batch = self.batch();
            self.now += RUN;
            self.scheduler.ended(batch.run, Some(RUN), self.now);
            left.retain(|job| !batch.jobs.contains(job));
            if left.is_empty() {
                return self.now - began;
            }
        }
        panic!("{left:?} wait for {:?} by now", self.now - began);
    }
}

/// The clients are answered within 90 ms. A job that may take a minute would wait for all but two
/// seconds of that if those always went first who are due first.
#[test]
fn who_has_more_time_than_all_others_is_not_overtaken_for_ever() {
    for lane in [0, 1] {
        let mut fixture = two_rows_a_run();
        (0..16).for_each(|_| _ = fixture.offer(fixture.work(SHORT)).unwrap());
        fixture.offer(Work { lane, ..fixture.work(LONG) }).unwrap();
        let waited = fixture.answer_behind_sixteen_clients(0, &[17], 1000);
        // Four times the nine runs of two that were there when it came.
        let expected = 34 * RUN..=40 * RUN;
        assert!(expected.contains(&waited), "{waited:?}, lane {lane}");
    }
}

#[test]
fn who_is_in_a_hurry_keeps_half_of_the_capacity() {
    let mut fixture = two_rows_a_run();
    for _ in 0..20 {
        fixture.now += MILLISECOND / 100;
        fixture.offer(fixture.work(LONG)).unwrap();
    }
    let patient: Vec<u32> = (1..=20).collect();
    let waited = fixture.answer_behind_sixteen_clients(0, &patient, 1000);
    // The last of them was reckoned to wait for nine runs; then every other one is theirs.
    let expected = 36 * RUN..=48 * RUN;
    assert!(expected.contains(&waited), "{waited:?}");
}

/// Who should be answered within a target and was not counts by its deadline, and everybody who comes
/// is due before that.
#[test]
fn who_missed_its_target_is_not_overtaken_for_ever() {
    let config =
        SchedulerConfig { rows_max: 2, target: Some(3 * RUN), ..SchedulerConfig::default() };
    let mut fixture = Fixture::with_flat_costs(config, RUN);
    (0..16).for_each(|_| _ = fixture.offer(fixture.work(LONG)).unwrap());
    let patient: Vec<u32> = (1..=16).collect();
    let waited = fixture.answer_behind_sixteen_clients(0, &patient, 1000);
    assert!(waited < 80 * RUN, "{waited:?}");
}

/// An instance that was away for long has overtaken nobody.
#[test]
fn who_only_waited_goes_by_when_it_is_due() {
    let mut fixture = two_rows_a_run();
    for timeout in [LONG, LONG, 20 * RUN] {
        fixture.now += Duration::from_secs(1);
        fixture.offer(fixture.work(timeout)).unwrap();
    }
    assert_eq!(fixture.batch().jobs[0], 3);
}

/// A job that is promoted is as old in its new class as it was.
#[test]
fn who_is_promoted_has_waited_as_long_as_it_has() {
    let config = SchedulerConfig {
        rows_max: 1,
        classes: 2.try_into().unwrap(),
        ..SchedulerConfig::default()
    };
    let mut fixture = Fixture::with_flat_costs(config, RUN);
    let promoted = fixture.offer(Work { class: 1, ..fixture.work(LONG) }).unwrap();
    fixture.now += 50 * RUN;
    for _ in 0..4 {
        fixture.offer(fixture.work(SHORT)).unwrap();
    }
    fixture.scheduler.expedite(promoted, 0, fixture.now + LONG);
    let order = [(); 5].map(|()| fixture.batch().jobs[0]);
    assert_eq!(order, [2, 1, 3, 4, 5]);
}
