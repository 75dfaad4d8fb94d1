//! Prints how the scheduler does beside other rules of batching. See `bench/batching-simulation`.

mod simulation;

use simulation::arrivals::{Arrivals, Deadlines};
use simulation::curves::CURVES;
use simulation::ours::Ours;
use simulation::rivals::{Rival, Rule};
use simulation::{Outcome, Scenario};

fn main() {
    let count: usize = std::env::args().nth(1).map_or(20_000, |n| n.parse().unwrap());
    let only: Option<String> = std::env::args().nth(2);
    println!("worst of each: ours/best");
    for curve in CURVES {
        if only.as_ref().is_some_and(|only| !curve.name.contains(only.as_str())) {
            continue;
        }
        for instances in [1, 2] {
            for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
                for deadlines in [Deadlines::Uniform, Deadlines::Mixed] {
                    for load in std::env::var("LOADS").map_or(vec![0.2, 0.5, 0.95, 2.0], |l| {
                        l.split(',').map(|l| l.parse().unwrap()).collect()
                    }) {
                        let scenario = Scenario {
                            curve,
                            instances,
                            arrivals,
                            deadlines,
                            load,
                            requests: count,
                            seed: std::env::var("SEED").map_or(7, |s| s.parse().unwrap()),
                            change: std::env::var("CHANGE").map_or(1.0, |s| s.parse().unwrap()),
                        };
                        let label = format!(
                            "{} x{instances} {arrivals:?} {deadlines:?} {load}",
                            curve.name
                        );
                        if std::env::args().nth(3).is_some_and(|only| !label.contains(&only)) {
                            continue;
                        }
                        let mut policy = Ours::new(
                            &scenario,
                            std::env::var("ERROR").map_or(1.0, |s| s.parse().unwrap()),
                        );
                        let ours = scenario.run(&mut policy);
                        let rivals = Rule::ALL
                            .map(|rule| (rule.name(), scenario.run(&mut Rival::new(rule, curve))));
                        let best = rivals.iter().map(|r| r.1.goodput).fold(0.0, f64::max);
                        let eager = rivals[1].1;
                        let flag = if ours.goodput < 0.98 * best { "<<<" } else { "" };
                        let flag2 =
                            if load < 0.3 && ours.p50 > 1.01 * eager.p50 { "p50!" } else { "" };
                        println!(
                            "{:12} x{instances} {:8} {:8} {load:4}: ours {} ref {:.3} late {:.3} | {} {flag}{flag2}",
                            curve.name,
                            format!("{arrivals:?}"),
                            format!("{deadlines:?}"),
                            show(&ours, curve.seconds(1)),
                            policy.refused as f64 / count as f64,
                            policy.late as f64 / count as f64,
                            rivals
                                .iter()
                                .map(|(name, outcome)| format!(
                                    "{name} {:.3}/{:.3}",
                                    outcome.goodput,
                                    outcome.p50 / curve.seconds(1)
                                ))
                                .collect::<Vec<_>>()
                                .join(" "),
                        );
                    }
                }
            }
        }
    }
}

fn show(outcome: &Outcome, unit: f64) -> String {
    format!(
        "{:.3} p50 {:.3} p99 {:.1} b {:.1} w {:.3}",
        outcome.goodput,
        outcome.p50 / unit,
        outcome.p99 / unit,
        outcome.batch,
        outcome.wasted
    )
}
