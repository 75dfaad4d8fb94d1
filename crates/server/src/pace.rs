//! How slow a client may be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Watches that bytes move: in every interval that is spent waiting for the client, at least so
/// many. Costs nothing while nobody waits.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// Bytes in an interval, at least 1.
    floor: u64,
    moved: u64,
    /// Ends the interval that runs.
    clock: Option<Pin<Box<Sleep>>>,
    /// Since when nothing is waited for, where an interval was running then.
    resting: Option<Instant>,
}

impl Pace {
    /// Who is waited for again sooner is waited for as before: an answer may consist of parts, and the
    /// client that takes each of them at last has not taken the answer.
    const PAUSE: Duration = Duration::from_millis(10);

    /// At least `rate_min` bytes a second, looked at every `interval`; where that is none, at
    /// least one byte in an interval.
    pub(crate) fn new(interval: Duration, rate_min: u64) -> Self {
        let floor = (rate_min as f64 * interval.as_secs_f64()) as u64;
        Self { interval, floor: floor.max(1), moved: 0, clock: None, resting: None }
    }

    /// Takes note of bytes.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// Nothing is waited for, for now.
    pub(crate) fn rest(&mut self) {
        self.resting = self.clock.is_some().then(Instant::now);
    }

    /// To be asked while the client is waited for: completes when it is too slow.
    pub(crate) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { interval, floor, moved, clock, resting } = self;
        if resting.take().is_some_and(|since| since.elapsed() > Self::PAUSE) {
            *clock = None;
        }
        let clock = clock.get_or_insert_with(|| {
            *moved = 0;
            Box::pin(tokio::time::sleep(*interval))
        });
        loop {
            ready!(clock.as_mut().poll(cx));
            if *moved < *floor {
                return Poll::Ready(());
            }
            *moved = 0;
            clock.as_mut().reset(Instant::now() + *interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it takes until a client is too slow that moves `bytes` every `every`, for at
    /// most a minute.
    async fn endured(bytes: usize, every: Duration) -> Duration {
        let mut pace = Pace::new(Duration::from_secs(10), 100);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            let too_slow = std::future::poll_fn(|cx| pace.poll_too_slow(cx));
            if tokio::time::timeout(every, too_slow).await.is_ok() {
                break;
            }
            pace.moved(bytes);
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_falls_below_the_rate_is_given_up_after_an_interval() {
        let second = Duration::from_secs(1);
        assert_eq!(endured(0, second).await.as_secs(), 10);
        assert_eq!(endured(1, second).await.as_secs(), 10);
        assert_eq!(endured(90, second).await.as_secs(), 10);
        assert_eq!(endured(120, second).await.as_secs(), 60);
        assert_eq!(endured(1000, 8 * second).await.as_secs(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_part_after_part_too_slowly_is_given_up() {
        let mut pace = Pace::new(Duration::from_secs(10), 100);
        let parts = async {
            loop {
                let too_slow = std::future::poll_fn(|cx| pace.poll_too_slow(cx));
                if tokio::time::timeout(Duration::from_secs(4), too_slow).await.is_ok() {
                    return;
                }
                pace.moved(300);
                pace.rest();
            }
        };
        let started = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), parts).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_does_not_run_while_nothing_is_waited_for() {
        let mut pace = Pace::new(Duration::from_secs(10), 0);
        for _ in 0..5 {
            let wait = tokio::time::timeout(
                Duration::from_secs(9),
                std::future::poll_fn(|cx| pace.poll_too_slow(cx)),
            );
            assert!(wait.await.is_err());
            pace.rest();
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }
}
