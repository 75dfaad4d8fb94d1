//! Channels: many requests on one connection, and what happens to them when it breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use inferring_client::{ClientConfig, RemoteWorker};
use inferring_protocol::frames::{
    ALL_STREAMS, Answer, Ends, Event, Inbox, Limits, Outbox, PREFACE, Request,
};
use inferring_protocol::rest::Chunks;
use inferring_types::{
    Blame, ErrorKind, InferenceService, NamedTensor, SequenceStep, StatusSource, Tensor, WorkerLoad,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::fixture::{client_of, good_answer, good_body, health, read_request, request, response};

/// What the worker does with requests that come in frames.
#[derive(Clone)]
enum Manner {
    /// Answers each.
    Answers,
    /// Keeps them.
    Keeps,
    /// Closes once it has so many.
    ClosesAt(usize),
    /// Answers the first, and says that it has seen no other.
    SeesOne,
    /// Answers the first, and takes no more: here, or at all.
    AnswersOne(Ends),
    /// Begins an answer to each, and closes.
    BreaksOff,
    /// Refuses each.
    Refuses,
    /// Does not know what the client opens with.
    Mumbles,
}

/// A worker that speaks in frames, and over HTTP/1.1 where it is asked so.
struct Worker {
    client: Arc<RemoteWorker>,
    seen: Arc<Seen>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    channels: AtomicUsize,
    in_frames: Mutex<Vec<u32>>,
    over_http: AtomicUsize,
    cancelled: Mutex<Vec<u32>>,
    changed: Notify,
}

impl Seen {
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waited = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it comes to that");
    }

    fn counts(&self) -> (usize, usize, usize) {
        let in_frames = self.in_frames.lock().unwrap().len();
        let (channels, over_http) = (&self.channels, &self.over_http);
        (channels.load(Ordering::SeqCst), in_frames, over_http.load(Ordering::SeqCst))
    }
}

impl Worker {
    async fn start(manner: Manner) -> Self {
        Self::start_with(manner, ClientConfig::default(), "x-inferring-frames: 2\r\n").await
    }

    async fn start_with(manner: Manner, config: ClientConfig, says: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let seen_there = seen.clone();
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, manner.clone(), seen_there.clone(), says));
            }
        });
        let client = Arc::new(client_of(address, config));
        client.status().await.unwrap();
        Self { client, seen, listening }
    }

    /// Connections that there are go on.
    fn listens_no_more(&self) {
        self.listening.abort();
    }

    /// The first request takes the way that there is, and sees to it that there is a shorter one.
    async fn open_channel(&self) {
        self.client.infer(request()).await.unwrap();
        self.seen.until(|seen| seen.counts().0 > 0).await;
        // The client reads that it is open in a turn of its own.
        let asked = async {
            while self.seen.counts().1 == 0 {
                let _ =
                    tokio::time::timeout(Duration::from_millis(20), self.client.infer(request()))
                        .await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    }
}

async fn converse(mut stream: TcpStream, manner: Manner, seen: Arc<Seen>, says: &str) {
    let mut first = [0];
    if stream.peek(&mut first).await.unwrap_or(0) == 0 {
        return;
    }
    if first[0] == PREFACE[0] {
        seen.channels.fetch_add(1, Ordering::SeqCst);
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        let mumbles = matches!(manner, Manner::Mumbles);
        let said = if mumbles { &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..] } else { PREFACE };
        stream.write_all(said).await.unwrap();
        seen.changed.notify_waiters();
        if !mumbles {
            speak_in_frames(stream, manner, &seen).await;
        }
        seen.changed.notify_waiters();
        return;
    }
    let mut stream = tokio::io::BufReader::new(stream);
    while let Some((head, _)) = read_request(&mut stream).await {
        let answer = if head.starts_with("GET /health ") {
            response("200 OK", says, &health())
        } else {
            seen.over_http.fetch_add(1, Ordering::SeqCst);
            good_answer().await
        };
        seen.changed.notify_waiters();
        stream.write_all(&answer).await.unwrap();
    }
}

