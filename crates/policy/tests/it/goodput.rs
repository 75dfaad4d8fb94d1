//! The claim of the simulator, at a size that a test can afford: on models of very different
//! costs, however requests come and whatever they are allowed, the scheduler answers as many of
//! them in time as the best of the other rules does.
//!
//! The program that prints it all, and what came of it, are in `examples/goodput` and
//! `bench/batching-simulation`.

#[expect(dead_code, reason = "the program uses more of it")]
#[path = "../../examples/goodput/simulation/mod.rs"]
mod simulation;

use simulation::arrivals::Arrivals;
use simulation::ours::Ours;
use simulation::rivals::{Rival, Rule};
use simulation::{Outcome, Scenario, cases};

const REQUESTS: usize = 2500;

fn compare(scenario: &Scenario, learnt_wrong: f64) -> (Outcome, Vec<(Rule, Outcome)>) {
    let ours = scenario.run(&mut Ours::new(scenario, learnt_wrong));
    let rivals = Rule::ALL.map(|rule| (rule, scenario.run(&mut Rival::new(rule, scenario.curve))));
    (ours, rivals.to_vec())
}

/// What a share of so many requests may be off by chance: two deviations, and 2 percent.
fn at_least(goodput: f64) -> f64 {
    let counted = 0.9 * REQUESTS as f64;
    0.98 * goodput - 2.0 * (goodput * (1.0 - goodput) / counted).sqrt()
}

#[test]
fn as_many_are_answered_in_time_as_under_the_best_other_rule() {
    let poisson = |case: &Scenario| case.arrivals == Arrivals::Poisson;
    for scenario in cases(&[0.5, 0.95, 2.0], REQUESTS, 11).iter().filter(|case| poisson(case)) {
        let (ours, rivals) = compare(scenario, 1.0);
        for (rule, outcome) in rivals {
            assert!(
                ours.goodput >= at_least(outcome.goodput),
                "{:.3} against {:.3} of {}: {scenario:?}",
                ours.goodput,
                outcome.goodput,
                rule.name(),
            );
        }
        // Under twice the load half of it can be answered, and nearly that much is.
        assert!(scenario.load < 2.0 || ours.goodput > 0.38, "{:.3}: {scenario:?}", ours.goodput);
    }
}

#[test]
fn on_a_quiet_machine_the_median_is_that_of_running_what_there_is() {
    let poisson = |case: &Scenario| case.arrivals == Arrivals::Poisson;
    for scenario in cases(&[0.2], REQUESTS, 12).iter().filter(|case| poisson(case)) {
        let (ours, rivals) = compare(scenario, 1.0);
        let eager = rivals.iter().find(|(rule, _)| *rule == Rule::Eager).expect("it is a rule").1;
        // Runs are drawn from the same numbers, but not in the same order.
        assert!(ours.p50 <= 1.02 * eager.p50, "{} and {}: {scenario:?}", ours.p50, eager.p50);
        assert!(ours.goodput > 0.995, "{:.3}: {scenario:?}", ours.goodput);
    }
}

#[test]
fn costs_that_were_learnt_wrong_or_change_are_found_out() {
    for (learnt_wrong, change) in [(0.5, 1.0), (3.0, 1.0), (1.0, 1.0 / 3.0)] {
        let poisson = |case: &Scenario| case.arrivals == Arrivals::Poisson;
        for case in cases(&[0.95], REQUESTS, 13).iter().filter(|case| poisson(case)) {
            let scenario = Scenario { change, ..*case };
            let (ours, rivals) = compare(&scenario, learnt_wrong);
            let best = rivals.iter().map(|(_, outcome)| outcome.goodput).fold(0.0, f64::max);
            assert!(
                ours.goodput >= at_least(best) - 0.03,
                "{:.3} against {best:.3}, learnt {learnt_wrong} times too high: {scenario:?}",
                ours.goodput,
            );
        }
    }
}
