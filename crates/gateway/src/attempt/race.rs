//! A try, and its hedge.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use inferring_types::{InferResponse, RouteReason, ServiceError};
use tokio::sync::futures::Notified;

use super::single::{Try, answer};
use super::{Work, count};
use crate::clock;

/// How a try with its hedge ended.
pub(super) enum End<'a> {
    Answered(InferResponse),
    /// All workers that were asked have failed; the last one's error.
    Failed(ServiceError),
    /// It was given up for this one, which goes on.
    Replaced(Try<'a>),
    /// The deadline has passed.
    Late,
}

/// What is due when, if no answer comes before. One timer is set, for the earliest.
struct Plan {
    deadline: Instant,
    hedge_at: Option<Instant>,
    give_up_at: Option<Instant>,
    /// Whether a try that is given up then has had all the time that a worker gets.
    is_full_time: bool,
}

impl Plan {
    fn next(&self) -> tokio::time::Instant {
        let dates = [self.hedge_at, self.give_up_at];
        dates.into_iter().flatten().fold(self.deadline, Instant::min).into()
    }
}

fn is_due(date: Option<Instant>, now: Instant) -> bool {
    date.is_some_and(|date| date <= now)
}

impl<'a> Work<'a> {
    /// Waits for a try, hedges it when it is time, and gives it up when it is too late.
    pub(super) async fn race(&mut self, first: Try<'a>) -> End<'a> {
        let mut plan = self.plan(&first);
        let mut first_lost = pin!(first.endpoint.lost());
        let mut hedge_lost: Option<Pin<Box<Notified<'a>>>> = None;
        let (mut first, mut hedge) = (Some(first), None::<Try<'a>>);
        let mut alarm = pin!(tokio::time::sleep_until(plan.next()));
        loop {
            tokio::select! {
                biased;
                result = answer(&mut first, first_lost.as_mut()), if first.is_some() => {
                    let tried = first.take().expect("it was answered");
                    match self.settle(tried, result, clock::now()) {
                        Ok(response) => return End::Answered(response),
                        Err(error) if hedge.is_none() => return End::Failed(error),
                        Err(_) => plan.hedge_at = None,
                    }
                }
                result = hedge_answer(&mut hedge, &mut hedge_lost), if hedge.is_some() => {
                    let tried = hedge.take().expect("it was answered");
                    let now = clock::now();
                    match self.settle(tried, result, now) {
                        Ok(response) => {
                            count(&self.attempts.hedges_won);
                            if let Some(loser) = &first {
                                self.lose(loser, now);
                                loser.endpoint.outrun(&response, loser.lasted(now), now);
                            }
                            return End::Answered(response);
                        }
                        Err(error) if first.is_none() => return End::Failed(error),
                        Err(_) => {}
                    }
                }
                () = alarm.as_mut() => {
                    let now = clock::now();
                    if now >= plan.deadline {
                        return End::Late;
                    }
                    if is_due(plan.give_up_at, now) {
                        if let Some(next) = self.replace(&mut first, &mut hedge, &mut plan, now) {
                            return End::Replaced(next);
                        }
                    } else if is_due(plan.hedge_at, now) {
                        let lasted = first.as_ref().map(|first| first.lasted(now));
                        hedge = self.hedge(&mut plan, lasted.unwrap_or_default(), now);
                        hedge_lost = hedge.as_ref().map(|tried| Box::pin(tried.endpoint.lost()));
                    }
                    alarm.as_mut().reset(plan.next());
                }
            }
        }
    }

    fn plan(&self, first: &Try<'a>) -> Plan {
        let is_hedged = self.attempts.hedges_are_enabled && self.workers > 1;
        let delay = || self.times.hedge_delay().or_else(|| self.times.stuck_after());
        let delay = is_hedged.then(delay).flatten();
        let timeout = self.timeout(first.began);
        Plan {
            deadline: self.request.deadline.at(),
            hedge_at: delay.map(|delay| first.began + delay),
            give_up_at: timeout.map(|(timeout, _)| first.began + timeout),
            is_full_time: timeout.is_some_and(|(_, is_full)| is_full),
        }
    }

    /// A try beside the first one, which has `lasted` so long, if there is leave for it and a worker.
    fn hedge(&mut self, plan: &mut Plan, lasted: Duration, now: Instant) -> Option<Try<'a>> {
        // If not now, then when the first has taken twice as long: what is in the way may pass, as
        // others that were stuck as well give back the leave that they have.
        plan.hedge_at = Some(now + lasted.max(Duration::from_millis(1)));
        // What was true when the request came may not be any more.
        let is_stuck = self.times.stuck_after().is_some_and(|time| lasted >= time);
        let has_room = || !self.traffic.admission.is_strained();
        let is_worth_it = is_stuck || self.times.hedge_delay().is_some() && has_room();
        if !is_worth_it || !self.route.has_next(now) {
            return None;
        }
        let leave = self.leave(now)?;
        plan.hedge_at = None;
        let chosen = self.route.beside(now)?;
        count(&self.attempts.hedges);
        Some(self.begin(chosen, Some(RouteReason::Hedge), Some(leave), now))
    }

    /// Gives up the older try, if there is one to take its place: its hedge, which goes on, or
    /// another one that begins.
    fn replace(
        &mut self,
        first: &mut Option<Try<'a>>,
        hedge: &mut Option<Try<'a>>,
        plan: &mut Plan,
        now: Instant,
    ) -> Option<Try<'a>> {
        if let Some(hedge) = hedge
            && let Some(slow) = first.take()
        {
            self.give_up(slow, plan.is_full_time, now);
            *plan = Plan { hedge_at: None, ..self.plan(hedge) };
            return None;
        }
        plan.give_up_at = None;
        if !self.route.has_next(now) {
            return None;
        }
        let Some((chosen, leave)) = self.another(now) else {
            plan.give_up_at = Some(now + self.attempts.backoff.max);
            return None;
        };
        let slow = first.take().or_else(|| hedge.take()).expect("one is at work");
        self.give_up(slow, plan.is_full_time, now);
        count(&self.attempts.failovers);
        if leave.is_some() {
            count(&self.attempts.retries);
        }
        Some(self.begin(chosen, Some(RouteReason::Retry), leave, now))
    }
}

async fn hedge_answer<'a>(
    hedge: &mut Option<Try<'a>>,
    lost: &mut Option<Pin<Box<Notified<'a>>>>,
) -> Result<InferResponse, ServiceError> {
    let lost = lost.as_mut().expect("a hedge comes with it");
    answer(hedge, lost.as_mut()).await
}