async fn speak_in_frames(mut stream: TcpStream, manner: Manner, seen: &Seen) {
    let (mut inbox, mut outbox) =
        (Inbox::new(Limits { message: 1 << 20, connection: 1 << 22 }), Outbox::default());
    let (_, body) = good_body().await;
    let head = body.iter().rposition(|&byte| byte == b'}').unwrap() + 1;
    let load = WorkerLoad { wait: Duration::from_micros(7), run: Duration::from_micros(5) };
    let good = Answer {
        status: StatusCode::OK,
        load: Some(load),
        retry_after: None,
        json_length: Some(head),
    };
    let mut count = 0;
    loop {
        while let Some(event) = inbox.event().unwrap() {
            let (stream_number, message) = match event {
                Event::Request { stream, message } => (stream, message),
                Event::Cancel { stream } => {
                    seen.cancelled.lock().unwrap().push(stream);
                    continue;
                }
                other => panic!("{other:?}"),
            };
            let (asked, _) = Request::read(&message).unwrap();
            assert_eq!((asked.model, asked.version), ("m", None));
            assert!(asked.timeout <= Duration::from_secs(5), "{asked:?}");
            seen.in_frames.lock().unwrap().push(stream_number);
            count += 1;
            let body = || Chunks::one(body.clone());
            match manner {
                Manner::Answers => outbox.answer(stream_number, &good, body()),
                Manner::Keeps | Manner::Mumbles => {}
                Manner::ClosesAt(at) if count < at => {}
                Manner::ClosesAt(_) => return,
                Manner::SeesOne if count == 1 => outbox.answer(stream_number, &good, body()),
                Manner::SeesOne => outbox.goaway(1, Ends::Connection),
                Manner::AnswersOne(ends) => {
                    outbox.answer(stream_number, &good, body());
                    outbox.goaway(ALL_STREAMS, ends);
                }
                Manner::BreaksOff => {
                    let long = Chunks::one(vec![b' '; 100_000]);
                    outbox.answer(stream_number, &good, long);
                    let part = outbox.unsent().to_vec();
                    stream.write_all(&part).await.unwrap();
                    return;
                }
                Manner::Refuses => {
                    let refusal = Answer {
                        status: StatusCode::TOO_MANY_REQUESTS,
                        load: Some(load),
                        retry_after: Some(Duration::from_secs(3)),
                        json_length: None,
                    };
                    outbox.answer(stream_number, &refusal, Chunks::one("the queue is full"));
                }
            }
        }
        seen.changed.notify_waiters();
        while !outbox.is_empty() {
            let written = stream.write(outbox.unsent()).await.unwrap();
            outbox.written(written);
        }
        if stream.read_buf(inbox.room()).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn requests_at_once_go_on_one_channel() {
    let worker = Worker::start(Manner::Answers).await;
    worker.open_channel().await;
    let before = worker.seen.counts();
    let answers = join_all((0..100).map(|_| worker.client.infer(request()))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.outputs[0].tensor.to_f32().unwrap(), [42.0]);
        assert_eq!(answer.served.load.wait, Duration::from_micros(7));
    }
    let (channels, in_frames, over_http) = worker.seen.counts();
    assert_eq!((channels, in_frames - before.1, over_http), (1, 100, before.2));
}

#[tokio::test]
async fn a_refusal_in_a_frame_is_the_refusal_that_it_was() {
    let worker = Worker::start(Manner::Refuses).await;
    worker.open_channel().await;
    let error = worker.client.infer(request()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Overloaded, "the queue is full".into())
    );
    assert_eq!(error.worth_retrying_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.load().map(|load| load.run), Some(Duration::from_micros(5)));
}

#[tokio::test]
async fn who_waits_no_longer_cancels_its_request_and_no_other() {
    let worker = Worker::start(Manner::Keeps).await;
    worker.open_channel().await;
    worker.seen.until(|seen| !seen.cancelled.lock().unwrap().is_empty()).await;
    let kept = tokio::spawn({
        let client = worker.client.clone();
        async move { client.infer(request()).await }
    });
    let kept_at = worker.seen.counts().1 + 1;
    worker.seen.until(|seen| seen.counts().1 == kept_at).await;
    let left = tokio::spawn({
        let client = worker.client.clone();
        async move { client.infer(request()).await }
    });
    worker.seen.until(|seen| seen.counts().1 == kept_at + 1).await;
    left.abort();
    let numbers = worker.seen.in_frames.lock().unwrap().clone();
    let last = *numbers.last().unwrap();
    worker.seen.until(|seen| seen.cancelled.lock().unwrap().contains(&last)).await;
    assert!(!kept.is_finished());
    assert!(!worker.seen.cancelled.lock().unwrap().contains(&numbers[kept_at - 1]));
    assert_eq!(worker.seen.counts().0, 1);
    kept.abort();
}

/// The worker is lost with them, as far as anybody can tell. Whether they are asked again, and of
/// whom, is for those to decide who know how many there are.
#[tokio::test]
async fn what_was_under_way_on_a_channel_that_breaks_is_not_sent_again_here() {
    let worker = Worker::start(Manner::ClosesAt(30)).await;
    worker.open_channel().await;
    let kept = tokio::spawn({
        let client = worker.client.clone();
        async move { client.infer(request()).await }
    });
    let kept_at = worker.seen.counts().1 + 1;
    worker.seen.until(|seen| seen.counts().1 == kept_at).await;
    let before = worker.seen.counts();
    let mut errors = 0;
    for answer in join_all((0..40).map(|_| worker.client.infer(request()))).await {
        let error = answer.unwrap_err();
        let verdict = (error.kind(), error.blame(), error.is_retryable(), error.is_unsent());
        let expected = (ErrorKind::Unavailable, Blame::WorkerUnreachable, true, false);
        assert_eq!(verdict, expected, "{}", error.chain());
        errors += 1;
    }
    // The first one alone may have met the end of an idle connection, for all that was heard.
    kept.await.unwrap().unwrap();
    assert_eq!((errors, worker.seen.counts().2), (40, before.2 + 1));
}

