//! Bounds what is asked of workers beyond one try for each request.
//!
//! A second try helps when one worker fails, and harms when all do: then every request is asked
//! twice of a fleet that cannot answer it once, and what was a fault becomes an overload. Two bounds
//! hold at the same time, for one alone leaves a gap:
//!
//! - **At a time**: of the extra tries that began within a quarter of a second, those at work are at
//!   most a share of the requests at work. That bounds a burst. What is at work for longer is none: a
//!   retry took the place of a try that had ended. Did it count on, a few at a worker that has just
//!   fallen silent would keep all others away until health checks find out.
//! - **Over time**: extra tries are at most the same share of the requests of the latest seconds,
//!   and a small reserve each second for gateways that see little traffic. Fast failures would
//!   pass the first bound one after the other.
//!
//! So over any time of `t` seconds, extra tries <= share · requests + reserve · (1 + t).
//! The reserve and the memory of the latest seconds are those of Finagle's and Linkerd's budgets;
//! the bound on tries at a time is nearly Envoy's, where they count until they end.
//!
//! Requests themselves are not counted here, so a request that is answered at the first try pays
//! nothing: who asks for leave tells how many there have been.

mod budget;

pub use self::budget::{RetryBudget, RetryBudgetConfig, RetryPermit};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn extra_tries_at_a_time_are_a_share_of_the_requests_or_a_few() {
        for (active, expected) in [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (512, 102)] {
            let (budget, now) = (RetryBudget::new(RetryBudgetConfig::default()), clock::start());
            let permits: Vec<_> =
                (0..1000).map_while(|_| budget.try_acquire(active, 1_000_000, now)).collect();
            assert_eq!(permits.len(), expected, "{active} active");
            assert_eq!(budget.in_burst(now), expected);
            drop(permits);
            assert_eq!(budget.in_burst(now), 0);
            assert!(budget.try_acquire(active, 1_000_000, now).is_some());
        }
    }

    #[test]
    fn a_try_that_is_long_at_work_is_no_burst() {
        let (budget, now) = (RetryBudget::new(RetryBudgetConfig::default()), clock::start());
        let ask = |milliseconds| {
            let now = now + Duration::from_millis(milliseconds);
            budget.try_acquire(1, 1_000_000, now)
        };
        let first: Vec<_> = [0, 0, 100].into_iter().map_while(ask).collect();
        assert_eq!(first.len(), 3);
        assert!(ask(249).is_none());
        let later: Vec<_> = [250, 250].into_iter().map_while(ask).collect();
        assert_eq!(later.len(), 2);
        assert!(ask(349).is_none(), "the third of the first still counts");
        drop(first);
        assert!(ask(349).is_some());
    }

    #[test]
    fn what_was_earned_long_ago_is_gone_and_the_reserve_comes_back() {
        let (budget, mut now) = (RetryBudget::new(RetryBudgetConfig::default()), clock::start());
        let taken = |requests, now| {
            (0..10_000).take_while(|_| budget.try_acquire(1, requests, now).is_some()).count()
        };
        assert_eq!(taken(100, now), 20 + 10);
        assert_eq!(taken(100, now), 0);
        now += Duration::from_millis(500);
        assert_eq!(taken(100, now), 5);
        // An hour of 1,000 requests a second: ten seconds of it count.
        now += Duration::from_secs(3600);
        assert_eq!(taken(100 + 3_600_000, now), 2000 + 10);
    }

    #[test]
    fn without_a_share_and_a_reserve_there_are_no_extra_tries() {
        for share in [0.0, -1.0, f64::NAN] {
            let config = RetryBudgetConfig { share, in_flight_min: 3, reserve_per_second: 0 };
            let budget = RetryBudget::new(config);
            assert!(budget.try_acquire(100, 1000, clock::start()).is_none(), "{share}");
        }
    }
}
