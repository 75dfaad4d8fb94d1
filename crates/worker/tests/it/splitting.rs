//! Requests of more rows than a run may have: computed by several runs, answered as one.

use inferring_backend::fake::FakeBackend;
use inferring_types::{CacheOutcome, DataType, ErrorKind, InferenceService as _, Tensor};
use inferring_worker::{BatchingMode, CacheConfig, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, FunctionBackend, any_width, expected, queueing, request, row, row_answer, shape,
    start, tensor, values, within_patience,
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

#[tokio::test]
async fn a_part_that_is_refused_refuses_the_request_and_the_others_do_not_run() {
    let queue = QueueConfig { queue_requests_max: 8, ..size_max(4) };
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(queue));
    let busy = fixture.occupy();
    let others: Vec<_> = (0..7u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    // One of its parts fits.
    let numbers: Vec<f32> = (100..132u8).map(f32::from).collect();
    let error = fixture.ask(request([8, 4], &numbers)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    fixture.engine.release();
    busy.await.unwrap();
    for (n, other) in (0..7u8).zip(others) {
        assert_eq!(values(&within_patience(other).await), row_answer(f32::from(n)));
    }
    assert_eq!(values(&fixture.ask(request([8, 4], &numbers)).await), expected(4, &numbers));
    assert_eq!(fixture.rows_of_runs().iter().sum::<u64>(), 1 + 7 + 8);
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
