//! The tables.

use crate::simulation::arrivals::{Arrivals, Deadlines};
use crate::simulation::ours::Ours;
use crate::simulation::rivals::{Rival, Rule};
use crate::simulation::{Outcome, Scenario, cases as all_cases};

/// A case under every policy: ours first, then [`Rule::ALL`].
struct Compared {
    scenario: Scenario,
    outcomes: Vec<Outcome>,
    refused: f64,
    late: f64,
}

impl Compared {
    /// Means over that many seeds.
    fn new(scenario: Scenario, seeds: u64, learnt_wrong: f64) -> Self {
        let mut outcomes = vec![Outcome::default(); 1 + Rule::ALL.len()];
        let (mut refused, mut late) = (0, 0);
        for seed in 1..=seeds {
            let scenario = Scenario { seed, ..scenario };
            let mut ours = Ours::new(&scenario, learnt_wrong);
            outcomes[0].add(&scenario.run(&mut ours));
            refused += ours.refused;
            late += ours.late;
            for (outcome, rule) in outcomes[1..].iter_mut().zip(Rule::ALL) {
                outcome.add(&scenario.run(&mut Rival::new(rule, scenario.curve)));
            }
        }
        let all = (scenario.requests as u64 * seeds) as f64;
        let outcomes = outcomes.iter().map(|sum| sum.divided_by(seeds as f64)).collect();
        Self { scenario, outcomes, refused: refused as f64 / all, late: late as f64 / all }
    }

    fn ours(&self) -> &Outcome {
        &self.outcomes[0]
    }

    fn of(&self, rule: Rule) -> &Outcome {
        let index = Rule::ALL.iter().position(|&other| other == rule);
        &self.outcomes[1 + index.expect("all rules are listed")]
    }

    /// Our goodput over that of the best other.
    fn ratio(&self) -> f64 {
        let others = self.outcomes[1..].iter().map(|outcome| outcome.goodput);
        self.ours().goodput / others.fold(f64::MIN_POSITIVE, f64::max)
    }

    fn label(&self) -> String {
        let Scenario { curve, instances, arrivals, deadlines, load, .. } = self.scenario;
        format!("{}, {instances} × {arrivals:?}, {deadlines:?}, {load}", curve.name)
    }
}

pub(crate) fn cases(loads: &[f64], requests: usize, seeds: u64) {
    println!(
        "model,load,instances,arrivals,deadlines,policy,goodput,mean_ms,p50_ms,p99_ms,rows_per_run,answered_late"
    );
    for scenario in all_cases(loads, requests, 0) {
        let compared = Compared::new(scenario, seeds, 1.0);
        let Scenario { curve, instances, arrivals, deadlines, load, .. } = scenario;
        let names = std::iter::once("ours").chain(Rule::ALL.map(Rule::name));
        for (name, outcome) in names.zip(&compared.outcomes) {
            println!(
                "{},{load},{instances},{arrivals:?},{deadlines:?},{name},{:.4},{:.4},{:.4},{:.4},{:.2},{:.4}",
                curve.name,
                outcome.goodput,
                outcome.mean * 1e3,
                outcome.p50 * 1e3,
                outcome.p99 * 1e3,
                outcome.batch,
                outcome.wasted,
            );
        }
    }
}

pub(crate) fn summary(loads: &[f64], requests: usize, seeds: u64) {
    println!("{requests} requests a case, {seeds} seeds.\n");
    let compared: Vec<Compared> = all_cases(loads, requests, 0)
        .into_iter()
        .map(|scenario| Compared::new(scenario, seeds, 1.0))
        .collect();
    println!("## Answers in time, percent of all requests\n");
    goodput(&compared, loads);
    println!("\n## Times and batches: one instance, Poisson arrivals, mixed deadlines\n");
    times(&compared);
    println!("\n## The median on a quiet machine (load 0.2), over that of `eager`\n");
    quiet(&compared);
    println!("\n## What the scheduler does not know\n");
    surprises(loads, requests, seeds);
}

