//! Requests of more rows than a run may have: computed by several runs, answered as one.

use inferring_backend::fake::FakeBackend;
use inferring_types::{CacheOutcome, DataType, ErrorKind, InferenceService as _, Tensor};
use inferring_worker::{BatchingMode, CacheConfig, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, FunctionBackend, any_width, expected, queueing, request, row, shape, start, tensor,
    values, within_patience,
};

fn size_max(size_max: usize) -> QueueConfig {
    QueueConfig { size_max: size_max.try_into().unwrap(), ..QueueConfig::default() }
}

/// Rows of two, all different.
fn numbers(rows: usize) -> Vec<f32> {
    (0..2 * rows).map(|number| number as f32).collect()
}

#[tokio::test]
async fn a_request_larger_than_a_batch_is_computed_in_parts_and_answered_whole() {
    for (rows, runs) in [(9, 2), (16, 2), (70, 9)] {
        let fixture = Fixture::with(&any_width(), &queueing(size_max(8)));
        let numbers = numbers(rows);
        let answer = fixture.ask(request([rows as u64, 2], &numbers)).await;
        assert_eq!(values(&answer), expected(2, &numbers));
        let answer = answer.unwrap();
        assert_eq!(answer.outputs[0].tensor.shape(), &[rows as u64, 2].into());
        assert_eq!(answer.served.cache, CacheOutcome::Computed);
        let run = fixture.rows_of_runs();
        assert!(run.len() == runs && run.iter().all(|&rows| rows <= 8), "{run:?}");
        assert_eq!(run.iter().sum::<u64>(), rows as u64);
        let again = fixture.ask(request([rows as u64, 2], &numbers)).await;
        assert_eq!(values(&again), expected(2, &numbers));
        assert_eq!(again.unwrap().served.cache, CacheOutcome::Hit);
    }
}

/// Such a request is looked up in parts of a run's size.
#[tokio::test]
async fn a_request_of_very_many_rows_is_known_as_well() {
    let fixture = Fixture::with(&any_width(), &queueing(size_max(32)));
    let rows = 10_007;
    let numbers = numbers(rows);
    let ask = || fixture.ask(request([rows as u64, 2], &numbers));
    assert_eq!(values(&ask().await), expected(2, &numbers));
    let runs = fixture.rows_of_runs();
    assert!(runs.iter().all(|&rows| rows <= 32), "{runs:?}");
    assert_eq!(runs.iter().sum::<u64>(), rows as u64);
    assert_eq!(fixture.status().await.cache.misses, rows.div_ceil(32) as u64);
    let again = ask().await;
    assert_eq!(values(&again), expected(2, &numbers));
    assert_eq!(again.unwrap().served.cache, CacheOutcome::Hit);
    assert_eq!(fixture.runs(), runs.len());
}

#[tokio::test]
async fn a_short_queue_takes_a_large_request_bit_by_bit() {
    let queue = QueueConfig { queue_requests_max: 2, ..size_max(4) };
    let without_cache = CacheConfig { entries: 0, ..CacheConfig::default() };
    for cache in [CacheConfig::default(), without_cache] {
        let config = WorkerConfig { cache, ..queueing(queue.clone()) };
        let fixture = Fixture::with(&any_width(), &config);
        let numbers = numbers(101);
        let answer = fixture.ask(request([101, 2], &numbers)).await;
        assert_eq!(values(&answer), expected(2, &numbers));
        assert_eq!(fixture.rows_of_runs().iter().sum::<u64>(), 101);
    }
}

/// However many runs it takes; and its later parts are let in though the queue is full by then.
#[tokio::test]
async fn a_request_has_one_place_in_the_queue() {
    let queue = QueueConfig { queue_requests_max: 2, ..size_max(4) };
    for rows in [9, 2000] {
        let fixture = Fixture::with(&any_width(), &queueing(queue.clone()));
        let busy = fixture.occupy();
        let numbers = [0, 1, 2].map(|n| (0..2 * rows).map(|i| (i + n * 2 * rows) as f32).collect());
        let [first, second, third]: [Vec<f32>; 3] = numbers;
        let ask = |numbers: &[f32]| request([rows as u64, 2], numbers);
        let answers = [&first, &second].map(|numbers| fixture.begin(ask(numbers)));
        assert_eq!(fixture.status().await.batches.queued, 2);
        for refused in [ask(&third), row(1.0)] {
            let error = fixture.ask(refused).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            assert!(error.to_string().contains("full: 2 requests"), "{error}");
        }
        fixture.engine.release();
        busy.await.unwrap();
        for (numbers, answer) in [first, second].iter().zip(answers) {
            assert_eq!(values(&within_patience(answer).await), expected(2, numbers));
        }
        assert_eq!(values(&fixture.ask(ask(&third)).await), expected(2, &third));
        let status = fixture.status().await;
        assert_eq!((status.batches.queued, status.batches.refused), (0, 2));
    }
}

/// A client that leaves takes its request's parts along, and their place.
#[tokio::test]
async fn parts_of_a_request_that_nobody_waits_for_do_not_run() {
    let queue = QueueConfig { queue_requests_max: 1, ..size_max(4) };
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(queue));
    let busy = fixture.occupy();
    let numbers: Vec<f32> = (100..132u8).map(f32::from).collect();
    drop(fixture.begin(request([8, 4], &numbers)));
    let other = fixture.begin(request([8, 4], &numbers));
    fixture.engine.release();
    busy.await.unwrap();
    assert_eq!(values(&within_patience(other).await), expected(4, &numbers));
    assert_eq!(fixture.rows_of_runs().iter().sum::<u64>(), 1 + 8);
}

/// As many rows as no memory holds, all of them empty: there is nothing to take apart.
#[tokio::test]
async fn rows_without_a_byte_are_not_counted_one_by_one() {
    let fixture = Fixture::of_any_width(&WorkerConfig::default());
    let many = Tensor::new(DataType::Fp32, [1 << 40, 0].into(), bytes::Bytes::new()).unwrap();
    let mut request = request([1, 1], &[0.0]);
    request.inputs[0].tensor = many.clone();
    let answer = fixture.ask(request).await.unwrap();
    assert_eq!(answer.outputs[0].tensor, many);
    assert_eq!(fixture.runs(), 1);
}

/// A declaration that does not hold costs nobody an answer that the model can give.
#[tokio::test]
async fn rows_whose_answers_do_not_come_together_are_computed_together() {
    let backend = FunctionBackend {
        shape: shape(&[None, Some(1)]),
        function: |inputs| {
            let numbers = inputs[0].to_f32().unwrap();
            // Two rows, whatever there is.
            Ok(vec![tensor([2, 1], &[numbers.iter().sum(), numbers.len() as f32])])
        },
    };
    let config = queueing(QueueConfig { mode: BatchingMode::Rows, ..size_max(4) });
    let worker = start(&["model"], &backend, &config);
    let ask = |numbers: &[f32]| worker.infer(request([numbers.len() as u64, 1], numbers));
    assert_eq!(values(&ask(&[1.0, 2.0, 4.0]).await), [7.0, 3.0]);
    assert_eq!(values(&ask(&[1.0]).await), [1.0, 1.0]);
    // One of them is known now.
    assert_eq!(values(&ask(&[1.0, 8.0]).await), [9.0, 2.0]);
    // Both are, or are one.
    assert_eq!(values(&ask(&[8.0, 1.0]).await), [9.0, 2.0]);
    assert_eq!(values(&ask(&[9.0, 9.0]).await), [18.0, 2.0]);
    let error = ask(&[1.0, 1.0, 1.0, 1.0, 1.0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("does not keep rows apart"), "{error}");
}
