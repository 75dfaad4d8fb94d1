//! Deadlines, cancellation, overload, draining and the end.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use inferring_backend::fake::FakeBackend;
use inferring_repository::Repository;
use inferring_types::{
    Blame, ErrorKind, InferenceService as _, ModelRepository as _, ModelSelector, ServiceError,
};
use inferring_worker::{Pinning, QueueConfig, StartError, Worker, WorkerConfig};

use crate::fixture::{
    Fixture, PATIENCE, queueing, request, row, row_answer, start, try_start, values, with_timeout,
    within_patience,
};
use crate::folder::Folder;

#[tokio::test]
async fn a_deadline_that_had_passed_on_arrival_never_runs_the_model() {
    let fixture = Fixture::new();
    for _ in 0..2 {
        let error = fixture.ask(with_timeout(row(1.0), Duration::ZERO)).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::DeadlineExceeded, Blame::Server));
        assert!(!error.is_retryable());
    }
    assert_eq!(fixture.runs(), 0);
    assert_eq!(fixture.status().await.cache.misses, 0);
    // Not even for an answer that is kept.
    fixture.ask(row(1.0)).await.unwrap();
    let late = fixture.ask(with_timeout(row(1.0), Duration::ZERO)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_ends_the_wait_and_the_work() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let hasty = fixture.begin(with_timeout(row(1.0), Duration::from_millis(5)));
    // The instance is still held: the wait ends by itself.
    let error = within_patience(hasty).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    fixture.engine.release();
    busy.await.unwrap();
    fixture.ask(row(2.0)).await.unwrap();
    assert_eq!(fixture.rows_of_runs(), [1, 1], "the expired one never ran");
    let status = fixture.status().await;
    assert_eq!((status.batches.dropped, status.errors, status.in_flight), (1, 1, 0));
}

#[tokio::test]
async fn who_joins_with_more_time_is_answered_after_the_first_ones_deadline() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let hasty = fixture.begin(with_timeout(row(1.0), Duration::from_millis(5)));
    let patient = fixture.begin(row(1.0));
    assert_eq!(within_patience(hasty).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    fixture.engine.release();
    busy.await.unwrap();
    assert_eq!(values(&within_patience(patient).await), row_answer(1.0));
    assert_eq!(fixture.runs(), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    for queue in [
        QueueConfig { queue_requests_max: 2, ..QueueConfig::default() },
        QueueConfig { queue_bytes_max: ByteSize(32), ..QueueConfig::default() },
    ] {
        let fixture = Fixture::with(&FakeBackend::new(), &queueing(queue));
        let busy = fixture.occupy();
        let queued = [1.0, 2.0].map(|value| fixture.begin(row(value)));
        let error = fixture.ask(row(3.0)).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Overloaded, Blame::Server));
        assert!(error.is_retryable());
        // What needs no room of its own is not refused.
        let joined = fixture.begin(row(2.0));
        fixture.engine.release();
        for answer in [busy, joined].into_iter().chain(queued) {
            within_patience(answer).await.unwrap();
        }
        assert_eq!(values(&fixture.ask(row(3.0)).await), row_answer(3.0));
    }
}

#[tokio::test]
async fn an_empty_queue_takes_a_request_of_any_size() {
    let queue = QueueConfig { queue_bytes_max: ByteSize(100), ..QueueConfig::default() };
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(queue));
    fixture.ask(request([50, 4], &[1.0; 200])).await.unwrap();
}

#[tokio::test]
async fn requests_given_up_are_counted_out_again() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let mut others: Vec<_> = (0..10u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    assert_eq!(fixture.status().await.in_flight, 11);
    others.truncate(4);
    assert_eq!(fixture.status().await.in_flight, 5);
    drop(others);
    drop(busy);
    let status = fixture.status().await;
    assert_eq!((status.in_flight, status.requests, status.errors), (0, 11, 0));
    fixture.engine.release();
}

