//! Large requests of which only the head has come: which of them are worth receiving.

use std::time::{Duration, Instant};

use inferring_backend::fake::FakeBackend;
use inferring_types::{
    Announced, BoxFuture, Deadline, ErrorKind, InferRequest, InferenceService as _, ModelSelector,
    Reservation, ServiceError, WorkerId, WorkerStatus,
};
use inferring_worker::{QueueConfig, WorkerConfig};

use crate::fixture::{
    Answer, Fixture, PATIENCE, any_width, queueing, request, with_timeout, within_patience,
};

/// Values of a row that makes a request large.
const WIDTH: u64 = 20_000;
const TIMEOUT: Duration = Duration::from_secs(1);

/// A large request, like no other of another number.
fn large(number: u16) -> InferRequest {
    let mut values = vec![0.0; WIDTH as usize];
    values[0] = f32::from(number);
    request([1, WIDTH], &values)
}

/// The head of one, with so much time.
fn announced(timeout: Duration) -> Announced<'static> {
    Announced {
        model: ModelSelector::default(),
        body_bytes: Some(4 * WIDTH + 100),
        tensor_bytes: Some(4 * WIDTH),
        deadline: Deadline::after(Instant::now(), timeout),
    }
}

fn anticipate(fixture: &Fixture, timeout: Duration) -> Result<Reservation, ServiceError> {
    fixture.worker.anticipate(&announced(timeout))
}

/// A worker whose runs take one row and 5 ms. It has learnt that of large requests no answer was
/// known.
async fn learnt(config: QueueConfig) -> Fixture {
    let config = queueing(QueueConfig { size_max: 1.try_into().unwrap(), ..config });
    let fixture = Fixture::of_equal_runs(&any_width(), &config);
    for number in 0..200 {
        fixture.ask(large(number)).await.unwrap();
    }
    fixture
}

/// Requests that wait.
type Waiting<'a> = Vec<BoxFuture<'a, Answer>>;

/// Fills the queue until another request of this time-out is refused by its head; none is known.
/// Tells who waits, and all that was refused, by its head last. A moment later there may be room for
/// another one: what runs has come nearer to its end.
fn fill(fixture: &Fixture, timeout: Duration) -> (Waiting<'_>, Vec<ServiceError>) {
    let (mut waiting, mut refused) = (Vec::new(), Vec::new());
    for number in 1000..2000 {
        match anticipate(fixture, timeout) {
            // A few are received all the same, to find out whether they are known.
            Ok(place) if place.is_empty() => {}
            Ok(_) => match fixture.try_to_begin(with_timeout(large(number), timeout)) {
                Ok(answer) => waiting.push(answer),
                // It was at the edge, and time goes on.
                Err(answer) => refused.push(answer.unwrap_err()),
            },
            Err(refusal) => {
                refused.push(refusal);
                return (waiting, refused);
            }
        }
    }
    panic!("nobody is refused");
}

/// Why the next is refused of which nobody wants to find out whether it is known.
fn refusal(fixture: &Fixture, timeout: Duration) -> ServiceError {
    let refused = (0..20).find_map(|_| anticipate(fixture, timeout).err());
    refused.expect("one of sixty-four is received")
}

/// How many were refused since then, whether by their heads or whole, when so many wait; and all of
/// them are counted as they should be.
async fn refusals(fixture: &Fixture, before: &WorkerStatus, waiting: usize) -> u64 {
    let now = fixture.status().await;
    let refused = now.batches.refused - before.batches.refused;
    assert_eq!(now.errors - before.errors, refused);
    assert_eq!(now.requests - before.requests, refused + waiting as u64);
    refused
}

