//! Models that are replaced and unloaded while requests come.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use inferring_types::{
    BoxFuture, ErrorKind, InferenceService as _, ModelRepository as _, ModelSelector,
};
use inferring_worker::{CacheConfig, Worker, WorkerConfig};

use crate::fixture::{Answer, PATIENCE, within_patience};
use crate::folder::{Served, ask, load, number};

const ONE: &[(&str, &str)] = &[("m/1/model.onnx", "100")];

/// A request that has found its model and waits: the engine is held meanwhile.
fn begin(served: &Served, value: f32) -> BoxFuture<'_, Answer> {
    let mut answer = served.worker.infer(ask("m", None, value));
    let poll = pin!(&mut answer).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "answered at once: {poll:?}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_model_is_loaded_the_old_one_answers() {
    let served = Served::of(ONE);
    served.folder.write("m/2/model.onnx", "200");
    served.engine.hold_loads();
    let loading = tokio::spawn({
        let worker = served.worker.clone();
        async move { worker.load(load("m")).await }
    });
    assert!(served.engine.wait_until_loading(1, PATIENCE));
    assert_eq!(served.index().await, ["m/1 READY", "m/2 LOADING"]);
    for value in 0..20u8 {
        let value = f32::from(value);
        let answer = within_patience(served.worker.infer(ask("m", None, value))).await;
        assert_eq!(number(&answer, value), 100.0);
    }
    assert!(!loading.is_finished());
    served.engine.release_loads();
    within_patience(loading).await.unwrap().unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
}

/// Runs before it is served count as much as loading does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_not_served_before_it_is_warm() {
    let served = Served::of(ONE);
    served.folder.write("m/2/model.onnx", "200");
    let kept = begin_and_answer(&served, 1.0).await;
    assert_eq!(kept, 100.0);
    served.engine.hold();
    let loading = tokio::spawn({
        let worker = served.worker.clone();
        async move { worker.load(load("m")).await }
    });
    assert!(served.engine.wait_until_running(1, PATIENCE), "the check at load is held");
    assert_eq!(served.index().await, ["m/1 READY", "m/2 LOADING"]);
    assert_eq!(served.number("m", None).await, 100.0, "a kept answer, while the engine is held");
    served.engine.release();
    within_patience(loading).await.unwrap().unwrap();
    assert_eq!(served.number("m", None).await, 200.0);
}

async fn begin_and_answer(served: &Served, value: f32) -> f32 {
    number(&within_patience(served.worker.infer(ask("m", None, value))).await, value)
}

#[tokio::test]
async fn requests_that_have_begun_are_finished_by_the_version_that_they_found() {
    for unload in [false, true] {
        let served = Served::of(ONE);
        served.folder.write("m/2/model.onnx", "200");
        served.engine.hold();
        let begun: Vec<_> = (0..5u8).map(|value| begin(&served, f32::from(value))).collect();
        assert!(served.engine.wait_until_running(1, PATIENCE));
        if unload {
            served.unload("m").await.unwrap();
            assert_eq!(served.index().await, ["m/1 UNLOADING"]);
            let error = served.worker.infer(ask("m", None, 9.0)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        } else {
            // The check of the new version runs the engine as well, and is held with the rest.
            let loading = tokio::spawn({
                let worker = served.worker.clone();
                async move { worker.load(load("m")).await }
            });
            assert!(wait_until(|| served.engine.running() >= 2).await);
            served.engine.release();
            within_patience(loading).await.unwrap().unwrap();
        }
        served.engine.release();
        for (value, answer) in (0..5u8).zip(begun) {
            let value = f32::from(value);
            assert_eq!(number(&within_patience(answer).await, value), 100.0);
        }
        let ended = |index: &[String]| index[0] == "m/1 UNAVAILABLE: unloaded";
        served.index_until(ended).await;
        assert_eq!(served.engine.sessions(), usize::from(!unload));
    }
}

async fn wait_until(reached: impl Fn() -> bool) -> bool {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.is_ok()
}

/// A client that has found its model keeps it until it is answered, though its answer comes from
/// another's run.
#[tokio::test]
async fn who_has_left_holds_no_model_and_who_waits_does() {
    let served = Served::of(ONE);
    served.engine.hold();
    let first = begin(&served, 1.0);
    let joined = begin(&served, 1.0);
    assert!(served.engine.wait_until_running(1, PATIENCE));
    served.unload("m").await.unwrap();
    drop(first);
    served.engine.release();
    assert_eq!(number(&within_patience(joined).await, 1.0), 100.0);
    assert!(served.engine.wait_until_sessions(0, PATIENCE));
}

/// Clients on several threads ask without a pause while versions follow each other. Nobody is
/// refused, and whoever begins after a load has ended is answered by what it loaded or by what
/// came after.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_under_load_fail_nobody_and_leave_nothing_stale() {
    const VERSIONS: u64 = 25;
    for entries in [0, 1000] {
        let cache = CacheConfig { entries, ..CacheConfig::default() };
        let config = WorkerConfig { cache, ..WorkerConfig::default() };
        let served = Served::with(&[("m/1/model.onnx", "1")], &config);
        let (loaded, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let worker = served.worker.clone();
                tokio::spawn(ask_until(worker, loaded.clone(), stop.clone(), client))
            })
            .collect();
        for version in 2..=VERSIONS {
            // Every other version is the same folder with another file in it.
            let place = if version % 2 == 0 { version } else { version - 1 };
            served.folder.write(&format!("m/{place}/model.onnx"), &version.to_string());
            served.load("m").await.unwrap();
            loaded.store(version, Ordering::SeqCst);
        }
        stop.store(true, Ordering::SeqCst);
        let mut asked = 0;
        for client in clients {
            asked += within_patience(client).await.unwrap();
        }
        assert!(asked > 8 * VERSIONS, "{asked} requests in all are no load");
        assert!(served.engine.wait_until_sessions(1, PATIENCE));
        let ready = format!("m/{} READY", VERSIONS - 1);
        served
            .index_until(|index| {
                let drained = |entry: &String| *entry == ready || entry.ends_with("unloaded");
                index.contains(&ready) && index.iter().all(drained)
            })
            .await;
        let statistics = served.worker.statistics(None).await.unwrap();
        assert_eq!((statistics.len(), statistics[0].fail.count), (1, 0));
    }
}

