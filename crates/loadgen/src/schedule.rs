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

    /// How many requests fall due, where that does not hang on the server.
    pub(crate) fn requests_due(self, schedule: Schedule) -> Option<u64> {
        let by_time = match (schedule, self.duration) {
            (Schedule::Open { rate }, Some(duration)) => {
                Some((rate * duration.as_secs_f64()).ceil() as u64)
            }
            _ => None,
        };
        self.requests.into_iter().chain(by_time).min()
    }
}

/// Leave to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Counts from 0.
    pub(crate) index: u64,
    /// The intended start, from which the latency counts.
    pub(crate) due: Instant,
    /// Whether every connection was busy at that moment. A ticket that is late without this is
    /// the generator's own fault.
    pub(crate) awaited_connection: bool,
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
        let (mut turn, had_waited) = match self.turn.try_lock() {
            Ok(turn) => (turn, false),
            Err(_) => (self.turn.lock().await, true),
        };
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
        let mut awaited_connection = false;
        if let Schedule::Open { .. } = self.schedule {
            // At the start the connections are only on their way to the lock.
            awaited_connection = index > 0 && !had_waited && due < Instant::now();
            turn.alarm.wait_until(due).await;
        }
        turn.next += 1;
        Some(Ticket { index, due, awaited_connection })
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
            let expected = Ticket { index: count, due: start + due, awaited_connection: false };
            assert_eq!(ticket, expected);
            // Virtual time moves in milliseconds.
            let late = Instant::now().saturating_duration_since(ticket.due);
            assert!(late <= Duration::from_millis(1), "{late:?}");
            count += 1;
        }
        assert_eq!(count, 3000);
    }

    #[test]
    fn an_open_loop_knows_its_number_of_requests() {
        let (closed, open) = (Schedule::Closed, Schedule::Open { rate: 2.5 });
        for (schedule, requests, duration, due) in [
            (closed, None, Some(SECOND), None),
            (closed, Some(7), Some(SECOND), Some(7)),
            (open, Some(7), None, Some(7)),
            (open, None, Some(SECOND), Some(3)),
            (open, Some(2), Some(SECOND), Some(2)),
        ] {
            assert_eq!(Limit { requests, duration }.requests_due(schedule), due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_missed_meanwhile_are_due_at_once_at_their_own_time() {
        let pacer = pacer(Schedule::Open { rate: 10.0 }, Limit::requests(20));
        let start = Instant::now();
        tokio::time::advance(SECOND).await;
        for index in 0..=10 {
            let ticket = pacer.next().await.unwrap();
            assert_eq!(ticket.due, start + Duration::from_millis(100 * index));
            assert_eq!(ticket.awaited_connection, (1..10).contains(&index));
            assert_eq!(Instant::now(), start + SECOND);
        }
        assert!(!pacer.next().await.unwrap().awaited_connection);
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
