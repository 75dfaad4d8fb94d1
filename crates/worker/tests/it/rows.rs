//! Rows of requests, each looked up by itself: what is known is not computed again, what is
//! being computed is waited for, and whose fault a failure is.

use std::time::Duration;

use inferring_backend::fake::FakeBackend;
use inferring_types::{
    CacheOutcome, DataType, Deadline, ErrorKind, InferRequest, InferenceService as _, NamedTensor,
    Shape, Tensor,
};
use inferring_worker::{QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, PATIENCE, any_width, expected, queueing, request, row, row_answer, values,
    with_timeout, within_patience,
};

const POISON: f32 = -777.0;

/// Rows of four that begin with these numbers.
fn numbers(rows: &[f32]) -> Vec<f32> {
    rows.iter().flat_map(|&row| [row, 0.0, 1.0, 2.0]).collect()
}

/// A request of these rows; each of them is as good as a [`row`].
fn rows(rows: &[f32]) -> InferRequest {
    request([rows.len() as u64, 4], &numbers(rows))
}

fn rows_answer(rows: &[f32]) -> Vec<f32> {
    expected(4, &numbers(rows))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_rows_that_are_mostly_known_the_unknown_are_computed() {
    let fixture = Fixture::new();
    let known: Vec<f32> = (0..288u16).map(f32::from).collect();
    for some in known.chunks(32) {
        fixture.ask(rows(some)).await.unwrap();
    }
    let before = (fixture.engine.rows(), fixture.status().await.cache);
    assert_eq!(before.1.entries, 288);
    let mut unknown = 0;
    // One row in ten is new: three in each request, and one more in each fifth.
    let requests = (0..100u16).map(|number| {
        let new = 3 + usize::from(number.is_multiple_of(5));
        let mut these: Vec<f32> =
            (0..32).map(|row| known[(usize::from(number) * 7 + row * 13) % known.len()]).collect();
        for row in &mut these[10..10 + new] {
            unknown += 1;
            *row = -f32::from(unknown as u16);
        }
        these
    });
    let clients: Vec<_> = requests
        .collect::<Vec<_>>()
        .into_iter()
        .map(|these| {
            let worker = fixture.worker.clone();
            tokio::spawn(async move { (worker.infer(rows(&these)).await, these) })
        })
        .collect();
    for client in clients {
        let (answer, these) = within_patience(client).await.unwrap();
        assert_eq!(values(&answer), rows_answer(&these));
        assert_eq!(answer.unwrap().served.cache, CacheOutcome::Computed);
    }
    assert_eq!(unknown, 320);
    assert_eq!(fixture.engine.rows() - before.0, 320);
    let cache = fixture.status().await.cache;
    assert_eq!(cache.misses - before.1.misses, 320);
    assert_eq!(cache.hits - before.1.hits, 3200 - 320);
}

#[tokio::test]
async fn a_row_is_the_same_alone_and_among_others() {
    let fixture = Fixture::new();
    fixture.ask(rows(&[1.0, 2.0, 3.0])).await.unwrap();
    for value in [3.0, 1.0, 2.0] {
        let answer = fixture.ask(row(value)).await;
        assert_eq!(values(&answer), row_answer(value));
        assert_eq!(answer.unwrap().served.cache, CacheOutcome::Hit);
    }
    fixture.ask(row(4.0)).await.unwrap();
    let answer = fixture.ask(rows(&[4.0, 2.0])).await;
    assert_eq!(values(&answer), rows_answer(&[4.0, 2.0]));
    let served = answer.unwrap().served;
    assert_eq!((served.cache, served.batch_size), (CacheOutcome::Hit, 0));
    assert_eq!(fixture.rows_of_runs(), [3, 1]);
}

#[tokio::test]
async fn equal_rows_of_one_request_are_computed_once() {
    let fixture = Fixture::new();
    let answer = fixture.ask(rows(&[5.0, 6.0, 5.0, 5.0, 6.0])).await;
    assert_eq!(values(&answer), rows_answer(&[5.0, 6.0, 5.0, 5.0, 6.0]));
    assert_eq!(answer.unwrap().outputs[0].tensor.shape(), &[5, 4].into());
    assert_eq!(fixture.rows_of_runs(), [2]);
    let cache = fixture.status().await.cache;
    assert_eq!((cache.misses, cache.joined, cache.hits, cache.entries), (2, 3, 0, 2));
}

#[tokio::test]
async fn rows_that_are_being_computed_are_waited_for() {
    let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
    let busy = fixture.occupy();
    let asked: [&[f32]; 5] = [&[1.0, 2.0, 3.0], &[2.0, 4.0, 3.0], &[3.0, 1.0], &[2.0], &[4.0, 4.0]];
    let answers = asked.map(|these| fixture.begin(rows(these)));
    fixture.engine.release();
    busy.await.unwrap();
    let mut outcomes = Vec::new();
    for (these, answer) in asked.into_iter().zip(answers) {
        let answer = within_patience(answer).await;
        assert_eq!(values(&answer), rows_answer(these));
        outcomes.push(answer.unwrap().served.cache);
    }
    let [led, joined] = [CacheOutcome::Computed, CacheOutcome::Joined];
    assert_eq!(outcomes, [led, led, joined, joined, joined]);
    assert_eq!(fixture.rows_of_runs(), [1, 4]);
}

#[tokio::test]
async fn what_took_longest_is_what_a_request_took() {
    let fixture = Fixture::new();
    fixture.ask(row(1.0)).await.unwrap();
    let delay = Duration::from_millis(20);
    fixture.engine.set_delay(delay);
    let served = fixture.ask(rows(&[1.0, 2.0, 3.0])).await.unwrap().served;
    assert!(served.execution_time >= delay, "{served:?}");
    assert!(served.inference_time >= served.queue_time + served.execution_time);
    assert_eq!(served.batch_size, 2);
}

#[tokio::test]
async fn who_asked_first_may_leave_or_run_out_of_time_and_its_rows_are_computed_for_others() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let leaves = fixture.begin(rows(&[1.0, 2.0]));
    let soon = Duration::from_millis(20);
    let runs_out = fixture.begin(with_timeout(rows(&[3.0, 4.0]), soon));
    let others = [[2.0, 5.0], [4.0, 6.0]].map(|these| (these, fixture.begin(rows(&these))));
    drop(leaves);
    assert_eq!(runs_out.await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    fixture.engine.release();
    busy.await.unwrap();
    for (these, other) in others {
        assert_eq!(values(&within_patience(other).await), rows_answer(&these));
    }
}

/// The good row was joined; the run failed for the other one.
#[tokio::test]
async fn who_joined_a_good_row_pays_nothing_for_the_poison_of_another() {
    let fixture = Fixture::new();
    fixture.engine.set_poison(Some(POISON));
    let busy = fixture.occupy();
    let poisoned = fixture.begin(rows(&[1.0, POISON]));
    let good = fixture.begin(row(1.0));
    let mixed = fixture.begin(rows(&[2.0, 1.0]));
    let bad = fixture.begin(row(POISON));
    fixture.engine.release();
    busy.await.unwrap();
    assert_eq!(within_patience(poisoned).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(within_patience(bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(values(&within_patience(good).await), row_answer(1.0));
    assert_eq!(values(&within_patience(mixed).await), rows_answer(&[2.0, 1.0]));
    assert_eq!(fixture.status().await.errors, 2);
}

/// An error is looked up again once, not for ever.
#[tokio::test]
async fn who_fails_again_after_the_failure_of_another_is_told_so() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let first = fixture.begin(rows(&[1.0, 2.0]));
    let second = fixture.begin(rows(&[2.0, 3.0]));
    fixture.engine.fail_next(u64::MAX);
    fixture.engine.release();
    for answer in [busy, first, second] {
        assert_eq!(within_patience(answer).await.unwrap_err().kind(), ErrorKind::Internal);
    }
    fixture.engine.fail_next(0);
    assert_eq!(fixture.status().await.cache.entries, 0);
    let answer = fixture.ask(rows(&[3.0, 2.0, 1.0])).await;
    assert_eq!(values(&answer), rows_answer(&[3.0, 2.0, 1.0]));
}

#[tokio::test]
async fn who_joins_and_is_in_more_of_a_hurry_hurries_the_job() {
    let queue = QueueConfig { size_max: 2.try_into().unwrap(), ..QueueConfig::default() };
    for (times, order) in [(20, [1, 2, 1]), (2, [1, 1, 2])] {
        let fixture = Fixture::with(&any_width(), &queueing(queue.clone()));
        let busy = fixture.occupy();
        let within = |times, request| with_timeout(request, times * PATIENCE);
        let last = fixture.begin(within(9, request([1, 3], &[1.0; 3])));
        let first = fixture.begin(within(5, rows(&[1.0, 2.0])));
        let joined = fixture.begin(within(times, request([1, 3], &[1.0; 3])));
        fixture.engine.release();
        for answer in [busy, last, first, joined] {
            within_patience(answer).await.unwrap();
        }
        assert_eq!(fixture.rows_of_runs(), order, "{times}");
    }
}

/// A step of a model whose state has its rows on the second axis, with an input without rows.
fn step(rows: &[f32], scale: i64) -> InferRequest {
    let input = NamedTensor::new("input".into(), floats([rows.len() as u64, 4], &numbers(rows)));
    let state: Vec<f32> = (0..2)
        .flat_map(|block| rows.iter().flat_map(move |&row| [row + block as f32, 0.5, -row]))
        .collect();
    let state = NamedTensor::new("state".into(), floats([2, rows.len() as u64, 3], &state));
    let scale = Tensor::new(DataType::Int64, Shape::default(), scale.to_le_bytes().to_vec().into());
    let scale = NamedTensor::new("scale".into(), scale.unwrap());
    InferRequest { inputs: vec![input, state, scale], ..row(0.0) }
}

fn floats(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.into(), values).unwrap()
}

#[tokio::test]
async fn rows_on_another_axis_are_known_one_by_one_and_an_input_without_rows_by_its_content() {
    let backend = FakeBackend::recurrent();
    let folder = tempfile::tempdir().unwrap();
    let config = "[inputs.state]\nbatch_axis = 1\n[outputs.next_state]\nbatch_axis = 1\n";
    let model = folder.path().join("model");
    std::fs::create_dir_all(model.join("1")).unwrap();
    std::fs::write(model.join("1/model.onnx"), "").unwrap();
    std::fs::write(model.join("config.toml"), config).unwrap();
    let repository = inferring_repository::Repository::open([folder.path()]).unwrap();
    let worker = inferring_worker::Worker::start(
        "worker".into(),
        repository,
        std::sync::Arc::new(backend.clone()),
        &WorkerConfig::default(),
    )
    .unwrap();
    let metadata = worker.models().remove(0);
    assert!(metadata.batching.joins_rows(), "{:?}", metadata.batching);
    let engine = backend.control();
    let ask = async |rows: &[f32], scale| {
        let before = engine.rows();
        let answer = within_patience(worker.infer(step(rows, scale))).await.unwrap();
        (answer.outputs.clone(), engine.rows() - before, answer.served.cache)
    };
    let (both, computed, _) = ask(&[1.0, 2.0], 3).await;
    assert_eq!(computed, 2);
    let (second, computed, outcome) = ask(&[2.0], 3).await;
    assert_eq!((computed, outcome), (0, CacheOutcome::Hit));
    assert_eq!(second[1].tensor.shape(), &[2, 1, 3].into());
    let (turned, computed, _) = ask(&[2.0, 1.0, 2.0], 3).await;
    assert_eq!(computed, 0);
    assert_eq!(turned[1].tensor.shape(), &[2, 3, 3].into());
    let all = |index: usize, outputs: &[NamedTensor]| outputs[index].tensor.to_f32().unwrap();
    let (state, of_both) = (all(1, &turned), all(1, &both));
    for block in 0..2 {
        let row = |of: &[f32], rows: usize, row: usize| {
            let at = (block * rows + row) * 3;
            of[at..at + 3].to_vec()
        };
        assert_eq!(row(&state, 3, 0), row(&of_both, 2, 1));
        assert_eq!(row(&state, 3, 1), row(&of_both, 2, 0));
        assert_eq!(row(&state, 3, 2), row(&all(1, &second), 1, 0));
    }
    // Another scale is another answer to the same rows.
    let (_, computed, _) = ask(&[2.0, 1.0], 4).await;
    assert_eq!(computed, 2);
}

#[tokio::test]
async fn a_request_without_any_time_left_looks_nothing_up() {
    let fixture = Fixture::new();
    let late = InferRequest {
        deadline: Deadline::after(std::time::Instant::now(), Duration::ZERO),
        ..rows(&[1.0, 2.0])
    };
    assert_eq!(fixture.ask(late).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    let cache = fixture.status().await.cache;
    assert_eq!(cache.hits + cache.joined + cache.misses, 0);
}