#[tokio::test]
async fn fault_43_a_request_on_an_idle_channel_that_closes_under_it_is_sent_again() {
    let worker = Worker::start(Manner::ClosesAt(1)).await;
    for count in 1..=5 {
        // Each finds the way that there is, and the next channel is opened meanwhile.
        while worker.seen.counts().1 < count {
            worker.client.infer(request()).await.unwrap();
        }
    }
}

/// Nothing shows that the worker had not seen it, so it is no request that cost nobody anything.
#[tokio::test]
async fn what_a_lost_worker_was_sent_is_not_said_to_be_unsent() {
    let worker = Worker::start(Manner::ClosesAt(1)).await;
    worker.client.infer(request()).await.unwrap();
    worker.seen.until(|seen| seen.counts().0 == 1).await;
    worker.listens_no_more();
    let error = loop {
        match worker.client.infer(request()).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let verdict = (error.blame(), error.is_retryable(), error.is_unsent());
    assert_eq!(verdict, (Blame::WorkerUnreachable, true, false), "{}", error.chain());
    assert_eq!(worker.seen.counts().1, 1, "it was read");
}

#[tokio::test]
async fn what_a_worker_that_goes_has_not_seen_is_sent_again() {
    let worker = Worker::start(Manner::SeesOne).await;
    worker.open_channel().await;
    let answers = join_all((0..40).map(|_| worker.client.infer(request()))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again() {
    let worker = Worker::start(Manner::BreaksOff).await;
    worker.client.infer(request()).await.unwrap();
    worker.seen.until(|seen| seen.counts().0 == 1).await;
    let error = loop {
        match worker.client.infer(request()).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert_eq!((error.blame(), error.is_retryable()), (Blame::WorkerUnreachable, false));
}

#[tokio::test]
async fn large_requests_and_steps_of_sequences_take_a_connection_of_their_own() {
    let worker = Worker::start(Manner::Answers).await;
    worker.open_channel().await;
    let before = worker.seen.counts();
    let tensor = Tensor::from_f32([20_000].into(), &[0.0; 20_000]).unwrap();
    let mut large = request();
    large.inputs = vec![NamedTensor::new("x".into(), tensor)];
    let mut step = request();
    step.sequence = Some(SequenceStep { id: "1".parse().unwrap(), start: true, end: false });
    for request in [large, step] {
        worker.client.infer(request).await.unwrap();
    }
    let (channels, in_frames, over_http) = worker.seen.counts();
    assert_eq!((channels, in_frames, over_http), (1, before.1, before.2 + 2));
}

#[tokio::test]
async fn a_worker_that_does_not_tell_of_frames_is_sent_none() {
    let config = ClientConfig::default();
    let worker = Worker::start_with(Manner::Answers, config, "x-inferring-frames: 3\r\n").await;
    for _ in 0..10 {
        worker.client.infer(request()).await.unwrap();
    }
    assert_eq!(worker.seen.counts(), (0, 0, 10));
}

#[tokio::test]
async fn what_stands_between_and_knows_no_frames_is_asked_over_http() {
    let worker = Worker::start(Manner::Mumbles).await;
    let began = Instant::now();
    for _ in 0..200 {
        worker.client.infer(request()).await.unwrap();
    }
    let (channels, in_frames, over_http) = worker.seen.counts();
    assert_eq!((in_frames, over_http), (0, 200));
    // It is not tried again at once.
    assert!(channels as u64 <= 1 + began.elapsed().as_secs() / 5, "{channels}");
}

/// A connection that has become old ends as well, and means nothing by it.
#[tokio::test]
async fn a_worker_that_takes_its_leave_is_heard_and_a_connection_that_ends_is_none() {
    for (ends, expected) in [(Ends::Connection, false), (Ends::Node, true)] {
        let worker = Worker::start(Manner::AnswersOne(ends)).await;
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = heard.clone();
        worker.client.on_draining(Arc::new(move || {
            hears.fetch_add(1, Ordering::SeqCst);
        }));
        // Its second channel is opened when the first one has ended.
        let ended = async {
            while worker.seen.counts().0 < 2 {
                worker.client.infer(request()).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert_eq!(heard.load(Ordering::SeqCst) > 0, expected, "{ends:?}");
    }
}
