//! Concludes from active probes whether a worker is there to be asked.
//!
//! This is about presence, and quick in both directions; whether the worker *does well* is the
//! circuit breaker's question. A refused connection is proof that nobody listens and excludes the
//! worker at once. A probe that timed out may have lost a race with a busy machine, so it takes
//! several in a row. One answer is proof enough of life.

/// When probes exclude a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// Consecutive probes without an answer that exclude a worker; 0 is taken as 1.
    pub failures_to_exclude: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { failures_to_exclude: 2 }
    }
}

/// Why a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Nobody listens there: the connection was refused, or broke off.
    Gone,
    /// It says that it takes no requests any more: it drains.
    Declined,
    /// It says that it takes no requests yet: it loads its models.
    Loading,
    /// Nothing came in time.
    Silent,
    /// It answered, but not as a worker does that is well.
    Unwell,
}

impl Loss {
    /// Whether it is certain that nobody takes requests there.
    pub fn is_definite(self) -> bool {
        matches!(self, Self::Gone | Self::Declined | Self::Loading)
    }
}

/// What probes have shown of one worker.
#[derive(Debug, Clone)]
pub struct Health {
    config: HealthConfig,
    state: State,
    /// Failed probes since the last success.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No verdict yet.
    Unknown,
    Reachable,
    /// With what the last probe met.
    Unreachable(Loss),
}

/// A change of verdict, the first one included: an operator reads once about a worker that was
/// never there, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// It answers; before, it did not or was unknown.
    BecameReachable,
    /// It does not answer; before, it did or was unknown.
    BecameUnreachable,
}

impl Health {
    /// A worker of which nothing is known: not reachable until a probe succeeds.
    pub fn new(config: HealthConfig) -> Self {
        Self { config, state: State::Unknown, failures: 0 }
    }

    /// A probe was answered by a worker that takes requests.
    pub fn probe_succeeded(&mut self) -> Option<Transition> {
        self.failures = 0;
        self.enter(State::Reachable, Transition::BecameReachable)
    }

    /// A probe failed.
    pub fn probe_failed(&mut self, loss: Loss) -> Option<Transition> {
        self.failures = self.failures.saturating_add(1);
        let was_lost = matches!(self.state, State::Unreachable(_));
        if was_lost || loss.is_definite() || self.failures >= self.config.failures_to_exclude {
            self.enter(State::Unreachable(loss), Transition::BecameUnreachable)
        } else {
            None
        }
    }

    /// What its last probe met, where it may not be asked and was heard of at all.
    pub fn loss(&self) -> Option<Loss> {
        match self.state {
            State::Unreachable(loss) => Some(loss),
            State::Unknown | State::Reachable => None,
        }
    }

    /// Whether the worker may be asked.
    pub fn is_reachable(&self) -> bool {
        self.state == State::Reachable
    }

    /// Whether there is a verdict at all. A gateway that starts has not heard of its workers
    /// yet, which is another thing than having lost them.
    pub fn is_known(&self) -> bool {
        self.state != State::Unknown
    }

    fn enter(&mut self, state: State, transition: Transition) -> Option<Transition> {
        let changed = std::mem::discriminant(&self.state) != std::mem::discriminant(&state);
        self.state = state;
        changed.then_some(transition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Probe::{Answered, Refused, TimedOut};
    use Transition::{BecameReachable, BecameUnreachable};

    #[derive(Debug, Clone, Copy)]
    enum Probe {
        Answered,
        TimedOut,
        Refused,
    }
    /// A rule in words, and a sequence of probes, each with the transition it causes.
    type Case = (&'static str, &'static [(Probe, Option<Transition>)]);

    #[test]
    fn verdicts_follow_from_probes() {
        let table: &[Case] = &[
            ("one answer includes", &[(Answered, Some(BecameReachable)), (Answered, None)]),
            (
                "a refusal excludes at once",
                &[
                    (Answered, Some(BecameReachable)),
                    (Refused, Some(BecameUnreachable)),
                    (Refused, None),
                ],
            ),
            (
                "two time-outs in a row exclude",
                &[
                    (Answered, Some(BecameReachable)),
                    (TimedOut, None),
                    (TimedOut, Some(BecameUnreachable)),
                    (TimedOut, None),
                ],
            ),
            (
                "an answer between time-outs forgives",
                &[
                    (Answered, Some(BecameReachable)),
                    (TimedOut, None),
                    (Answered, None),
                    (TimedOut, None),
                    (Answered, None),
                ],
            ),
            (
                "a worker that was never there is told of once",
                &[
                    (TimedOut, None),
                    (TimedOut, Some(BecameUnreachable)),
                    (Refused, None),
                    (Answered, Some(BecameReachable)),
                ],
            ),
            (
                "one answer brings it back from any number of failures",
                &[
                    (Refused, Some(BecameUnreachable)),
                    (TimedOut, None),
                    (Refused, None),
                    (Answered, Some(BecameReachable)),
                    (TimedOut, None),
                ],
            ),
        ];
        for (rule, steps) in table {
            let mut health = Health::new(HealthConfig::default());
            assert!(!health.is_reachable() && !health.is_known());
            let mut verdict = None;
            for (step, &(probe, expected)) in steps.iter().enumerate() {
                let transition = match probe {
                    Answered => health.probe_succeeded(),
                    TimedOut => health.probe_failed(Loss::Silent),
                    Refused => health.probe_failed(Loss::Gone),
                };
                assert_eq!(transition, expected, "{rule}: step {step}, {probe:?}");
                verdict = transition.or(verdict);
                assert_eq!(health.is_reachable(), verdict == Some(BecameReachable), "{rule}");
                assert_eq!(health.is_known(), verdict.is_some(), "{rule}");
            }
        }
    }

    #[test]
    fn the_last_probe_tells_why_it_may_not_be_asked() {
        let mut health = Health::new(HealthConfig::default());
        health.probe_succeeded();
        for (loss, expected) in [
            (Loss::Unwell, None),
            (Loss::Unwell, Some(Loss::Unwell)),
            (Loss::Silent, Some(Loss::Silent)),
            (Loss::Declined, Some(Loss::Declined)),
            (Loss::Loading, Some(Loss::Loading)),
            (Loss::Gone, Some(Loss::Gone)),
            (Loss::Silent, Some(Loss::Silent)),
        ] {
            health.probe_failed(loss);
            assert_eq!(health.loss(), expected);
        }
        health.probe_succeeded();
        assert_eq!(health.loss(), None);
    }

    #[test]
    fn the_number_of_time_outs_is_configured() {
        for (failures_to_exclude, excluded_by) in [(0, 1), (1, 1), (2, 2), (7, 7)] {
            let mut health = Health::new(HealthConfig { failures_to_exclude });
            health.probe_succeeded();
            for probe in 1..=10 {
                let expected = (probe == excluded_by).then_some(BecameUnreachable);
                assert_eq!(health.probe_failed(Loss::Silent), expected, "probe {probe}");
            }
        }
    }
}