/// The queue fills with large requests, and the head of the next is answered as it would be
/// itself.
#[tokio::test]
async fn who_would_be_refused_is_refused_by_the_head_in_the_same_words() {
    let full = QueueConfig { queue_requests_max: 10, ..QueueConfig::default() };
    for (config, timeout, words) in [
        (QueueConfig::default(), TIMEOUT, "the model is busy: an answer would take"),
        (full, PATIENCE, "the model's queue is full: 10 requests"),
    ] {
        let fixture = learnt(config).await;
        let busy = fixture.occupy();
        let before = fixture.status().await;
        let (mut waiting, refused) = fill(&fixture, timeout);
        let between = refusals(&fixture, &before, waiting.len()).await;
        assert_eq!(between, refused.len() as u64);
        let by_head = refused.last().unwrap();
        let begun = (2000..).map(|number| with_timeout(large(number), timeout));
        let mut begun = begun.map(|request| fixture.try_to_begin(request));
        let whole = begun.find_map(|begun| begun.map(|answer| waiting.push(answer)).err());
        let whole = whole.expect("the queue is full").unwrap_err();
        let after = refusals(&fixture, &before, waiting.len()).await;
        for error in [by_head, &whole] {
            assert!(error.to_string().starts_with(words), "{error}");
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            assert!(error.is_retryable() && error.load().is_some());
            assert!(error.worth_retrying_after().unwrap() > Duration::ZERO);
            assert_eq!(error.worker().map(WorkerId::as_str), Some("worker"));
        }
        assert_eq!(after - between, 1, "both are counted alike");
        drop(waiting);
        fixture.engine.release();
        within_patience(busy).await.unwrap();
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_or_cannot_be_met_is_a_reason_not_to_receive() {
    let fixture = learnt(QueueConfig::default()).await;
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        let error = refusal(&fixture, timeout);
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    }
    assert!(!anticipate(&fixture, PATIENCE).unwrap().is_empty());
    let stranger = Announced { model: ModelSelector::named("stranger"), ..announced(PATIENCE) };
    let error = fixture.worker.anticipate(&stranger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn who_is_let_in_by_the_head_counts_until_it_comes() {
    let config = QueueConfig { queue_requests_max: 10, ..QueueConfig::default() };
    let fixture = learnt(config).await;
    let busy = fixture.occupy();
    let waiting: Vec<_> = (0..5).map(|n| fixture.begin(large(1000 + n))).collect();
    // For a moment; on a machine that is away for so long they would be forgotten meanwhile.
    let places = loop {
        let began = Instant::now();
        let places: Vec<_> = (0..20).map_while(|_| anticipate(&fixture, PATIENCE).ok()).collect();
        if began.elapsed() < Duration::from_millis(100) {
            break places;
        }
    };
    // Of 32 that were looked up none was known, and so nearly all are expected to be computed.
    let kept = places.iter().filter(|place| !place.is_empty()).count();
    assert!((5..=6).contains(&kept), "{kept}");
    drop(places);
    assert!(anticipate(&fixture, PATIENCE).is_ok());
    drop(waiting);
    fixture.engine.release();
    within_patience(busy).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_known_are_not_thrown_away() {
    // By number, because by time there may soon be room for another one.
    let full = QueueConfig { queue_requests_max: 10, ..QueueConfig::default() };
    let fixture = learnt(full).await;
    let busy = fixture.occupy();
    let (waiting, _) = fill(&fixture, PATIENCE);
    // What is asked for now was asked for before, and needs no instance.
    for number in 0..100 {
        fixture.ask(with_timeout(large(number), TIMEOUT)).await.unwrap();
    }
    for _ in 0..100 {
        assert!(anticipate(&fixture, PATIENCE).unwrap().is_empty(), "nothing is kept free for it");
    }
    drop(waiting);
    fixture.engine.release();
    within_patience(busy).await.unwrap();
}

#[tokio::test]
async fn behind_a_head_may_be_an_urgent_request_where_there_was_one() {
    let fixture = learnt(QueueConfig::default()).await;
    let busy = fixture.occupy();
    let _waiting = fill(&fixture, TIMEOUT);
    let urgent = InferRequest { priority: 1.try_into().ok(), ..large(999) };
    let urgent = fixture.begin(urgent);
    assert!(!anticipate(&fixture, TIMEOUT).unwrap().is_empty());
    fixture.engine.release();
    within_patience(busy).await.unwrap();
    within_patience(urgent).await.unwrap();
}

#[tokio::test]
async fn of_a_model_nothing_is_known_of_everything_is_received() {
    let fixture = Fixture::with(&FakeBackend::new(), &WorkerConfig::default());
    assert!(anticipate(&fixture, Duration::from_millis(1)).is_ok());
}
