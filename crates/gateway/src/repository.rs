//! What the gateway answers about models: all that its workers say, put together as if they were
//! one.
//!
//! Each worker has a repository of its own. A model may be on some of them only: those that do
//! not know it are left out, and it is unknown only where nobody knows it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use inferring_types::{
    Blame, BoxFuture, ErrorKind, IndexEntry, InferenceService as _, LoadRequest, ModelConfig,
    ModelName, ModelRepository, ModelSelector, ModelState, ModelStatistics, ServiceError, WorkerId,
};
use tokio::time::timeout;

use crate::Gateway;
use crate::endpoint::{Endpoint, WorkerService};
use crate::membership::Membership;

impl ModelRepository for Gateway {
    fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
        Box::pin(async {
            let membership = self.membership();
            let limit = self.config().repository.timeout;
            let answers = ask_all(&membership, limit, |worker| worker.index()).await?;
            Ok(join_indexes(answers.given()?))
        })
    }

    fn load(&self, request: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move { self.change(|worker| worker.load(request.clone())).await })
    }

    fn unload(&self, model: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move { self.change(|worker| worker.unload(model.clone())).await })
    }

    fn config<'a>(
        &'a self,
        model: ModelSelector<'a>,
    ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
        Box::pin(async move {
            let metadata = self.model(model)?;
            let model = ModelSelector::new(metadata.name.as_str(), model.version);
            let membership = self.membership();
            let mut serving = membership
                .endpoints()
                .iter()
                .filter(|endpoint| endpoint.is_reachable() && endpoint.serves(model));
            // One is enough: what they would answer is the same.
            let endpoint = serving.next().ok_or_else(|| membership.unavailable(Some(model)))?;
            ask(endpoint, self.config().repository.timeout, |worker| worker.config(model)).await
        })
    }

    fn statistics<'a>(
        &'a self,
        model: Option<ModelSelector<'a>>,
    ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
        Box::pin(async move {
            model.map(|model| self.model(model)).transpose()?;
            let membership = self.membership();
            let limit = self.config().repository.timeout;
            let answers = ask_all(&membership, limit, |worker| worker.statistics(model)).await?;
            Ok(add_statistics(answers.of_model()?))
        })
    }
}

impl Gateway {
    /// Changes what the workers serve, and learns at once what that is now.
    async fn change(
        &self,
        ask: impl Fn(&dyn WorkerService) -> BoxFuture<'_, Result<(), ServiceError>>,
    ) -> Result<(), ServiceError> {
        let membership = self.membership();
        let config = self.config();
        let answers = ask_all(&membership, config.repository.load_timeout, ask).await;
        self.probe_all().await;
        answers?.of_model().map(drop)
    }
}

/// Asks every reachable worker, all at the same time.
///
/// # Errors
/// `Unavailable` where there is none.
async fn ask_all<'a, T>(
    membership: &'a Membership,
    limit: Duration,
    question: impl Fn(&'a dyn WorkerService) -> BoxFuture<'a, Result<T, ServiceError>>,
) -> Result<Answers<'a, T>, ServiceError> {
    let reachable = membership.endpoints().iter().filter(|endpoint| endpoint.is_reachable());
    let question = &question;
    let asked = reachable
        .map(|endpoint| async move { (&**endpoint, ask(endpoint, limit, question).await) });
    let answers = join_all(asked).await;
    if answers.is_empty() { Err(membership.unavailable(None)) } else { Ok(Answers(answers)) }
}

/// Asks one worker. An error names it.
async fn ask<'a, T>(
    endpoint: &'a Endpoint,
    limit: Duration,
    question: impl Fn(&'a dyn WorkerService) -> BoxFuture<'a, Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    let answer = timeout(limit, question(&*endpoint.member.service)).await;
    answer.unwrap_or_else(|_| Err(too_slow(limit))).map_err(|error| of_worker(endpoint, &error))
}

/// What each worker answered, in the workers' order.
struct Answers<'a, T>(Vec<(&'a Endpoint, Result<T, ServiceError>)>);

