//! Ends what runs too long, and replaces what does not heed that.
//!
//! A run blocks the thread that makes it, so somebody else has to look at the clock. One thread
//! does for all models of a worker: it sleeps while nothing runs, and looks around at intervals
//! while something does. What is to be done about a run is the matter of whoever is watched.

mod attention;

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use attention::Attention;

use crate::system;
use crate::threads::Threads;

/// Something that runs now and then, and must not run for ever.
pub(crate) trait Watched: Send + Sync {
    /// Does what is to be done at `now`. It must not block.
    fn look(&self, now: Instant) -> Sight;
}

/// What there was to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// Whether anything runs.
    pub(crate) is_busy: bool,
    /// When to look again, as long as anything runs anywhere.
    pub(crate) again: Instant,
}

/// A thread that looks after what runs. There is none before there is something to watch.
pub(crate) struct Watchdog {
    attention: Arc<Attention>,
    watched: Arc<Mutex<Vec<Weak<dyn Watched>>>>,
    is_started: Mutex<bool>,
    threads: Threads,
}

impl Watchdog {
    /// The longest time between two looks while anything runs.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self {
            attention: Arc::new(Attention::new()),
            watched: Arc::default(),
            is_started: Mutex::new(false),
            threads: Threads::default(),
        }
    }

    /// Where those who are watched say that a run has begun.
    pub(crate) fn attention(&self) -> &Arc<Attention> {
        &self.attention
    }

    /// Watches it until it is dropped.
    ///
    /// # Errors
    /// The system's, where it starts no thread.
    pub(crate) fn watch(&self, new: Weak<dyn Watched>) -> io::Result<()> {
        {
            let mut watched = self.watched.lock();
            watched.retain(|old| old.strong_count() > 0);
            watched.push(new);
        }
        let mut is_started = self.is_started.lock();
        if !*is_started {
            let (attention, watched) = (self.attention.clone(), self.watched.clone());
            self.threads
                .start("watch runs".to_owned(), move || look_around(&attention, &watched))?;
            *is_started = true;
        }
        Ok(())
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.attention.close();
        self.threads.join();
    }
}

fn look_around(attention: &Attention, watched: &Mutex<Vec<Weak<dyn Watched>>>) {
    let mut goes_on = true;
    while goes_on {
        attention.look();
        let now = system::now();
        // Not under the lock: a look may start a thread, and the last hold on what is watched may
        // be this one.
        let there: Vec<_> = watched.lock().iter().filter_map(Weak::upgrade).collect();
        let sights: Vec<_> = there.iter().map(|watched| watched.look(now)).collect();
        drop(there);
        let is_busy = sights.iter().any(|sight| sight.is_busy);
        let again = sights.iter().map(|sight| sight.again).min();
        goes_on = attention.sleep(again.filter(|_| is_busy));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Tells of every look, and is busy as often as it is told to be.
    struct Told {
        looks: SyncSender<Instant>,
        busy: Mutex<usize>,
        again: Duration,
    }

    impl Watched for Told {
        fn look(&self, now: Instant) -> Sight {
            let mut busy = self.busy.lock();
            let is_busy = *busy > 0;
            *busy = busy.saturating_sub(1);
            drop(busy);
            // What is told to it from here on is for the next look.
            let _ = self.looks.try_send(now);
            Sight { is_busy, again: now + self.again }
        }
    }

    #[test]
    fn it_looks_again_while_something_runs_and_then_sleeps_until_it_is_told() {
        let watchdog = Watchdog::new();
        let (looks, looked) = sync_channel(100);
        let again = Duration::from_millis(2);
        let told = Arc::new(Told { looks, busy: Mutex::new(3), again });
        let weak: Weak<Told> = Arc::downgrade(&told);
        watchdog.watch(weak).unwrap();
        let mut last = looked.recv_timeout(PATIENCE).unwrap();
        for _ in 0..3 {
            let next = looked.recv_timeout(PATIENCE).unwrap();
            assert!(next >= last + again);
            last = next;
        }
        assert!(looked.try_recv().is_err(), "it sleeps");
        *told.busy.lock() = 1;
        watchdog.attention().notice();
        for _ in 0..2 {
            looked.recv_timeout(PATIENCE).unwrap();
        }
        drop(told);
        watchdog.close();
        assert!(looked.try_recv().is_err(), "what is gone is not looked at");
    }
}
