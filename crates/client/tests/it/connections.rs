//! When connections are opened, kept, given up, and when a request is sent again.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_client::ClientConfig;
use inferring_types::{
    Blame, ErrorKind, InferRequest, InferenceService, SequenceStep, ServiceError, StatusSource,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::fixture::{FakeWorker, Reply, client_of, good_answer, request, request_of, response};

const AT_ONCE: Duration = Duration::ZERO;

/// The worker is not there, and another one may do better.
fn assert_unreachable(error: &ServiceError) {
    let verdict = (error.kind(), error.blame(), error.is_retryable());
    let expected = (ErrorKind::Unavailable, Blame::WorkerUnreachable, true);
    assert_eq!(verdict, expected, "{}", error.chain());
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_unless_none_may_be_kept() {
    let never_idle = ClientConfig { idle_timeout: Duration::ZERO, ..ClientConfig::default() };
    let none_kept = ClientConfig { idle_connections_max: 0, ..ClientConfig::default() };
    for (config, connections) in
        [(ClientConfig::default(), [1, 1, 1]), (never_idle, [2, 3, 4]), (none_kept, [2, 3, 4])]
    {
        // The first connection has carried the worker's status.
        let worker = FakeWorker::start(config).await;
        for _ in 0..3 {
            worker.replies([Reply::Bytes(good_answer().await)]);
            let answer = worker.client.infer(request()).await.unwrap();
            assert_eq!(answer.outputs[0].tensor.to_f32(), Some(vec![42.0]));
            assert_eq!(answer.served.worker.as_str(), "worker_1");
        }
        assert_eq!(worker.connections(), connections);
    }
}

#[tokio::test]
async fn fault_43_an_idle_connection_that_closes_under_a_request_costs_one_more_try_and_no_error() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::CloseAfter(AT_ONCE), Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2]);

    // One that has closed before is not a failure either.
    worker.replies([Reply::BytesThenClose(good_answer().await), Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2, 2, 3]);
}

#[tokio::test]
async fn fault_43_a_step_of_a_sequence_is_sent_again_only_where_the_worker_cannot_have_seen_it() {
    let step = || SequenceStep { id: "7".parse().unwrap(), start: false, end: false };
    let request = || InferRequest { sequence: Some(step()), ..request() };
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::CloseAfter(AT_ONCE), Reply::BytesThenClose(good_answer().await)]);
    let error = worker.client.infer(request()).await.unwrap_err();
    let verdict = (error.kind(), error.blame(), error.is_retryable());
    let expected = (ErrorKind::Unavailable, Blame::WorkerUnreachable, false);
    assert_eq!(verdict, expected, "{}", error.chain());
    assert_eq!(worker.connections(), [1]);

    worker.client.infer(request()).await.unwrap();
    // That connection is gone, but nothing was sent on it.
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2, 3]);

    // Nor was anything sent where nobody listens.
    let gone = FakeWorker::start(ClientConfig::default()).await;
    gone.dies().await;
    let error = gone.client.infer(request()).await.unwrap_err();
    assert_unreachable(&error);
    assert!(error.is_unsent());
}

/// A worker that was killed with many of them on kept connections would else have all of them asked
/// elsewhere at once, as if it had cost nobody anything.
#[tokio::test]
async fn what_was_sent_to_a_worker_that_is_gone_then_is_not_said_to_be_unsent() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::CloseAfter(Duration::from_secs(60))]);
    let dying = async {
        while worker.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        worker.dies().await;
    };
    let (answer, ()) = tokio::join!(worker.client.infer(request()), dying);
    let error = answer.unwrap_err();
    assert_unreachable(&error);
    assert!(!error.is_unsent());
    assert_eq!(worker.connections(), [1]);
}

#[tokio::test]
async fn a_new_connection_that_closes_is_the_workers_failure() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::CloseAfter(AT_ONCE), Reply::CloseAfter(AT_ONCE)]);
    assert_unreachable(&worker.client.infer(request()).await.unwrap_err());
    assert_eq!(worker.connections(), [1, 2], "sent again once, and no more");
    worker.replies([Reply::CloseAfter(AT_ONCE)]);
    assert_unreachable(&worker.client.infer(request()).await.unwrap_err());
    assert_eq!(worker.connections(), [1, 2, 3], "there was no idle connection to blame");
}

#[tokio::test]
async fn fault_06_an_answer_that_breaks_off_is_an_error_and_not_asked_for_again() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let whole = good_answer().await;
    worker.replies([
        Reply::Bytes(whole.clone()),
        Reply::BytesThenClose(whole[..whole.len() - 1].to_vec()),
        Reply::Bytes(whole),
    ]);
    worker.client.infer(request()).await.unwrap();
    let error = worker.client.infer(request()).await.unwrap_err();
    // Nor by another worker: it has been executed.
    let verdict = (error.blame(), error.is_retryable(), error.is_unsent());
    assert_eq!(verdict, (Blame::WorkerUnreachable, false, false), "{}", error.chain());
    assert_eq!(worker.connections(), [1, 1]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 1, 2]);
}

/// A worker learns so that nobody waits any more, and gives up what it has not begun.
#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection_at_once() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let closed = Arc::new(Notify::new());
    worker.replies([Reply::Busy(closed.clone()), Reply::Bytes(good_answer().await)]);
    tokio::select! {
        biased;
        _ = worker.client.infer(request()) => panic!("it is not answered"),
        () = async { while worker.seen().is_empty() { tokio::task::yield_now().await } } => {}
    }
    tokio::time::timeout(Duration::from_secs(10), closed.notified()).await.unwrap();
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2]);
}

