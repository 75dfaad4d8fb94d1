//! What a worker's answers are taken to mean.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inferring_client::ClientConfig;
use inferring_protocol::rest::v2;
use inferring_types::{
    Blame, ErrorKind, InferRequest, InferenceService, SequenceStep, StatusSource, WorkerLoad,
};

use crate::fixture::{FakeWorker, Reply, good_answer, good_body, request, response};

#[tokio::test]
async fn each_status_is_the_error_it_was_and_keeps_the_connection() {
    use Blame::{Client, Server, WorkerFailed};
    use ErrorKind::{
        DeadlineExceeded, Internal, InvalidArgument, NotFound, Overloaded, TooLarge, Unavailable,
    };
    let worker = FakeWorker::start(ClientConfig::default()).await;
    for (status, kind, blame, retryable) in [
        ("400 Bad Request", InvalidArgument, Client, false),
        ("404 Not Found", NotFound, Client, false),
        ("413 Payload Too Large", TooLarge, Client, false),
        ("429 Too Many Requests", Overloaded, Server, true),
        ("500 Internal Server Error", Internal, WorkerFailed, true),
        ("502 Bad Gateway", Internal, WorkerFailed, true),
        ("503 Service Unavailable", Unavailable, Server, true),
        ("504 Gateway Timeout", DeadlineExceeded, Server, false),
        ("204 No Content", Internal, WorkerFailed, true),
    ] {
        let told = br#"{"error":"what went wrong","request_id":"request-1"}"#.as_slice();
        let silent = b"<html>".as_slice();
        let has_body = status != "204 No Content";
        let without_document = format!("the worker answered {status}");
        for (body, message) in [(told, "what went wrong"), (silent, &without_document)] {
            let (body, message) =
                if has_body { (body, message) } else { (b"".as_slice(), &*without_document) };
            worker.replies([Reply::Bytes(response(status, "", body))]);
            let error = worker.client.infer(request()).await.unwrap_err();
            let verdict = (error.kind(), error.blame(), error.is_retryable());
            assert_eq!(verdict, (kind, blame, retryable), "{status}");
            assert_eq!(error.to_string(), message, "{status}");
        }
    }
    assert!(worker.connections().iter().all(|&connection| connection == 1));
}

#[tokio::test]
async fn the_time_to_wait_before_another_try_is_kept() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    for (fields, expected) in [("retry-after: 3\r\n", Some(Duration::from_secs(3))), ("", None)] {
        let refusal = response("429 Too Many Requests", fields, b"{\"error\":\"full\"}");
        worker.replies([Reply::Bytes(refusal)]);
        let error = worker.client.infer(request()).await.unwrap_err();
        assert_eq!(error.worth_retrying_after(), expected);
    }
}

#[tokio::test]
async fn what_another_worker_may_know_is_no_mistake_of_the_clients_yet() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    for (fields, expected) in [("x-inferring-elsewhere: 1\r\n", true), ("", false)] {
        let refusal = response("400 Bad Request", fields, b"{\"error\":\"who?\"}");
        worker.replies([Reply::Bytes(refusal)]);
        let error = worker.client.infer(request()).await.unwrap_err();
        let verdict = (error.kind(), error.blame(), error.is_retryable());
        assert_eq!(verdict, (ErrorKind::InvalidArgument, Blame::Client, expected));
    }
}

#[tokio::test]
async fn what_a_worker_tells_of_its_queue_is_asked_for_and_kept() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let (fields, body) = good_body().await;
    let (wait, run) = (Duration::from_micros(120), Duration::from_micros(45));
    for (told, expected) in [
        ("x-inferring-load: wait_us=120, run_us=45\r\n", Some(WorkerLoad { wait, run })),
        ("x-inferring-load: much\r\n", None),
        ("", None),
    ] {
        let fields = format!("{fields}{told}");
        worker.replies([
            Reply::Bytes(response("200 OK", &fields, &body)),
            Reply::Bytes(response("429 Too Many Requests", told, b"{\"error\":\"full\"}")),
        ]);
        let answer = worker.client.infer(request()).await.unwrap();
        assert_eq!(answer.served.load, expected.unwrap_or_default());
        let error = worker.client.infer(request()).await.unwrap_err();
        assert_eq!(error.load(), expected);
    }
    assert!(worker.seen().iter().all(|seen| seen.field("x-inferring-load") == Some(1)));
}

#[tokio::test]
async fn urgency_and_sequence_are_sent_along() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let step = SequenceStep { id: "7".parse().unwrap(), start: true, end: false };
    let sent = InferRequest { priority: NonZeroU32::new(2), sequence: Some(step), ..request() };
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(sent.clone()).await.unwrap();
    let seen = worker.seen().remove(0);
    let length = seen.field("inference-header-content-length");
    let read = v2::decode_request(seen.body.into(), length).unwrap();
    assert_eq!((read.priority, read.sequence), (sent.priority, sent.sequence));
}

#[tokio::test]
async fn a_malformed_answer_is_the_workers_fault_and_never_the_clients() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let (fields, body) = good_body().await;
    let beyond_the_body = "inference-header-content-length: 99999\r\n";
    let shorter_tensor = &body[..body.len() - 1];
    for (fields, body) in [
        (beyond_the_body, &*body),
        ("inference-header-content-length: many\r\n", &*body),
        (&*fields, shorter_tensor),
        ("", b"{}"),
        ("", b"<html>"),
        ("", b""),
    ] {
        worker.replies([Reply::Bytes(response("200 OK", fields, body))]);
        let error = worker.client.infer(request()).await.unwrap_err();
        let verdict = (error.kind(), error.blame(), error.is_retryable());
        let expected = (ErrorKind::Internal, Blame::WorkerFailed, true);
        assert_eq!(verdict, expected, "{fields:?}: {}", error.chain());
        assert_eq!(error.to_string(), "the worker's answer is malformed");
    }
}

#[tokio::test]
async fn a_worker_that_does_not_speak_http_is_unreachable() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let babble = || Reply::BytesThenClose(b"220 ready for mail\r\n\r\n".to_vec());
    worker.replies([babble(), babble()]);
    let error = worker.client.infer(request()).await.unwrap_err();
    assert_eq!(error.blame(), Blame::WorkerUnreachable, "{}", error.chain());
}

/// With good answers and refusals alike. What ends one connection says nothing of the worker.
#[tokio::test]
async fn a_worker_that_says_that_it_drains_is_heard_with_the_answer() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = heard.clone();
    worker.client.on_draining(Arc::new(move || {
        hears.fetch_add(1, Ordering::SeqCst);
    }));
    let (fields, body) = good_body().await;
    let draining = "x-inferring-draining: 1\r\n";
    let good = |field: &str| response("200 OK", &format!("{fields}{field}"), &body);
    let refusal = |field: &str| response("429 Too Many Requests", field, b"");
    for (answer, times) in [
        (good(""), 0),
        (good("connection: close\r\n"), 0),
        (good(draining), 1),
        (refusal(""), 1),
        (refusal(draining), 2),
    ] {
        worker.replies([Reply::Bytes(answer)]);
        let _ = worker.client.infer(request()).await;
        assert_eq!(heard.load(Ordering::SeqCst), times);
    }
}
