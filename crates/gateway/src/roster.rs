//! Which workers there are to be: what the list says, and what operators say about it.
//!
//! Each change makes a new roster out of the old one and touches nothing else, so one that cannot
//! be carried out leaves no trace.

use std::collections::HashSet;

use inferring_types::{
    Blame, ErrorKind, MembershipStatus, ServiceError, WorkerChange, WorkerId, WorkerSpec,
};

/// Who decides which workers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Operators may add and remove workers, and weigh them: the list is where they begin.
    Operators,
    /// The list does. What an operator added would be gone with its next change, or stay in spite
    /// of it; so operators drain its workers, and change everything else in the list.
    List,
}

/// The workers that are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    authority: Authority,
    /// Where the list comes from, for people.
    source: String,
    listed: Vec<WorkerSpec>,
    /// Drained by operators. A worker that leaves the list is forgotten.
    drained: HashSet<WorkerId>,
}

impl Roster {
    /// Of workers that are there from the start.
    pub(crate) fn new(listed: Vec<WorkerSpec>) -> Self {
        let source = "given at the start".to_owned();
        Self { authority: Authority::Operators, source, listed, drained: HashSet::new() }
    }

    /// The same workers, from now on by this authority.
    pub(crate) fn decided_by(self, authority: Authority, source: String) -> Self {
        Self { authority, source, ..self }
    }

    /// Where the list comes from.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The workers that are to be in force.
    pub(crate) fn wanted(&self) -> Vec<WorkerSpec> {
        let wanted = |worker: &WorkerSpec| WorkerSpec {
            draining: worker.draining || self.drained.contains(&worker.id),
            ..worker.clone()
        };
        self.listed.iter().map(wanted).collect()
    }

    /// With what a list says now.
    pub(crate) fn listing(&self, listed: Vec<WorkerSpec>) -> Self {
        let mut drained = self.drained.clone();
        drained.retain(|id| listed.iter().any(|worker| worker.id == *id));
        Self { listed, drained, ..self.clone() }
    }

    /// With one worker more.
    pub(crate) fn adding(&self, worker: WorkerSpec) -> Result<Self, ServiceError> {
        self.check_operators_decide()?;
        if self.listed.iter().any(|known| known.id == worker.id) {
            return Err(conflict(format!("there is a worker `{}` already", worker.id)));
        }
        let mut listed = self.listed.clone();
        listed.push(worker);
        Ok(self.listing(listed))
    }

    /// With one worker less.
    pub(crate) fn removing(&self, id: &WorkerId) -> Result<Self, ServiceError> {
        self.find(id)?;
        self.check_operators_decide()?;
        if self.listed.len() == 1 {
            let message = format!("`{id}` is the last worker: add another one first");
            return Err(conflict(message));
        }
        let listed = self.listed.iter().filter(|worker| worker.id != *id);
        Ok(self.listing(listed.cloned().collect()))
    }

    /// With one worker changed.
    pub(crate) fn changing(
        &self,
        id: &WorkerId,
        change: WorkerChange,
    ) -> Result<Self, ServiceError> {
        let index = self.find(id)?;
        let mut changed = self.clone();
        match change {
            WorkerChange::Weight(weight) => {
                self.check_operators_decide()?;
                changed.listed[index].weight = weight;
            }
            WorkerChange::Draining(true) => drop(changed.drained.insert(id.clone())),
            WorkerChange::Draining(false) => {
                changed.drained.remove(id);
                if self.listed[index].draining {
                    self.check_operators_decide()?;
                    changed.listed[index].draining = false;
                }
            }
        }
        Ok(changed)
    }

    fn find(&self, id: &WorkerId) -> Result<usize, ServiceError> {
        let unknown = || ServiceError::not_found(format!("there is no worker `{id}`"));
        self.listed.iter().position(|worker| worker.id == *id).ok_or_else(unknown)
    }

