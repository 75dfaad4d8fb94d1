//! Waiting for a moment, more exactly than the runtime's timer does.
//!
//! The runtime's timer rounds up to the next millisecond. In an open loop that wait counts
//! into every latency, and would be several times what a fast server takes. The kernel's own
//! timer is late by some 50 µs only.

use tokio::time::Instant;

/// Waits for one moment at a time.
pub(crate) enum Alarm {
    /// The kernel's timer.
    #[cfg(target_os = "linux")]
    Exact(linux::KernelTimer),
    /// The runtime's timer, exact to a millisecond. It follows the virtual time of tests.
    Runtime,
}

impl Alarm {
    /// The most exact alarm that the system has.
    pub(crate) fn exact() -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = linux::KernelTimer::new() {
            return Self::Exact(timer);
        }
        Self::Runtime
    }

    /// Returns at `due`, or at once where that has passed. Cancel-safe.
    pub(crate) async fn wait_until(&self, due: Instant) {
        let remaining = due.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Self::Exact(timer) = self
            && timer.wait(remaining).await.is_ok()
        {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(crate) struct KernelTimer(AsyncFd<OwnedFd>);

    impl KernelTimer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(unsafe_code, reason = "the runtime has no safe way to watch a descriptor")]
            // SAFETY: an `OwnedFd` is open and names one descriptor for as long as it lives, and
            // the `AsyncFd` owns it until its own end.
            let watched = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
            Ok(Self(watched))
        }

        pub(super) async fn wait(&self, remaining: Duration) -> io::Result<()> {
            let it_value = Timespec::try_from(remaining).map_err(io::Error::other)?;
            let once = Itimerspec { it_interval: Timespec::default(), it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                // Readiness may be left over from a wait that was given up; setting the timer
                // has taken its expiry back, so that the read would block.
                let mut expirations = [0; 8];
                let read =
                    ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
                if let Ok(result) = read {
                    // It rings once: the next wait need not find that out by reading.
                    ready.clear_ready();
                    return result.map(drop);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn it_never_rings_early_even_after_a_wait_given_up() {
        for alarm in [Alarm::exact(), Alarm::Runtime] {
            let given_up = alarm.wait_until(Instant::now() + Duration::from_secs(60));
            tokio::time::timeout(Duration::from_millis(2), given_up).await.unwrap_err();
            for wait in [0, 1, 300, 1_500, 3_000].map(Duration::from_micros) {
                let due = Instant::now() + wait;
                alarm.wait_until(due).await;
                assert!(Instant::now() >= due);
            }
        }
    }

    #[tokio::test]
    async fn a_moment_that_passed_unawaited_does_not_ring_for_the_next_one() {
        let alarm = Alarm::exact();
        {
            let mut given_up = std::pin::pin!(alarm.wait_until(Instant::now() + MILLISECOND));
            let polled = std::future::poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            // The runtime sees the kernel's timer ring, but nobody reads it.
            tokio::time::sleep(20 * MILLISECOND).await;
        }
        let due = Instant::now() + 20 * MILLISECOND;
        alarm.wait_until(due).await;
        assert!(Instant::now() >= due);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernels_timer_is_at_hand() {
        assert!(matches!(Alarm::exact(), Alarm::Exact(_)));
    }
}
