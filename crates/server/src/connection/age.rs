//! How old a connection may become.
//!
//! Connections that last for ever stay where they were made: at the server that a balancer chose
//! when there were fewer of them, and on the thread that had the fewest then. So a client is asked
//! now and then to connect anew, with an answer in its hands and none lost. Clients that all came
//! at one moment, as after a restart, are not asked at one moment.

use std::time::Duration;

use tokio::time::Instant;

/// When a connection is old; `None` for never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age(Option<Instant>);

impl Age {
    /// Of a connection that begins now and lasts for `max`, give or take a tenth; for ever where
    /// that is no time at all.
    pub(super) fn from_now(max: Duration) -> Self {
        let spread = 0.9 + 0.2 * fastrand::f64();
        let max = (!max.is_zero()).then(|| Duration::try_from_secs_f64(max.as_secs_f64() * spread));
        Self(max.and_then(|max| Instant::now().checked_add(max.ok()?)))
    }

    /// Whether it is old.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|end| end <= Instant::now())
    }

    /// Completes when it is.
    pub(super) async fn over(self) {
        match self.0 {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn connections_grow_old_about_then_and_not_together() {
        let began = Instant::now();
        let mut ages: Vec<_> = (0..1000).map(|_| Age::from_now(HOUR)).collect();
        ages.sort_by_key(|age| age.0);
        let (first, last) = (ages[0], ages[999]);
        first.over().await;
        assert!(first.is_over() && !last.is_over());
        assert!((HOUR * 9 / 10..HOUR * 92 / 100).contains(&began.elapsed()));
        last.over().await;
        assert!(ages.iter().all(|age| age.is_over()));
        assert!(
            (HOUR * 108 / 100..=HOUR * 11 / 10 + Duration::from_secs(1)).contains(&began.elapsed())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_they_never_do() {
        for max in [Duration::ZERO, Duration::MAX] {
            let age = Age::from_now(max);
            assert!(tokio::time::timeout(1000 * HOUR, age.over()).await.is_err(), "{max:?}");
            assert!(!age.is_over());
        }
    }
}