    fn check_operators_decide(&self) -> Result<(), ServiceError> {
        match self.authority {
            Authority::Operators => Ok(()),
            Authority::List => Err(conflict(format!(
                "which workers there are, and their weights, is decided by {}: change it there",
                self.source,
            ))),
        }
    }
}

fn conflict(message: String) -> ServiceError {
    ServiceError::new(ErrorKind::Conflict, Blame::Client, message)
}

/// How it went with the lists that came.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    error: Option<String>,
    failures: u64,
}

impl Reception {
    /// Takes note of a list that came. `true` where this is the first good one after a bad one.
    pub(crate) fn record(&mut self, outcome: Result<(), String>) -> bool {
        let recovered = outcome.is_ok() && self.error.is_some();
        self.failures += u64::from(outcome.is_err());
        self.error = outcome.err();
        recovered
    }

    /// Adds what is known here.
    pub(crate) fn tell(&self, status: MembershipStatus) -> MembershipStatus {
        MembershipStatus { error: self.error.clone(), failures: self.failures, ..status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(authority: Authority) -> Roster {
        let listed = ["a=h:1", "b=h:2", "c=h:3"].map(|text| text.parse().unwrap());
        Roster::new(listed.into()).decided_by(authority, "a list".to_owned())
    }

    fn draining(roster: &Roster) -> Vec<String> {
        let draining = roster.wanted().into_iter().filter(|worker| worker.draining);
        draining.map(|worker| worker.id.to_string()).collect()
    }

    #[test]
    fn a_drain_outlives_new_lists_as_long_as_the_worker_is_on_them() {
        let drained = roster(Authority::List).changing(&"b".into(), WorkerChange::Draining(true));
        let drained = drained.unwrap();
        assert_eq!(draining(&drained), ["b"]);
        let moved = drained.listing(vec!["b=elsewhere:1".parse().unwrap()]);
        assert_eq!(draining(&moved), ["b"]);
        let left = moved.listing(vec!["a=h:1".parse().unwrap()]);
        let back = left.listing(vec!["b=h:2".parse().unwrap()]);
        assert_eq!(draining(&back), [""; 0]);
    }

    #[test]
    fn where_a_list_decides_operators_only_drain() {
        let roster = roster(Authority::List);
        let refused = [
            roster.adding("d=h:4".parse().unwrap()),
            roster.removing(&"a".into()),
            roster.changing(&"a".into(), WorkerChange::Weight(2.0)),
        ];
        for refused in refused {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains("decided by a list"), "{error}");
        }
        let listed = WorkerSpec { draining: true, ..roster.listed[0].clone() };
        let by_list = roster.listing(vec![listed]);
        let undrained = by_list.changing(&"a".into(), WorkerChange::Draining(false));
        assert_eq!(undrained.unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn operators_change_what_is_there_and_never_take_the_last() {
        let roster = roster(Authority::Operators);
        let added = roster.adding("d=h:4*2".parse().unwrap()).unwrap();
        assert_eq!(added.wanted().len(), 4);
        assert_eq!(added.adding("d=h:5".parse().unwrap()).unwrap_err().kind(), ErrorKind::Conflict);
        let weighed = added.changing(&"d".into(), WorkerChange::Weight(3.0)).unwrap();
        assert_eq!(weighed.wanted()[3].weight, 3.0);
        let removed = ["a", "b", "d"]
            .iter()
            .try_fold(weighed, |roster, id| roster.removing(&WorkerId::from(*id)))
            .unwrap();
        assert_eq!(removed.removing(&"c".into()).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(removed.removing(&"a".into()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_list_that_is_good_again_is_noticed_once() {
        let mut reception = Reception::default();
        let steps = [Ok(()), Err("x".to_owned()), Err("y".to_owned()), Ok(()), Ok(())];
        let recovered = steps.map(|outcome| reception.record(outcome));
        assert_eq!(recovered, [false, false, false, true, false]);
        assert_eq!(reception.tell(MembershipStatus::default()).failures, 2);
    }
}