#[tokio::test]
async fn closing_answers_what_is_queued_and_refuses_what_comes() {
    let roomy = QueueConfig { queue_requests_max: usize::MAX, ..QueueConfig::default() };
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(roomy));
    let sessions = Arc::strong_count(&fixture.engine);
    let busy = fixture.occupy();
    let queued: Vec<_> = (0..5u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    let worker = fixture.worker.clone();
    let closing = tokio::task::spawn_blocking(move || worker.close());
    // Requests come while it closes: each is answered or refused, none is left waiting.
    let refusal = async {
        while fixture.status().await.ready {
            tokio::task::yield_now().await;
        }
        for late in 100u16.. {
            let answer = fixture.worker.infer(row(f32::from(late)));
            match tokio::time::timeout(Duration::ZERO, answer).await {
                Ok(answer) => return answer.unwrap_err(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        panic!("it takes requests for ever");
    };
    let error = within_patience(refusal).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert!(!closing.is_finished(), "a run is under way");
    fixture.engine.release();
    within_patience(closing).await.unwrap();
    for (n, answer) in (0..5u8).zip(queued) {
        assert_eq!(values(&within_patience(answer).await), row_answer(f32::from(n)));
    }
    within_patience(busy).await.unwrap();
    assert!(Arc::strong_count(&fixture.engine) < sessions, "the session has ended");
    let status = fixture.status().await;
    assert!(!status.ready && status.batches.queued == 0 && status.in_flight == 0);
    // What is kept is still answered, and closing twice is closing once.
    fixture.worker.close();
    assert_eq!(values(&fixture.ask(row(0.0)).await), row_answer(0.0));
    assert_eq!(fixture.ask(row(99.0)).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_draining_worker_says_so_and_still_answers() {
    let fixture = Fixture::new();
    assert!(fixture.status().await.ready);
    fixture.worker.start_draining();
    assert!(!fixture.status().await.ready);
    assert_eq!(values(&fixture.ask(row(1.0)).await), row_answer(1.0));
}

#[tokio::test]
async fn dropping_the_worker_ends_its_threads() {
    let backend = FakeBackend::new();
    let before = Arc::strong_count(&backend.control());
    let config = WorkerConfig { instances: NonZeroUsize::new(4), ..WorkerConfig::default() };
    let worker = start(&["one", "two"], &backend, &config);
    assert!(Arc::strong_count(&backend.control()) >= before + 8);
    drop(worker);
    assert_eq!(Arc::strong_count(&backend.control()), before);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let config = WorkerConfig { instances: NonZeroUsize::new(2), ..WorkerConfig::default() };
    let backend = FakeBackend::new();
    let start = |names: &[&str]| try_start(names, &backend, &config).map(|_| ());
    assert!(matches!(start(&[]), Err(StartError::NoModel(_))));
    backend.control().refuse_loads_of("two.onnx", "told to fail");
    for _ in 0..5 {
        let error = ServiceError::failed("").caused_by(start(&["one", "two"]).unwrap_err());
        let error = error.chain().to_string();
        assert!(error.contains("version 1 of model `two`"), "{error}");
        assert!(error.contains("/two.onnx") && error.ends_with("told to fail"), "{error}");
        assert_eq!(backend.control().sessions(), 0, "nothing of a start that failed is left");
    }
    backend.control().accept_loads_of("two.onnx");
    start(&["one", "two"]).unwrap();
}

/// From many threads, so that a wake-up that is lost now and then shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_requests_and_instances() {
    for instances in [1, 2, 4] {
        let config = WorkerConfig {
            instances: NonZeroUsize::new(instances),
            ..queueing(QueueConfig { size_max: 2.try_into().unwrap(), ..QueueConfig::default() })
        };
        let fixture = Fixture::with(&FakeBackend::new(), &config);
        let clients = (0..8u16).map(|client| {
            let worker = fixture.worker.clone();
            tokio::spawn(async move {
                for turn in 0..500u16 {
                    let value = f32::from(client * 1000 + turn);
                    let answer = tokio::time::timeout(PATIENCE, worker.infer(row(value))).await;
                    assert_eq!(values(&answer.unwrap()), row_answer(value));
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    }
}

/// Where nothing is said, a model that takes its time has as many instances as cores, over one
/// loaded model; one that does not has one, and so has one that would have to be loaded again.
#[tokio::test]
async fn the_number_of_instances_follows_from_the_model_and_the_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    for (cost, is_sharable, expected) in [
        (Duration::from_millis(2), true, cores),
        (Duration::from_millis(2), false, 1),
        (Duration::ZERO, true, 1),
    ] {
        let backend = FakeBackend::new();
        backend.control().set_cost(move |_| cost);
        backend.control().set_sharable(is_sharable);
        let folder = Folder::of(&[("model/1/model.onnx", "0")]);
        let repository = Repository::open([folder.path()]).unwrap();
        let config = WorkerConfig::default();
        let worker =
            Worker::start("worker".into(), repository, Arc::new(backend.clone()), &config).unwrap();
        let config = worker.config(ModelSelector::named("model")).await.unwrap();
        assert_eq!(config.instances, expected);
        assert_eq!(backend.control().loads(), 1);
    }
}

/// Where threads cannot be bound that is logged, and the model is served all the same.
#[tokio::test]
async fn instances_bound_to_cores_answer() {
    let config = WorkerConfig {
        instances: NonZeroUsize::new(3),
        pinning: Pinning::Cores,
        ..WorkerConfig::default()
    };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.hold();
    let answers = [1.0, 2.0, 3.0].map(|value| fixture.begin(row(value)));
    fixture.engine.release();
    for (value, answer) in [1.0, 2.0, 3.0].into_iter().zip(answers) {
        assert_eq!(values(&within_patience(answer).await), row_answer(value));
    }
}
