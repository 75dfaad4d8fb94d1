//! The judge against a second implementation of its rules, over random fleets and histories.
//!
//! The model judges one worker at a time and by counting: how many workers did better, how many
//! are out. It sorts nothing and knows no median.

use std::time::{Duration, Instant};

use inferring_policy::circuit_breaker::Tally;
use inferring_policy::ejection::{self, Change, DEVIATIONS, MeanTime, Worker};
use inferring_policy::{Ejection, EjectionConfig, PenaltyConfig};
use inferring_types::{EjectionReason, ModelVersion};
use proptest::prelude::*;

use crate::start;

const FIRST: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Did {
    tally: Tally,
    /// The times of model `a` and `b`, in seconds, with the number of answers.
    times: [(u32, f64); 2],
    out: bool,
}

fn did() -> impl Strategy<Value = Did> {
    let counts = prop_oneof![
        4 => (20..200_u32, 0..5_u32, 0..5_u32),
        2 => (0..200_u32, 0..200_u32, 0..20_u32),
        1 => (0..50_u32, 0..50_u32, 0..50_u32),
        1 => Just((0, 0, 0)),
    ];
    let tally =
        counts.prop_map(|(successes, failures, refusals)| Tally { successes, failures, refusals });
    let time = || {
        prop_oneof![
            3 => (0..100_u32, 0.004..0.006_f64),
            1 => (0..100_u32, 0.001..1.0_f64),
        ]
    };
    (tally, time(), time(), prop::bool::weighted(0.1)).prop_map(|(tally, a, b, out)| Did {
        tally,
        times: [a, b],
        out,
    })
}

/// Rounds of what every worker did, and how long each round lasts.
fn rounds() -> impl Strategy<Value = Vec<(Vec<Did>, Duration)>> {
    (1..9_usize).prop_flat_map(|size| {
        let fleet = prop::collection::vec(did(), size);
        let lasts = (0..8000_u64).prop_map(Duration::from_millis);
        prop::collection::vec((fleet, lasts), 1..20)
    })
}

fn configs() -> impl Strategy<Value = EjectionConfig> {
    (1..40_u32, 0.05..0.5_f64, 2.0..20.0_f64, 0..100_u64, 0.0..1.1_f64).prop_map(
        |(samples_min, margin, slow_factor, excess, share_max)| EjectionConfig {
            samples_min,
            margin,
            slow_factor,
            slow_excess: Duration::from_millis(excess),
            share_max,
            time: PenaltyConfig { first: FIRST, max: 4 * FIRST },
        },
    )
}

/// The smallest value that at least half of all are not above.
fn middle_from_below(values: &[f64]) -> Option<f64> {
    let is_middle = |value: &f64| 2 * values.iter().filter(|v| *v <= value).count() >= values.len();
    values.iter().copied().filter(is_middle).reduce(f64::min)
}

fn middle_from_above(values: &[f64]) -> Option<f64> {
    let negative: Vec<_> = values.iter().map(|value| -value).collect();
    middle_from_below(&negative).map(|value| -value)
}

fn rates(config: &EjectionConfig, fleet: &[Did]) -> Vec<Option<f64>> {
    let refused = |did: &&Did| did.tally.all() >= config.samples_min;
    let shares: Vec<_> = fleet
        .iter()
        .filter(refused)
        .map(|did| f64::from(did.tally.refusals) / f64::from(did.tally.all()))
        .collect();
    let crowded = middle_from_below(&shares).is_none_or(|share| share >= 0.1);
    fleet
        .iter()
        .map(|did| {
            let Tally { successes, failures, refusals } = did.tally;
            let all = successes + failures + if crowded { 0 } else { refusals };
            (all >= config.samples_min).then(|| f64::from(successes) / f64::from(all))
        })
        .collect()
}

/// Whether the worker at `place` fails too often, by the whole fleet's rates.
fn is_failing(config: &EjectionConfig, rates: &[Option<f64>], place: usize) -> bool {
    let known: Vec<f64> = rates.iter().flatten().copied().collect();
    let (Some(rate), true) = (rates[place], known.len() >= 2) else { return false };
    let typical = middle_from_above(&known).unwrap();
    let off: Vec<_> = known.iter().map(|rate| (rate - typical).abs()).collect();
    let spread = 1.4826 * middle_from_below(&off).unwrap();
    rate < typical - config.margin && rate < typical - DEVIATIONS * spread
}

