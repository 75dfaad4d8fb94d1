//! When each request is sent.
//!
//! In a *closed loop* each connection sends its next request when it has the answer to the last
//! one: a slow server is asked less, and a stall hides all the requests that would have come in
//! meanwhile. That is right for finding out what a server can do at most. In an *open loop*
//! requests are due at a constant rate, whatever the server does, as those of independent users
//! are. A request that is late because no connection was free still counts from the moment it
//! was due: so no stall is left out ("coordinated omission", G. Tene, 2013).

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::alarm::Alarm;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Back to back on every connection.
    Closed,
    /// At a constant rate, spread over the connections that are free.
    Open {
        /// Requests per second, above zero.
        rate: f64,
    },
}

/// When a run ends: at the first bound that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests sent.
    pub requests: Option<u64>,
    /// Time during which requests fall due; those under way are still awaited.
    pub duration: Option<Duration>,
}

impl Limit {
    /// This many requests, however long they take.
    pub fn requests(count: u64) -> Self {
        Self { requests: Some(count), duration: None }
    }
}

/// Leave to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Counts from 0.
    pub(crate) index: u64,
    /// The intended start, from which the latency counts.
    pub(crate) due: Instant,
}

/// Hands out tickets, each at its time.
pub(crate) struct Pacer {
    schedule: Schedule,
    limit: Limit,
    start: Instant,
    turn: Mutex<Turn>,
}

struct Turn {
    next: u64,
    alarm: Alarm,
}

impl Pacer {
    pub(crate) fn new(schedule: Schedule, limit: Limit, start: Instant, alarm: Alarm) -> Self {
        Self { schedule, limit, start, turn: Mutex::new(Turn { next: 0, alarm }) }
    }

    /// Waits for the next ticket; `None` once the run is over.
    ///
    /// Connections without work queue up on the lock, and the first of them waits for the
    /// moment: tickets go out in order, and one timer serves all. Cancel-safe: a ticket counts
    /// as handed out only when it is returned.
    pub(crate) async fn next(&self) -> Option<Ticket> {
        let mut turn = self.turn.lock().await;
        let index = turn.next;
        if self.limit.requests.is_some_and(|requests| index >= requests) {
            return None;
        }
        let due = match self.schedule {
            Schedule::Closed => Instant::now(),
            Schedule::Open { rate } => self.start + Duration::from_secs_f64(index as f64 / rate),
        };
        if self.limit.duration.is_some_and(|duration| due >= self.start + duration) {
            return None;
        }
        if let Schedule::Open { .. } = self.schedule {
            turn.alarm.wait_until(due).await;
        }
        turn.next += 1;
        Some(Ticket { index, due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pacer(schedule: Schedule, limit: Limit) -> Pacer {
        Pacer::new(schedule, limit, Instant::now(), Alarm::Runtime)
    }

    #[tokio::test(start_paused = true)]
    async fn a_constant_rate_is_held_and_does_not_drift() {
        let limit = Limit { requests: None, duration: Some(10 * SECOND) };
        let pacer = pacer(Schedule::Open { rate: 300.0 }, limit);
        let start = Instant::now();
        let mut count = 0;
        while let Some(ticket) = pacer.next().await {
            let due = Duration::from_secs_f64(count as f64 / 300.0);
            assert_eq!(ticket, Ticket { index: count, due: start + due });
            // Virtual time moves in milliseconds.
            let late = Instant::now().saturating_duration_since(ticket.due);
            assert!(late <= Duration::from_millis(1), "{late:?}");
            count += 1;
        }
        assert_eq!(count, 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_missed_meanwhile_are_due_at_once_at_their_own_time() {
        let pacer = pacer(Schedule::Open { rate: 10.0 }, Limit::requests(20));
        let start = Instant::now();
        tokio::time::advance(SECOND).await;
        for index in 0..=10 {
            let ticket = pacer.next().await.unwrap();
            assert_eq!(ticket.due, start + Duration::from_millis(100 * index));
            assert_eq!(Instant::now(), start + SECOND);
        }
        pacer.next().await.unwrap();
        assert_eq!(Instant::now(), start + Duration::from_millis(1100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_hands_out_tickets_until_the_first_bound() {
        let both = Limit { requests: Some(3), duration: Some(SECOND) };
        let by_count = pacer(Schedule::Closed, both);
        for _ in 0..3 {
            assert_eq!(by_count.next().await.unwrap().due, Instant::now());
        }
        assert_eq!(by_count.next().await, None);

        let by_time = pacer(Schedule::Closed, both);
        assert!(by_time.next().await.is_some());
        tokio::time::advance(SECOND).await;
        assert_eq!(by_time.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_given_up_loses_no_ticket() {
        let pacer = pacer(Schedule::Open { rate: 1.0 }, Limit::requests(2));
        pacer.next().await.unwrap();
        tokio::time::timeout(SECOND / 2, pacer.next()).await.unwrap_err();
        assert_eq!(pacer.next().await.unwrap().index, 1);
    }
}
