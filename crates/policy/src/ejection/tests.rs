//! The judge's rules, one sentence each. All of them over random histories:
//! `tests/it/ejection_model.rs`.

use inferring_types::{ModelName, ModelVersion};

use super::*;
use crate::clock;

const SECOND: Duration = Duration::from_secs(1);

/// What a fleet did, by worker: successes, failures, refusals, and the seconds that answers of
/// models `a`, `b` and so on took.
struct Did {
    tally: (u32, u32, u32),
    times: &'static [f64],
    out: bool,
}

fn did(successes: u32, failures: u32, refusals: u32) -> Did {
    Did { tally: (successes, failures, refusals), times: &[], out: false }
}

fn took(times: &'static [f64]) -> Did {
    Did { times, ..did(100, 0, 0) }
}

impl Did {
    fn out(self) -> Self {
        Self { out: true, ..self }
    }

    fn before<'a>(&self, ejection: &'a mut Ejection) -> Worker<'a> {
        let (successes, failures, refusals) = self.tally;
        let time = |(model, time): (u8, &f64)| MeanTime {
            model: char::from(model).to_string().parse::<ModelName>().unwrap(),
            version: ModelVersion::first(),
            answers: 50,
            mean_ln: time.ln(),
        };
        Worker {
            ejection,
            tally: Tally { successes, failures, refusals },
            times: (b'a'..).zip(self.times).map(time).collect(),
            out: self.out,
        }
    }
}

/// Who of the fleet is ejected at once, in the order in which they are.
fn ejected(config: &EjectionConfig, fleet: &[Did]) -> Vec<usize> {
    let mut ejections: Vec<_> =
        (0..).map(|seed| Ejection::new(config, seed)).take(fleet.len()).collect();
    let mut workers: Vec<_> =
        fleet.iter().zip(&mut ejections).map(|(did, e)| did.before(e)).collect();
    let now = clock::start();
    let changes = judge(config, &mut workers, now);
    drop(workers);
    for (place, ejection) in ejections.iter().enumerate() {
        let changed = changes.iter().any(|(changed, _)| *changed == place);
        assert_eq!(ejection.is_ejected(now), changed);
        assert_eq!(ejection.count(), u64::from(changed));
    }
    changes.into_iter().map(|(place, _)| place).collect()
}

#[test]
fn a_worker_that_fails_far_more_than_the_others_is_ejected() {
    let config = EjectionConfig::default();
    for (rule, fleet, expected) in [
        ("in a fleet of two", vec![did(99, 1, 0), did(75, 25, 0)], vec![1]),
        ("in a fleet of three", vec![did(75, 25, 0), did(100, 0, 0), did(100, 0, 0)], vec![0]),
        ("a margin is allowed", vec![did(81, 19, 0), did(100, 0, 0), did(100, 0, 0)], vec![]),
        (
            "two do not hide each other, the worse goes first",
            vec![did(70, 30, 0), did(100, 0, 0), did(10, 90, 0), did(99, 0, 0), did(98, 2, 0)],
            vec![2, 0],
        ),
        ("all fail alike", vec![did(50, 50, 0), did(52, 48, 0), did(45, 55, 0)], vec![]),
        (
            "where all differ, more is allowed",
            vec![did(95, 5, 0), did(80, 20, 0), did(65, 35, 0), did(50, 50, 0), did(60, 40, 0)],
            vec![],
        ),
        (
            "too few requests to judge by",
            vec![did(0, 19, 0), did(100, 0, 0), did(100, 0, 0)],
            vec![],
        ),
        ("too few to compare with", vec![did(60, 40, 0), did(19, 0, 0), did(19, 0, 0)], vec![]),
        ("nobody did anything", vec![did(0, 0, 0), did(0, 0, 0)], vec![]),
        ("no fleet", vec![], vec![]),
    ] {
        assert_eq!(ejected(&config, &fleet), expected, "{rule}");
    }
}

#[test]
fn refusals_count_only_where_the_others_have_room() {
    let config = EjectionConfig::default();
    for (rule, fleet, expected) in [
        ("one refuses", vec![did(60, 0, 40), did(100, 0, 0), did(98, 0, 2)], vec![0]),
        ("all are full, one more so", vec![did(40, 0, 60), did(85, 0, 15), did(88, 0, 12)], vec![]),
        (
            "one fails where all are full",
            vec![did(20, 40, 40), did(80, 0, 20), did(80, 0, 20)],
            vec![0],
        ),
        ("one refuses all there is", vec![did(0, 0, 40), did(100, 0, 0), did(100, 0, 0)], vec![0]),
    ] {
        assert_eq!(ejected(&config, &fleet), expected, "{rule}");
    }
}