/// Asks until it is told to stop, and returns how often.
async fn ask_until(
    worker: Arc<Worker>,
    loaded: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    client: u64,
) -> u64 {
    let mut asked = 0u64;
    while !stop.load(Ordering::SeqCst) {
        let least = loaded.load(Ordering::SeqCst);
        // Now and then the same as others, so that answers are kept and flights are joined.
        let value = if asked.is_multiple_of(3) { 7.0 } else { (client * 100_000 + asked) as f32 };
        let answer = within_patience(worker.infer(ask("m", None, value))).await;
        let version = number(&answer, value);
        assert!(version >= least as f32, "version {version} after {least} was loaded");
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_one_model_wait_for_each_other_and_of_others_do_not() {
    let served = Served::of(&[("m/1/model.onnx", "1"), ("n/1/model.onnx", "1")]);
    served.folder.write("m/1/model.onnx", "2");
    served.folder.write("n/1/model.onnx", "3");
    served.engine.hold_loads();
    let begin = |model: &'static str| {
        let worker = served.worker.clone();
        tokio::spawn(async move { worker.load(load(model)).await })
    };
    let loads = served.engine.loads();
    let both = [begin("m"), begin("m")];
    assert!(served.engine.wait_until_loading(1, PATIENCE));
    let other = begin("n");
    assert!(served.engine.wait_until_loading(2, PATIENCE), "another model is loaded meanwhile");
    assert_eq!(served.engine.loads(), loads + 2, "one of each");
    served.engine.release_loads();
    for load in both.into_iter().chain([other]) {
        within_patience(load).await.unwrap().unwrap();
    }
    assert_eq!(served.engine.loads(), loads + 2, "the second found nothing left to do");
    assert_eq!(served.number("m", None).await, 2.0);
    assert_eq!(served.number("n", None).await, 3.0);
}

/// Loads and unloads from several sides, with requests in between: each of these ends, with an
/// answer or with the word that the model is not there, and afterwards the last word counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_and_unloads_from_all_sides_end_in_order() {
    let served = Served::of(ONE);
    let callers = (0..4u64).map(|caller| {
        let worker = served.worker.clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(caller);
            for turn in 0..60u16 {
                match random.u8(..3) {
                    0 => worker.load(load("m")).await.unwrap(),
                    1 => worker.unload("m".parse().unwrap()).await.unwrap(),
                    _ => {
                        let value = f32::from(turn);
                        match worker.infer(ask("m", None, value)).await {
                            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                            answer => assert_eq!(number(&answer, value), 100.0),
                        }
                    }
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within_patience(caller).await.unwrap();
    }
    served.load("m").await.unwrap();
    assert_eq!(served.number("m", None).await, 100.0);
    assert!(served.engine.wait_until_sessions(1, PATIENCE));
    served.unload("m").await.unwrap();
    assert!(served.engine.wait_until_sessions(0, PATIENCE));
    served.index_until(|index| index == ["m/1 UNAVAILABLE: unloaded"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_goes_on_without_whoever_asked_for_it() {
    let served = Served::of(ONE);
    served.folder.write("m/2/model.onnx", "200");
    served.engine.hold_loads();
    let asking = tokio::spawn({
        let worker = served.worker.clone();
        async move { worker.load(load("m")).await }
    });
    assert!(served.engine.wait_until_loading(1, PATIENCE));
    asking.abort();
    served.engine.release_loads();
    served.index_until(|index| index.contains(&"m/2 READY".to_owned())).await;
    assert_eq!(served.number("m", None).await, 200.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_the_load_under_way_and_drops_those_that_wait() {
    let served = Served::of(ONE);
    served.folder.write("m/2/model.onnx", "200");
    served.engine.hold_loads();
    let begin = || {
        let worker = served.worker.clone();
        tokio::spawn(async move { worker.load(load("m")).await })
    };
    let under_way = begin();
    assert!(served.engine.wait_until_loading(1, PATIENCE));
    let waiting = begin();
    let closing = tokio::task::spawn_blocking({
        let worker = served.worker.clone();
        move || worker.close()
    });
    // What waits is dropped or, where it came late, refused.
    let error = within_patience(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!closing.is_finished());
    served.engine.release_loads();
    within_patience(closing).await.unwrap();
    // It may have come through in time; either way nothing of it runs on.
    let _ = within_patience(under_way).await.unwrap();
    assert_eq!(served.engine.sessions(), 0);
    assert_eq!(served.load("m").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(served.worker.model(ModelSelector::named("m")).is_ok(), "it is still told about");
}
