//! More work than can be done in time: what is refused and when, and what goes first.

use std::num::NonZeroU32;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inferring_backend::fake::FakeBackend;
use inferring_types::{Blame, BoxFuture, ErrorKind, InferRequest, InferenceService as _, WorkerId};
use inferring_worker::{QueueConfig, WorkerConfig};

use crate::fixture::{
    Answer, Fixture, PATIENCE, any_width, queueing, request, row, row_answer, values, with_timeout,
    within_patience,
};

fn one_by_one() -> WorkerConfig {
    queueing(QueueConfig { size_max: 1.try_into().unwrap(), ..QueueConfig::default() })
}

/// Asks as far as the request goes without waiting; the answer where that is all the way.
fn try_begin(
    fixture: &Fixture,
    request: InferRequest,
) -> Result<BoxFuture<'_, Answer>, Box<Answer>> {
    let mut answer = fixture.worker.infer(request);
    match pin!(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(answer),
        Poll::Ready(answer) => Err(Box::new(answer)),
    }
}

/// A request of so many rows of that width, none like another.
fn rows(count: u64, width: u64) -> InferRequest {
    let numbers: Vec<f32> =
        (0..count * width).map(|number| (100 * width + number) as f32).collect();
    request([count, width], &numbers)
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_refused_at_once_and_the_queue_stays_short() {
    // A run takes 5 ms and is for one request, so about 40 can be answered in this time.
    let timeout = Duration::from_millis(200);
    let fixture = Fixture::of_equal_runs(&FakeBackend::new(), &one_by_one());
    let busy = fixture.occupy();
    let (mut admitted, mut refused) = (Vec::new(), 0);
    for number in 0..300u16 {
        match try_begin(&fixture, with_timeout(row(f32::from(number)), timeout)) {
            Ok(answer) => admitted.push((number, answer)),
            Err(answer) => {
                let error = answer.unwrap_err();
                assert_eq!((error.kind(), error.blame()), (ErrorKind::Overloaded, Blame::Server));
                assert!(error.is_retryable());
                let retry_after = error.worth_retrying_after().unwrap();
                assert!(retry_after > Duration::ZERO && retry_after < PATIENCE, "{retry_after:?}");
                refused += 1;
            }
        }
    }
    assert!((1..80).contains(&admitted.len()), "{} were admitted", admitted.len());
    let batches = fixture.status().await.batches;
    assert_eq!((batches.queued, batches.refused), (admitted.len() as u64, refused));
    fixture.engine.release();
    within_patience(busy).await.unwrap();
    let admitted_count = admitted.len();
    for (number, answer) in admitted {
        match within_patience(answer).await {
            Ok(answer) => assert_eq!(values(&Ok(answer)), row_answer(f32::from(number))),
            // The machine was slower than it had been.
            Err(error) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}"),
        }
    }
    assert!(fixture.runs() <= 1 + admitted_count);
    // Who had no more time was told so, and may have left a job behind that is dropped at its turn.
    within_patience(async {
        while fixture.status().await.batches.queued > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_with_less_time_than_a_run_takes_is_told_so_and_never_runs() {
    let fixture = Fixture::of_equal_runs(&FakeBackend::new(), &WorkerConfig::default());
    // What a run costs was found out just now.
    fixture.ask(row(1.0)).await.unwrap();
    let Err(answer) = try_begin(&fixture, with_timeout(row(2.0), Duration::from_millis(1))) else {
        panic!("it waits for an answer that comes too late");
    };
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::DeadlineExceeded, false));
    assert!(error.to_string().contains("left"), "{error}");
    assert_eq!(fixture.runs(), 1);
}

#[tokio::test]
async fn every_answer_tells_what_the_next_request_can_expect() {
    let mut config = one_by_one();
    config.batching.queue_requests_max = 20;
    let fixture = Fixture::of_equal_runs(&FakeBackend::new(), &config);
    let load = fixture.ask(row(1.0)).await.unwrap().served.load;
    assert!(load.run >= Duration::from_millis(5), "{load:?}");
    let busy = fixture.occupy();
    let waiting: Vec<_> = (2..22u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    // An answer that is known tells it too, and so does a refusal.
    let load = fixture.ask(row(1.0)).await.unwrap().served.load;
    let least = 20 * Duration::from_millis(5);
    assert!(load.wait >= least && load.wait < PATIENCE, "{load:?}");
    let Err(refused) = try_begin(&fixture, row(99.0)) else { panic!("the queue is full") };
    let error = refused.unwrap_err();
    assert_eq!(error.worker().map(WorkerId::as_str), Some("worker"));
    let load = error.load().unwrap();
    assert!(load.wait >= least && load.wait < PATIENCE, "{load:?}");
    fixture.engine.release();
    within_patience(busy).await.unwrap();
    for answer in waiting {
        within_patience(answer).await.unwrap();
    }
    let calm = async {
        while fixture.ask(row(1.0)).await.unwrap().served.load.wait > Duration::ZERO {
            tokio::task::yield_now().await;
        }
    };
    within_patience(calm).await;
}

#[tokio::test]
async fn the_more_urgent_goes_first() {
    let fixture = Fixture::with(&any_width(), &WorkerConfig::default());
    let busy = fixture.occupy();
    let of_priority = |level, request: InferRequest| {
        let priority = NonZeroU32::new(level);
        fixture.begin(InferRequest { priority, ..request })
    };
    // Widths differ, so that no two share a run; the rows tell the runs apart. Priority 0 is
    // none, and so the model's default, 2 of 3.
    let answers = [(3, 2), (3, 3), (0, 4), (2, 5), (1, 6)]
        .map(|(level, count)| of_priority(level, rows(count, 10 - count)));
    fixture.engine.release();
    within_patience(busy).await.unwrap();
    for answer in answers {
        within_patience(answer).await.unwrap();
    }
    let runs = fixture.rows_of_runs();
    assert_eq!(runs[..2], [1, 6], "{runs:?}");
    let place = |count| runs.iter().position(|rows| *rows == count).unwrap();
    assert!(place(4) < place(5) && place(2) < place(3), "each class in its order: {runs:?}");
}

#[tokio::test]
async fn within_a_class_whoever_has_least_time_goes_first() {
    let fixture = Fixture::with(&any_width(), &WorkerConfig::default());
    let busy = fixture.occupy();
    let answers = [(2, 40), (3, 20), (4, 30)].map(|(count, patience)| {
        fixture.begin(with_timeout(rows(count, 10 - count), patience * PATIENCE))
    });
    fixture.engine.release();
    within_patience(busy).await.unwrap();
    for answer in answers {
        within_patience(answer).await.unwrap();
    }
    assert_eq!(fixture.rows_of_runs(), [1, 3, 4, 2]);
}

#[tokio::test]
async fn statistics_tell_why_batches_left_and_what_runs_cost() {
    use inferring_types::ModelRepository as _;

    let fixture = Fixture::of_equal_runs(&FakeBackend::new(), &one_by_one());
    fixture.ask(row(1.0)).await.unwrap();
    let statistics = fixture.worker.statistics(None).await.unwrap();
    let [statistics] = &statistics[..] else { panic!("one model") };
    let batching = statistics.batching;
    assert_eq!((batching.batches, batching.rows, batching.full), (1, 1, 1));
    let [curve] = &statistics.curves[..] else { panic!("{:?}", statistics.curves) };
    let [point] = &curve.points[..] else { panic!("one size is possible: {curve:?}") };
    assert_eq!((curve.row_bytes, point.rows), (16, 1));
    assert!(point.runs >= 2 && point.time >= Duration::from_millis(5), "{point:?}");
}
