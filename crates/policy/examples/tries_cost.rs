//! What a request pays at a gateway for limits and hedges while all is well: nanoseconds to be let
//! in and counted out, and to be timed; and what leave for a retry costs, by the number of threads.
//!
//! ```text
//! cargo run --release -p inferring-policy --example tries_cost
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inferring_policy::{
    AnswerTime, AnswerTimes, Completion, ConcurrencyLimit, ConcurrencyLimitConfig, HedgeConfig,
    RetryBudget, RetryBudgetConfig, Urgency,
};

const REQUESTS: u64 = 1_000_000;

fn main() {
    println!("| threads | a counter, ns | let in and out | timed | leave for a retry |");
    println!("|---|---|---|---|---|");
    for threads in [1, 2] {
        // What was there before: a request counted in and out.
        let gauge = AtomicU64::new(0);
        let counted = best(threads, |_| {
            gauge.fetch_add(1, Ordering::Relaxed);
            gauge.fetch_sub(1, Ordering::Relaxed);
        });
        let limit = ConcurrencyLimit::new(ConcurrencyLimitConfig::default());
        let admitted = best(threads, |now| {
            let ticket = limit.try_enter(Urgency::Ordinary).expect("there is room");
            let (ran, allowed) = (Duration::from_micros(80), Duration::from_secs(30));
            let began = now - Duration::from_micros(100);
            ticket.complete(Completion { began, ran, allowed }, now);
        });
        let (times, epoch) = (AnswerTimes::new(HedgeConfig::default()), Instant::now());
        let timed = best(threads, |now| {
            black_box(times.hedge_delay());
            let varied = now.saturating_duration_since(epoch).as_micros() as u64 * 7919 % 97;
            let time = Duration::from_micros(100 + varied);
            times.record(AnswerTime { worker: 7, time, ran: Some(time) }, now);
        });
        let budget = RetryBudget::new(RetryBudgetConfig::default());
        let retried = best(threads, |now| {
            black_box(budget.try_acquire(512, REQUESTS, now));
        });
        println!("| {threads} | {counted:.0} | {admitted:.0} | {timed:.0} | {retried:.0} |");
    }
}

/// Nanoseconds for each call, in the best of a few rounds.
fn best(threads: u32, call: impl Fn(Instant) + Sync) -> f64 {
    let round = || {
        let (began, share) = (Instant::now(), REQUESTS / u64::from(threads));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for request in 0..share {
                        call(began + Duration::from_micros(request));
                    }
                });
            }
        });
        began.elapsed()
    };
    let best = (0..5).map(|_| round()).min().expect("it was measured");
    best.as_nanos() as f64 / (REQUESTS / u64::from(threads)) as f64
}
