//! When a request that has not been answered is worth asking of another worker as well.
//!
//! After the time within which 19 of 20 are answered, what is still out is more likely stuck than
//! nearly done, and asking again costs a twentieth more work at most (J. Dean, L. A. Barroso, "The
//! Tail at Scale"). Three things make that less simple than it sounds:
//!
//! **One slow worker is not the fleet.** Over all answers, a worker that is 100 times slower and
//! has a tenth of the keys *is* the slowest twentieth: hedges would wait as long as it takes. So
//! each worker's p95 is taken by itself, and the lower median of them holds for all.
//!
//! **A try that lost to its hedge was cancelled**, and nobody knows how long it would have taken.
//! Left out, it would draw the p95 down each time a hedge wins, and the hedges with it. It counts
//! with the time that it had: more than the p95 of before, so that its rank is right.
//!
//! **A hedge is no help where all wait**: it would stand in another queue, and make it longer.
//! While more than half of the answers have waited longer than they were computed, there is none,
//! wherever they waited: for an instance, or for a processor on their way. Waits that are shorter
//! than any hedge are none. What is out for [`STUCK`] times as long as others wait stands in no
//! queue, though: it is stuck, and worth a hedge at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The latest times that are kept of each worker.
const SAMPLES: usize = 128;
/// Times of a worker from which on it has a say.
const SAMPLES_MIN: usize = 32;
/// A worker that has not answered for so long has none.
const MEMORY: Duration = Duration::from_secs(60);
/// Times between two moments at which the delay is computed anew.
const STEP: u64 = 16;
/// How many times as long as the p95 a try must last to be stuck,
const STUCK: u32 = 10;
/// and how long at least: a busy machine may leave a process alone for some milliseconds.
const STUCK_MIN: Duration = Duration::from_millis(100);
/// Answers over which is reckoned whether they had to wait.
const WAITING_MEMORY: f64 = 32.0;

/// Bounds of the time after which a request is hedged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeConfig {
    /// Never sooner: what is answered so soon anyway is not worth a second try.
    pub delay_min: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { delay_min: Duration::from_millis(5) }
    }
}

/// How a try of a model ended that was answered, or lost to its hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerTime {
    /// A number of the worker, its own for as long as it is known.
    pub worker: u64,
    /// From the try's start to its answer, or to the moment at which it was given up.
    pub time: Duration,
    /// How long it was computed; `None` where it was not answered.
    pub ran: Option<Duration>,
}

/// The answer times of one model, and when to hedge by them.
#[derive(Debug)]
pub struct AnswerTimes {
    config: HedgeConfig,
    /// What follows from the times, in microseconds; [`NEVER`] where there is no telling. Read by
    /// each request, so it stands apart from the lock.
    delay: AtomicU64,
    p95: AtomicU64,
    inner: Mutex<Inner>,
}

const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Inner {
    workers: Vec<Window>,
    count: u64,
    /// The share of the latest answers that had to wait.
    waiting: f64,
}

/// The latest times of one worker.
#[derive(Debug)]
struct Window {
    worker: u64,
    /// In microseconds.
    times: Vec<f32>,
    next: usize,
    last: Instant,
}

impl AnswerTimes {
    /// Nothing is known yet, and nothing is hedged.
    pub fn new(config: HedgeConfig) -> Self {
        let unknown = || AtomicU64::new(NEVER);
        Self { config, delay: unknown(), p95: unknown(), inner: Mutex::default() }
    }

    /// After which time without an answer a request is worth a hedge; `None` while too few
    /// answers are known or workers have queues.
    pub fn hedge_delay(&self) -> Option<Duration> {
        duration_of(self.delay.load(Ordering::Relaxed)).map(|p95| p95.max(self.config.delay_min))
    }

    /// After which time without an answer a request is stuck, and worth a hedge even where workers
    /// have queues; `None` while too few answers are known.
    pub fn stuck_after(&self) -> Option<Duration> {
        self.p95().map(|p95| (p95 * STUCK).max(STUCK_MIN))
    }

    /// Within which time 19 of 20 tries are answered by a worker like most; `None` while too few
    /// are known.
    pub fn p95(&self) -> Option<Duration> {
        duration_of(self.p95.load(Ordering::Relaxed))
    }

    /// Takes note of a try. Answers out of a cache tell nothing of what computing takes: they are
    /// not to be told.
    ///
    /// Where another thread is at this in the same moment, the time is not counted: one of many
    /// changes nothing, and no request waits for statistics.
    pub fn record(&self, answer: AnswerTime, now: Instant) {
        let Some(mut inner) = self.inner.try_lock() else { return };
        inner.count += 1;
        if let Some(ran) = answer.ran {
            let waited = answer.time.saturating_sub(ran) > ran.max(self.config.delay_min);
            let weight = WAITING_MEMORY.recip();
            inner.waiting += (f64::from(u8::from(waited)) - inner.waiting) * weight;
        }
        inner.window_of(answer.worker, now).push(answer.time, now);
        if inner.count.is_multiple_of(STEP) {
            let p95 = inner.p95(now).map_or(NEVER, |micros| micros as u64);
            self.p95.store(p95, Ordering::Relaxed);
            let delay = if inner.waiting > 0.5 { NEVER } else { p95 };
            self.delay.store(delay, Ordering::Relaxed);
        }
    }
}

fn duration_of(micros: u64) -> Option<Duration> {
    (micros != NEVER).then(|| Duration::from_micros(micros))
}