impl<'a, T> Answers<'a, T> {
    /// The answers of the workers that know the model asked about.
    ///
    /// # Errors
    /// `NotFound` where none does; else the first other error, even where some succeeded.
    fn of_model(self) -> Result<Vec<(&'a Endpoint, T)>, ServiceError> {
        let mut known = Vec::new();
        let mut not_found = None;
        for (endpoint, answer) in self.0 {
            match answer {
                Ok(answer) => known.push((endpoint, answer)),
                Err(error) if error.kind() == ErrorKind::NotFound => not_found = Some(error),
                Err(error) => return Err(error),
            }
        }
        match not_found {
            Some(error) if known.is_empty() => Err(error),
            _ => Ok(known),
        }
    }

    /// The answers that were given.
    ///
    /// # Errors
    /// The first error, where there is nothing else.
    fn given(self) -> Result<Vec<(&'a Endpoint, T)>, ServiceError> {
        let mut failed = None;
        let given: Vec<_> = self
            .0
            .into_iter()
            .filter_map(|(endpoint, answer)| match answer {
                Ok(answer) => Some((endpoint, answer)),
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            })
            .collect();
        match failed {
            Some(error) if given.is_empty() => Err(error),
            _ => Ok(given),
        }
    }
}

/// Every version once: served if any worker serves it, with the reasons of those that do not.
fn join_indexes(indexes: Vec<(&Endpoint, Vec<IndexEntry>)>) -> Vec<IndexEntry> {
    let workers = indexes.len();
    let mut joined: BTreeMap<_, Joined> = BTreeMap::new();
    for (endpoint, index) in indexes {
        for entry in index {
            let version = joined
                .entry((entry.name, entry.version))
                .or_insert_with(|| Joined { state: entry.state, reasons: Vec::new() });
            version.add(entry.state, entry.reason, endpoint.id());
        }
    }
    let entry = |((name, version), joined): (_, Joined)| IndexEntry {
        name,
        version,
        state: joined.state,
        reason: joined.reason(workers),
    };
    joined.into_iter().map(entry).collect()
}

/// A version in the indexes of several workers.
struct Joined {
    state: ModelState,
    /// Each reason once, and the workers that give it.
    reasons: Vec<(String, Vec<WorkerId>)>,
}

impl Joined {
    fn add(&mut self, state: ModelState, reason: String, worker: &WorkerId) {
        if readiness(state) > readiness(self.state) {
            self.state = state;
        }
        if reason.is_empty() {
            return;
        }
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, workers)) => workers.push(worker.clone()),
            None => self.reasons.push((reason, vec![worker.clone()])),
        }
    }

    /// The reasons, with the workers that give them where not all of `workers` give the same.
    fn reason(self, workers: usize) -> String {
        match &self.reasons[..] {
            [(reason, who)] if who.len() == workers => reason.clone(),
            reasons => {
                let told = reasons.iter().map(|(reason, who)| {
                    let who: Vec<_> = who.iter().map(WorkerId::as_str).collect();
                    format!("{}: {reason}", who.join(", "))
                });
                told.collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// How near to being served a state is.
fn readiness(state: ModelState) -> u8 {
    match state {
        ModelState::Unavailable => 0,
        ModelState::Unloading => 1,
        ModelState::Loading => 2,
        ModelState::Ready => 3,
    }
}

/// What all workers have done with each version.
fn add_statistics(statistics: Vec<(&Endpoint, Vec<ModelStatistics>)>) -> Vec<ModelStatistics> {
    let mut sums: Vec<ModelStatistics> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for one in statistics.into_iter().flat_map(|(_, statistics)| statistics) {
        match places.entry((one.name.clone(), one.version.clone())) {
            Entry::Occupied(place) => sums[*place.get()].add(&one),
            Entry::Vacant(place) => {
                place.insert(sums.len());
                sums.push(one);
            }
        }
    }
    sums
}

fn too_slow(limit: Duration) -> ServiceError {
    let message = format!("it did not answer within {limit:?}");
    ServiceError::new(ErrorKind::Unavailable, Blame::WorkerFailed, message)
}

/// The same error, with the worker that made it.
fn of_worker(endpoint: &Endpoint, error: &ServiceError) -> ServiceError {
    if error.kind() == ErrorKind::NotFound {
        return error.clone();
    }
    let message = format!("{}: {error}", endpoint.id());
    let named = ServiceError::new(error.kind(), error.blame(), message);
    match error.worth_retrying_after() {
        Some(time) => named.retry_after(time),
        None => named,
    }
}