fn heading(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

fn goodput(compared: &[Compared], loads: &[f64]) {
    let rules = Rule::ALL.map(Rule::name);
    let mut columns = vec!["model", "load", "**ours**"];
    columns.extend(rules);
    columns.push("ours ÷ best other, worst of 8");
    heading(&columns);
    for cases in compared.chunks(compared.len() / 6 / loads.len()) {
        let Scenario { curve, load, .. } = cases[0].scenario;
        let mean = |policy: usize| {
            let sum: f64 = cases.iter().map(|case| case.outcomes[policy].goodput).sum();
            format!("{:.1}", 100.0 * sum / cases.len() as f64)
        };
        let others: Vec<String> = (1..=Rule::ALL.len()).map(mean).collect();
        let worst = cases.iter().map(Compared::ratio).fold(f64::INFINITY, f64::min);
        println!(
            "| {} | {load} | **{}** | {} | {worst:.3} |",
            curve.name,
            mean(0),
            others.join(" | "),
        );
    }
    let ratio = |a: &&Compared, b: &&Compared| a.ratio().total_cmp(&b.ratio());
    let worst = compared.iter().min_by(ratio).expect("there are cases");
    let behind = compared.iter().filter(|case| case.ratio() < 0.98).count();
    println!(
        "\nOf {} cases ours is more than 2 % behind the best other in {behind}; the worst is {:.3} ({}).",
        compared.len(),
        worst.ratio(),
        worst.label(),
    );
}

fn times(compared: &[Compared]) {
    heading(&[
        "model",
        "load",
        "ours: p50 / p99 ms",
        "rows per run",
        "refused",
        "dropped late",
        "answered late",
        "eager: p50 / p99 ms",
        "rows per run",
        "answered late",
    ]);
    for case in compared {
        let Scenario { curve, instances, arrivals, deadlines, load, .. } = case.scenario;
        if (instances, arrivals, deadlines) != (1, Arrivals::Poisson, Deadlines::Mixed) {
            continue;
        }
        let (ours, eager) = (case.ours(), case.of(Rule::Eager));
        println!(
            "| {} | {load} | {} / {} | {:.1} | {} | {} | {} | {} / {} | {:.1} | {} |",
            curve.name,
            milliseconds(ours.p50),
            milliseconds(ours.p99),
            ours.batch,
            percent(case.refused),
            percent(case.late),
            percent(ours.wasted),
            milliseconds(eager.p50),
            milliseconds(eager.p99),
            eager.batch,
            percent(eager.wasted),
        );
    }
}

fn quiet(compared: &[Compared]) {
    heading(&[
        "model",
        "Poisson, 1 instance",
        "Poisson, 2",
        "bursts, 1",
        "bursts, 2",
        "mean, bursts, 1",
    ]);
    let quiet: Vec<&Compared> = compared.iter().filter(|case| case.scenario.load == 0.2).collect();
    for cases in quiet.chunks(8) {
        let over_eager = |instances, arrivals, time: fn(&Outcome) -> f64| {
            let alike = cases.iter().filter(|case| {
                case.scenario.instances == instances && case.scenario.arrivals == arrivals
            });
            let ratios = alike.map(|case| time(case.ours()) / time(case.of(Rule::Eager)));
            ratios.fold(0.0, f64::max)
        };
        println!(
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            cases[0].scenario.curve.name,
            over_eager(1, Arrivals::Poisson, |outcome| outcome.p50),
            over_eager(2, Arrivals::Poisson, |outcome| outcome.p50),
            over_eager(1, Arrivals::Bursty, |outcome| outcome.p50),
            over_eager(2, Arrivals::Bursty, |outcome| outcome.p50),
            over_eager(1, Arrivals::Bursty, |outcome| outcome.mean),
        );
    }
}

fn surprises(loads: &[f64], requests: usize, seeds: u64) {
    heading(&["what happens", "cases", "more than 2 % behind", "worst", "where"]);
    for (name, learnt_wrong, change) in [
        ("costs were learnt at half of what they are", 0.5, 1.0),
        ("costs were learnt 1.5 times too high", 1.5, 1.0),
        ("costs were learnt 3 times too high", 3.0, 1.0),
        ("half-way the model becomes 3 times slower", 1.0, 3.0),
        ("half-way the model becomes 3 times faster", 1.0, 1.0 / 3.0),
    ] {
        let cases = all_cases(loads, requests, 0);
        // Who has next to nothing in time is not compared: a model three times slower may leave
        // nobody a chance.
        let compared: Vec<Compared> = cases
            .into_iter()
            .map(|scenario| Compared::new(Scenario { change, ..scenario }, seeds, learnt_wrong))
            .filter(|case| case.outcomes.iter().any(|outcome| outcome.goodput > 0.01))
            .collect();
        let ratio = |a: &&Compared, b: &&Compared| a.ratio().total_cmp(&b.ratio());
        let worst = compared.iter().min_by(ratio).expect("there are cases");
        let behind = compared.iter().filter(|case| case.ratio() < 0.98).count();
        println!(
            "| {name} | {} | {behind} | {:.3} | {} |",
            compared.len(),
            worst.ratio(),
            worst.label(),
        );
    }
}

fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    match milliseconds {
        0.0..1.0 => format!("{milliseconds:.4}"),
        1.0..100.0 => format!("{milliseconds:.1}"),
        _ => format!("{milliseconds:.0}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