impl Inner {
    fn window_of(&mut self, worker: u64, now: Instant) -> &mut Window {
        if let Some(index) = self.workers.iter().position(|window| window.worker == worker) {
            return &mut self.workers[index];
        }
        // Only a worker that is new here makes this list longer: those that are gone are let go.
        self.workers.retain(|window| window.is_recent(now));
        self.workers.push(Window { worker, times: Vec::new(), next: 0, last: now });
        self.workers.last_mut().expect("just pushed")
    }

    /// The lower median of the workers' p95s, in microseconds.
    fn p95(&self, now: Instant) -> Option<f32> {
        let known = self.workers.iter().filter(|window| window.is_recent(now));
        let mut p95s: Vec<f32> = known.filter_map(Window::p95).collect();
        let middle = p95s.len().checked_sub(1)? / 2;
        Some(*p95s.select_nth_unstable_by(middle, f32::total_cmp).1)
    }
}

impl Window {
    fn push(&mut self, time: Duration, now: Instant) {
        let micros = time.as_secs_f32() * 1e6;
        if self.times.len() < SAMPLES {
            self.times.push(micros);
        } else {
            self.times[self.next] = micros;
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = self.last.max(now);
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < MEMORY
    }

    /// The time that 95 of 100 do not exceed; `None` where they are too few.
    fn p95(&self) -> Option<f32> {
        let count = self.times.len();
        if count < SAMPLES_MIN {
            return None;
        }
        let mut sorted = [0.0; SAMPLES];
        let sorted = &mut sorted[..count];
        sorted.copy_from_slice(&self.times);
        let rank = (count * 95).div_ceil(100) - 1;
        Some(*sorted.select_nth_unstable_by(rank, f32::total_cmp).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn answer(worker: u64, time: Duration) -> AnswerTime {
        AnswerTime { worker, time, ran: Some(time) }
    }

    fn near(delay: Option<Duration>, expected: Duration) -> bool {
        delay.is_some_and(|delay| delay.abs_diff(expected) < expected / 100)
    }

    #[test]
    fn a_worker_has_a_say_after_some_answers_and_as_long_as_it_answers() {
        let (times, mut now) = (AnswerTimes::new(HedgeConfig::default()), clock::start());
        for count in 1..=48 {
            assert_eq!(times.hedge_delay().is_some(), count > 32, "{count}");
            times.record(answer(1, 20 * MS), now);
        }
        assert!(near(times.hedge_delay(), 20 * MS), "{:?}", times.hedge_delay());
        now += MEMORY;
        for _ in 0..16 {
            times.record(answer(2, 10 * MS), now);
        }
        assert_eq!((times.hedge_delay(), times.p95()), (None, None), "the first is gone");
    }

    #[test]
    fn one_slow_worker_does_not_move_the_delay_but_a_slow_fleet_does() {
        for (workers, slow, expected) in
            [(2, 1, 10), (3, 1, 10), (5, 2, 10), (3, 2, 1000), (1, 1, 1000)]
        {
            let (times, now) = (AnswerTimes::new(HedgeConfig::default()), clock::start());
            for _ in 0..128 {
                for worker in 0..workers {
                    let time = if worker < slow { 1000 } else { 10 };
                    times.record(answer(worker, time * MS), now);
                }
            }
            let delay = times.hedge_delay();
            assert!(near(delay, expected * MS), "{slow} of {workers}: {delay:?}");
        }
    }

    #[test]
    fn no_hedge_while_most_answers_waited_longer_than_they_ran() {
        let (times, now) = (AnswerTimes::new(HedgeConfig::default()), clock::start());
        let record = |ran, count| {
            for _ in 0..count {
                times.record(AnswerTime { ran, ..answer(1, 20 * MS) }, now);
            }
            times.hedge_delay()
        };
        let (computed, waited) = (Some(12 * MS), Some(9 * MS));
        assert!(record(computed, 64).is_some());
        assert!(record(waited, 16).is_some(), "a burst");
        assert_eq!(record(waited, 32), None);
        assert_eq!(record(None, 64), None, "who was not answered says nothing of that");
        assert!(near(times.stuck_after(), 200 * MS), "{:?}", times.stuck_after());
        assert!(record(computed, 64).is_some());
    }

    /// What is told of cancelled tries keeps the p95 where it is: left out, it would sink.
    #[test]
    fn the_delay_does_not_run_away_when_hedges_win() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (times, now) = (AnswerTimes::new(HedgeConfig::default()), clock::start());
            // 10 ms, and an exponential tail of 10 ms: 19 of 20 take at most 40 ms.
            let mut draw = || 10 * MS + (10 * MS).mul_f64(-(1.0 - random.f64()).ln());
            let (mut hedged, requests) = (0, 20_000);
            for request in 0..requests {
                let (first, worker) = (draw(), request % 3);
                let Some(delay) = times.hedge_delay().filter(|delay| *delay < first) else {
                    times.record(answer(worker, first), now);
                    continue;
                };
                hedged += 1;
                let second = draw();
                let ended = first.min(delay + second);
                times.record(answer(worker, ended), now);
                if ended < first {
                    times.record(answer((worker + 1) % 3, second), now);
                }
            }
            let share = f64::from(hedged) / requests as f64;
            assert!((0.03..0.08).contains(&share), "seed {seed}: {share} hedged");
        }
    }

    #[test]
    fn very_short_answers_are_never_hedged_at_once() {
        let (times, now) = (AnswerTimes::new(HedgeConfig::default()), clock::start());
        for _ in 0..64 {
            // It waits for longer than it runs, and nobody would notice.
            times.record(AnswerTime { ran: Some(MS / 100), ..answer(1, MS / 10) }, now);
        }
        assert_eq!(times.hedge_delay(), Some(5 * MS));
        assert!(near(times.p95(), MS / 10));
        assert_eq!(times.stuck_after(), Some(100 * MS));
    }
}
