//! What the gateway answers about models, over workers that differ.

use std::time::Duration;

use inferring_types::{
    ErrorKind, IndexEntry, InferenceService as _, LoadRequest, ModelName, ModelRepository as _,
    ModelSelector, ModelState, ServiceError,
};

use crate::fixture::{Fleet, request};

const SECOND: Duration = Duration::from_secs(1);

fn load(model: &str) -> LoadRequest {
    LoadRequest { model: model.parse().unwrap(), config: None, files: Vec::new() }
}

fn entry(version: &str, state: ModelState, reason: &str) -> IndexEntry {
    IndexEntry {
        name: "model".parse().unwrap(),
        version: Some(version.parse().unwrap()),
        state,
        reason: reason.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_loaded_is_served_as_soon_as_that_is_answered() {
    let fleet = Fleet::start(3).await;
    fleet.gateway.load(load("new")).await.unwrap();
    let served = fleet.gateway.model(ModelSelector::named("new")).unwrap();
    assert_eq!(served.version.as_str(), "2");
    fleet.gateway.infer(request("new", 1.0, SECOND)).await.unwrap();
    fleet.gateway.unload("new".parse::<ModelName>().unwrap()).await.unwrap();
    let error = fleet.gateway.infer(request("new", 1.0, SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_somewhere_says_where() {
    let fleet = Fleet::start(3).await;
    fleet.workers[1].refuses_loads(ServiceError::invalid("the file is truncated"));
    let error = fleet.gateway.load(load("new")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "worker_2: the file is truncated");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lacks_a_model_does_not_speak_for_those_that_have_it() {
    let fleet = Fleet::start(3).await;
    fleet.workers[0].refuses_loads(ServiceError::not_found("no such model"));
    fleet.gateway.load(load("new")).await.unwrap();
    for worker in &fleet.workers {
        worker.refuses_loads(ServiceError::not_found("no such model"));
    }
    let error = fleet.gateway.load(load("other")).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::NotFound, "no such model"));
}

#[tokio::test(start_paused = true)]
async fn the_index_tells_what_any_worker_serves_and_who_does_not() {
    let fleet = Fleet::start(3).await;
    let [one, two, three] = &fleet.workers[..] else { panic!("three") };
    one.lists(vec![entry("1", ModelState::Ready, "")]);
    two.lists(vec![entry("1", ModelState::Unavailable, "out of memory")]);
    three.lists(vec![entry("2", ModelState::Unavailable, "the file is truncated")]);
    assert_eq!(
        fleet.gateway.index().await.unwrap(),
        [
            entry("1", ModelState::Ready, "worker_2: out of memory"),
            entry("2", ModelState::Unavailable, "worker_3: the file is truncated"),
        ],
    );
    let failed = entry("1", ModelState::Unavailable, "the file is truncated");
    for worker in &fleet.workers {
        worker.lists(vec![failed.clone()]);
    }
    assert_eq!(fleet.gateway.index().await.unwrap(), [failed]);
}

#[tokio::test(start_paused = true)]
async fn statistics_are_those_of_all_workers_together() {
    let fleet = Fleet::start(3).await;
    let name = fleet.gateway.models()[0].name.clone();
    let asked = ModelSelector::named(name.as_str());
    let statistics = fleet.gateway.statistics(Some(asked)).await.unwrap();
    assert_eq!(statistics.len(), 1);
    assert_eq!(statistics[0].inferences, 30);
    let config = fleet.gateway.config(asked).await.unwrap();
    assert_eq!(config.name, name);
    let absent = fleet.gateway.statistics(Some(ModelSelector::named("absent"))).await;
    assert_eq!(absent.unwrap_err().to_string(), "no model `absent` (served here: m)");
}