fn is_slow(config: &EjectionConfig, fleet: &[Did], place: usize) -> bool {
    let (mut answers, mut log_ratio, mut excess) = (0.0, 0.0, 0.0);
    for model in 0..2 {
        let enough = |did: &&Did| did.times[model].0 >= config.samples_min;
        let known: Vec<_> = fleet.iter().filter(enough).map(|did| did.times[model].1).collect();
        let (count, time) = fleet[place].times[model];
        if known.len() >= 2 && count > 0 {
            let typical = middle_from_below(&known).unwrap();
            answers += f64::from(count);
            log_ratio += f64::from(count) * (time / typical).ln();
            excess += f64::from(count) * (time - typical);
        }
    }
    answers >= f64::from(config.samples_min)
        && (log_ratio / answers).exp() >= config.slow_factor
        && excess / answers >= config.slow_excess.as_secs_f64()
}

fn means(did: &Did) -> Vec<MeanTime> {
    let mean = |(model, &(answers, time)): (&str, &(u32, f64))| MeanTime {
        model: model.parse().unwrap(),
        version: ModelVersion::first(),
        answers,
        mean_ln: time.ln(),
    };
    ["a", "b"].into_iter().zip(&did.times).filter(|(_, time)| time.0 > 0).map(mean).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_judge_does_what_its_model_does(config in configs(), rounds in rounds()) {
        let mut now = start();
        let size = rounds[0].0.len();
        let mut ejections: Vec<_> =
            (0..).map(|seed| Ejection::new(&config, seed)).take(size).collect();
        // Until when each is out by the judge's hand.
        let mut until: Vec<Option<Instant>> = vec![None; size];
        for (fleet, lasts) in rounds {
            now += lasts;
            let mut workers: Vec<_> = fleet
                .iter()
                .zip(&mut ejections)
                .map(|(did, ejection)| {
                    Worker { ejection, tally: did.tally, times: means(did), out: did.out }
                })
                .collect();
            let changes = ejection::judge(&config, &mut workers, now);

            for place in 0..size {
                let returned = until[place].is_some_and(|until| now >= until);
                prop_assert_eq!(changes.contains(&(place, Change::Returned)), returned);
                if returned {
                    until[place] = None;
                }
            }
            let rates = rates(&config, &fleet);
            let was_in = |place: usize| !fleet[place].out && until[place].is_none();
            let out_before = (0..size).filter(|&place| !was_in(place)).count();
            let allowed = if config.share_max <= 0.0 {
                0
            } else {
                let share = (config.share_max.min(1.0) * size as f64).floor() as usize;
                (size - 1).min(share.max(1)).saturating_sub(out_before)
            };
            let failing: Vec<_> =
                (0..size).filter(|&p| was_in(p) && is_failing(&config, &rates, p)).collect();
            let slow: Vec<_> = (0..size)
                .filter(|&p| was_in(p) && is_slow(&config, &fleet, p) && !failing.contains(&p))
                .collect();
            let ejected: Vec<_> = changes
                .iter()
                .filter_map(|(place, change)| match change {
                    Change::Ejected(status) => Some((*place, *status)),
                    Change::Returned => None,
                })
                .collect();
            prop_assert_eq!(ejected.len(), allowed.min(failing.len() + slow.len()));
            for &(place, status) in &ejected {
                match status.reason {
                    EjectionReason::Failing { success_rate, .. } => {
                        prop_assert!(failing.contains(&place));
                        // Whoever fails more is out as well.
                        for &worse in &failing {
                            let is_worse = rates[worse].unwrap() < success_rate;
                            prop_assert!(!is_worse || ejected.iter().any(|(p, _)| *p == worse));
                        }
                    }
                    EjectionReason::Slow { factor } => {
                        prop_assert!(slow.contains(&place) && factor >= config.slow_factor);
                        prop_assert!(failing.iter().all(|f| ejected.iter().any(|(p, _)| p == f)));
                    }
                }
                prop_assert!(status.returns_in >= FIRST);
                prop_assert!(status.returns_in <= 4 * FIRST + 4 * FIRST / 5);
                until[place] = Some(now + status.returns_in);
            }
            for (ejection, until) in ejections.iter().zip(&until) {
                prop_assert_eq!(ejection.status(now).map(|it| now + it.returns_in), *until);
            }
        }
    }
}
