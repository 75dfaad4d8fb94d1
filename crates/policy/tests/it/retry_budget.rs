//! The budget of extra tries against a plain model, and its promise over any stretch of time.

use std::time::Duration;

use inferring_policy::{RetryBudget, RetryBudgetConfig};
use proptest::prelude::*;

use crate::start;

#[derive(Debug, Clone)]
enum Step {
    /// Requests come.
    Requests(u64),
    /// One extra try is asked for, while so many requests are at work.
    Ask(u64),
    /// The oldest extra try ends.
    End,
    Advance(Duration),
}

/// For how long an extra try is part of a burst.
const BURST: Duration = Duration::from_millis(250);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..200_u64).prop_map(Step::Requests),
        6 => (0..100_u64).prop_map(Step::Ask),
        4 => Just(Step::End),
        2 => (0..3000_u64).prop_map(|passed| Step::Advance(Duration::from_millis(passed))),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn extra_tries_keep_both_bounds(
        share in 0.0..1.0_f64, in_flight_min in 0..6_u32, reserve_per_second in 0..20_u32,
        steps in steps(),
    ) {
        let config = RetryBudgetConfig { share, in_flight_min, reserve_per_second };
        let budget = RetryBudget::new(config);
        let begin = start();
        let (mut now, mut requests) = (begin, 0_u64);
        let mut out = std::collections::VecDeque::new();
        // (moment, requests so far) of each extra try, for the bound over every stretch.
        let mut taken: Vec<(Duration, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Requests(count) => requests += count,
                Step::Advance(passed) => now += passed,
                Step::End => drop(out.pop_front()),
                Step::Ask(active) => {
                    let young = |(_, begun): &&(_, Duration)| now - begin < *begun + BURST;
                    let burst = out.iter().filter(young).count();
                    let room =
                        (burst + 1) as f64 <= (share * active as f64).max(f64::from(in_flight_min));
                    let permit = budget.try_acquire(active, requests, now);
                    prop_assert!(permit.is_none() || room);
                    if permit.is_some() {
                        taken.push((now - begin, requests));
                    }
                    out.extend(permit.map(|permit| (permit, now - begin)));
                }
            }
            let burst = out.iter().filter(|(_, begun)| now - begin < *begun + BURST).count();
            prop_assert_eq!(budget.in_burst(now), burst);
        }
        let reserve = f64::from(reserve_per_second);
        let total = taken.len() as f64;
        if let Some(&(at, requests)) = taken.last() {
            let bound = share * requests as f64 + reserve * (1.0 + at.as_secs_f64());
            prop_assert!(total <= bound + 1e-6, "{total} extra tries, at most {bound}");
        }
    }

    /// Where both bounds have room, nobody is refused: a failed request in a healthy fleet is
    /// always tried again.
    #[test]
    fn a_rare_failure_always_has_its_second_try(seconds in prop::collection::vec(0..5_u64, 1..100)) {
        let (budget, mut now, mut requests) =
            (RetryBudget::new(RetryBudgetConfig::default()), start(), 0);
        for passed in seconds {
            now += Duration::from_secs(passed);
            requests += 5;
            prop_assert!(budget.try_acquire(1, requests, now).is_some());
        }
    }
}