#[tokio::test]
async fn a_refused_connection_is_an_unreachable_worker() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(listener.local_addr().unwrap(), ClientConfig::default());
    drop(listener);
    let error = client.status().await.unwrap_err();
    assert_unreachable(&error);
    assert!(error.chain().to_string().contains("refused"), "{}", error.chain());
    // Nobody could tell it of a model yet.
    let error = client.infer(request()).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Server));
}

#[tokio::test]
async fn what_remains_of_the_deadline_is_sent_along_and_is_less_when_sent_again() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let held = Duration::from_millis(200);
    worker.replies([Reply::CloseAfter(held), Reply::Bytes(good_answer().await)]);
    let arrived = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
    worker.client.infer(request_of(arrived)).await.unwrap();
    let timeouts: Vec<_> = worker.seen().iter().map(|seen| seen.timeout().unwrap()).collect();
    assert!((1..=3000).contains(&timeouts[0]), "{timeouts:?}");
    assert!(timeouts[1] <= timeouts[0].saturating_sub(200), "{timeouts:?}");
}

#[tokio::test]
async fn no_more_connections_are_opened_than_may_be_and_those_that_end_make_room() {
    let one = ClientConfig { connections_max: NonZeroUsize::MIN, ..ClientConfig::default() };
    let worker = FakeWorker::start(one).await;
    let minute = Duration::from_secs(60);
    for _ in 0..2 {
        worker.replies([Reply::CloseAfter(minute), Reply::Bytes(good_answer().await)]);
        let asked = worker.seen().len();
        {
            let mut held = worker.client.infer(request());
            let sent = async {
                while worker.seen().len() == asked {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                answer = &mut held => panic!("{answer:?}"),
                () = sent => {}
            }
            let error = worker.client.infer(request()).await.unwrap_err();
            let verdict = (error.kind(), error.blame(), error.is_retryable());
            assert_eq!(verdict, (ErrorKind::Overloaded, Blame::Server, true), "{error}");
            assert!(error.is_unsent(), "{error}");
        }
        // Given up, and so closed.
        worker.client.infer(request()).await.unwrap();
    }
    assert_eq!(worker.connections(), [1, 2, 2, 3]);
}

#[tokio::test]
async fn a_connection_is_used_for_its_lifetime_and_no_longer() {
    let config = ClientConfig { lifetime: Duration::from_millis(200), ..ClientConfig::default() };
    let worker = FakeWorker::start(config).await;
    let started = Instant::now();
    while worker.connections().last() != Some(&2) {
        worker.replies([Reply::Bytes(good_answer().await)]);
        worker.client.infer(request()).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    assert!(started.elapsed() >= Duration::from_millis(180));
}

#[tokio::test]
async fn idle_connections_are_not_trusted_once_the_worker_is_silent() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::Bytes(good_answer().await), Reply::Bytes(good_answer().await)]);
    let (one, other) = tokio::join!(worker.client.infer(request()), worker.client.infer(request()));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(worker.connections(), [1, 2]);
    worker.falls_silent();
    let patience = Duration::from_millis(20);
    assert!(tokio::time::timeout(patience, worker.client.status()).await.is_err());
    // The question went over one of the two. The other one looks as well as ever.
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2, 3]);
    // A connection that has carried an answer since is used.
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2, 3, 3]);
}

#[tokio::test]
async fn a_connection_is_opened_before_it_is_needed() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    // The one there is has just carried an answer.
    worker.client.keep_warm().await;
    assert_eq!(worker.seen_any().len(), 0);
    worker.replies([Reply::BytesThenClose(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    worker.replies([Reply::Bytes(response("200 OK", "", b"{}"))]);
    let warmed = async {
        // Until it has been noticed that the worker has closed.
        while worker.seen_any().len() == 1 {
            worker.client.keep_warm().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), warmed).await.unwrap();
    let asked = worker.seen_any().remove(1);
    assert!(asked.head.starts_with("GET /v2/health/live "), "{}", asked.head);
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!((asked.connection, worker.connections()), (2, vec![1, 2]));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_is_not_the_workers_fault() {
    let limit = 16 * 1024;
    let config =
        ClientConfig { response_size_max: bytesize::ByteSize::b(limit), ..ClientConfig::default() };
    let worker = FakeWorker::start(config).await;
    let size = usize::try_from(limit).unwrap() + 1;
    let announced = response("200 OK", "", &vec![b'x'; size]);
    let mut unannounced = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..=limit / 1024 {
        unannounced.extend_from_slice(b"400\r\n");
        unannounced.extend_from_slice(&[b'x'; 1024]);
        unannounced.extend_from_slice(b"\r\n");
    }
    for oversized in [announced, unannounced] {
        // Nothing follows: who waited for the end would wait for ever.
        worker.replies([Reply::Bytes(oversized), Reply::Bytes(good_answer().await)]);
        let error = worker.client.infer(request()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the worker's answer is larger than the limit of 16384 bytes"
        );
        let verdict = (error.kind(), error.blame(), error.is_retryable());
        assert_eq!(verdict, (ErrorKind::Internal, Blame::Server, false));
        worker.client.infer(request()).await.unwrap();
    }
    assert_eq!(worker.connections(), [1, 2, 2, 3], "what is left of such an answer is not read");
}