#[test]
fn a_worker_that_takes_far_longer_than_the_others_is_ejected() {
    let config = EjectionConfig::default();
    for (rule, fleet, expected) in [
        ("in a fleet of two", vec![took(&[0.005]), took(&[0.5])], vec![1]),
        ("in a fleet of three", vec![took(&[0.5]), took(&[0.005]), took(&[0.006])], vec![0]),
        ("nine times as long", vec![took(&[0.045]), took(&[0.005]), took(&[0.005])], vec![]),
        (
            "longer by nothing that matters",
            vec![took(&[0.02]), took(&[0.001]), took(&[0.001])],
            vec![],
        ),
        (
            "another model is another time",
            vec![took(&[0.005, 2.0]), took(&[0.005]), took(&[0.005])],
            vec![],
        ),
        (
            "slow with one of two models that cost alike is not slow throughout",
            vec![took(&[0.4, 0.005]), took(&[0.005, 0.005]), took(&[0.005, 0.005])],
            vec![],
        ),
        (
            "a little slow with both",
            vec![took(&[0.02, 0.02]), took(&[0.005, 0.005]), took(&[0.005, 0.005])],
            vec![],
        ),
        (
            "those that fail go before those that are slow",
            vec![took(&[9.0]), took(&[0.005]), took(&[0.005]), did(10, 90, 0), took(&[0.005])],
            vec![3, 0],
        ),
        (
            "nobody is ejected who is out",
            vec![took(&[0.5]).out(), took(&[0.005]), took(&[0.006])],
            vec![],
        ),
    ] {
        assert_eq!(ejected(&config, &fleet), expected, "{rule}");
    }
}

#[test]
fn no_more_than_a_share_of_the_fleet_is_out() {
    let bad = || did(10, 90, 0);
    let good = || did(100, 0, 0);
    for (rule, share_max, fleet, expected) in [
        ("half of five is two", 0.5, vec![bad(), bad(), good(), good(), good()], vec![0, 1]),
        ("of these a fifth is one", 0.2, vec![bad(), bad(), good(), good(), good()], vec![0]),
        ("one may always be", 0.01, vec![bad(), bad(), good(), good(), good()], vec![0]),
        (
            "out for another reason",
            0.5,
            vec![bad(), good().out(), good().out(), good(), good()],
            vec![],
        ),
        ("never the last that is in", 1.0, vec![bad(), good().out(), good().out()], vec![]),
        ("all but one", 1.0, vec![bad(), good()], vec![0]),
        ("nobody at all", 0.0, vec![bad(), good(), good()], vec![]),
        ("no number, no ejection", f64::NAN, vec![bad(), good(), good()], vec![]),
        ("alone", 1.0, vec![bad()], vec![]),
    ] {
        let config = EjectionConfig { share_max, ..EjectionConfig::default() };
        assert_eq!(ejected(&config, &fleet), expected, "{rule}");
    }
}

#[test]
fn it_returns_when_its_time_is_over_and_stays_out_longer_each_time() {
    let config = EjectionConfig::default();
    let mut now = clock::start();
    let mut ejections = [1, 2, 3].map(|seed| Ejection::new(&config, seed));
    let mut judged = |bad: bool, now| {
        let bad = if bad { did(10, 90, 0) } else { did(0, 0, 0) };
        let fleet = [bad, did(100, 0, 0), did(100, 0, 0)];
        let mut workers: Vec<_> =
            fleet.iter().zip(&mut ejections).map(|(did, ejection)| did.before(ejection)).collect();
        judge(&config, &mut workers, now)
    };
    for seconds in [30, 60, 120, 240, 300, 300] {
        let changes = judged(true, now);
        let [(0, Change::Ejected(status))] = changes[..] else { panic!("{changes:?}") };
        let least = SECOND * seconds;
        assert!((least..least + least / 5).contains(&status.returns_in), "{status:?}");
        now += status.returns_in - Duration::from_nanos(1);
        assert_eq!(judged(true, now), [], "it is out already");
        now += Duration::from_nanos(1);
        assert_eq!(judged(false, now), [(0, Change::Returned)]);
        assert_eq!(judged(false, now), []);
    }
}

#[test]
fn a_new_process_is_asked_at_once() {
    let config = EjectionConfig::default();
    let now = clock::start();
    let mut ejection = Ejection::new(&config, 1);
    ejection.eject(EjectionReason::Slow { factor: 50.0 }, now);
    ejection.restarted(now);
    assert_eq!(ejection.status(now), None);
    assert_eq!(ejection.count(), 1);
}

#[test]
fn panic_begins_below_the_threshold() {
    for (healthy, of, threshold, expected) in [
        (5, 10, 0.5, false),
        (4, 10, 0.5, true),
        (1, 2, 0.5, false),
        (1, 3, 0.5, true),
        (0, 1, 0.5, true),
        (0, 0, 0.5, false),
        (0, 10, 0.0, false),
        (0, 10, f64::NAN, false),
        (9, 10, 1.0, true),
    ] {
        assert_eq!(panics(healthy, of, threshold), expected, "{healthy} of {of} at {threshold}");
    }
}
