//! Which requests share a run, and what is counted about it.

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_backend::fake::FakeBackend;
use inferring_types::{InferenceService as _, ModelSelector};
use inferring_worker::{BatchingMode, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, FunctionBackend, PATIENCE, any_width, expected, queueing, request, row, row_answer,
    shape, start, tensor, values, within_patience,
};

fn size_max(size_max: usize) -> QueueConfig {
    QueueConfig { size_max: size_max.try_into().unwrap(), ..QueueConfig::default() }
}

#[tokio::test]
async fn requests_gather_while_the_instance_is_busy_and_leave_together() {
    let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
    let busy = fixture.occupy();
    let answers: Vec<_> = (0..5u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    assert_eq!(fixture.status().await.batches.queued, 5);
    assert_eq!(fixture.status().await.in_flight, 6);
    fixture.engine.release();
    busy.await.unwrap();
    for (n, answer) in (0..5u8).zip(answers) {
        let answer = within_patience(answer).await;
        assert_eq!(values(&answer), row_answer(f32::from(n)));
        assert_eq!(answer.unwrap().served.batch_size, 5);
    }
    assert_eq!(fixture.rows_of_runs(), [1, 5]);
    let status = fixture.status().await;
    assert_eq!((status.batches.queued, status.in_flight), (0, 0));
    assert_eq!((status.batches.batches, status.batches.rows), (2, 6));
}

#[tokio::test]
async fn a_batch_never_exceeds_the_maximum() {
    let fixture = Fixture::eager(&FakeBackend::new(), &queueing(size_max(8)));
    let busy = fixture.occupy();
    let answers: Vec<_> = (0..20u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    fixture.engine.release();
    busy.await.unwrap();
    for (n, answer) in (0..20u8).zip(answers) {
        assert_eq!(values(&within_patience(answer).await), row_answer(f32::from(n)));
    }
    assert_eq!(fixture.rows_of_runs(), [1, 8, 8, 4]);
    let batches = fixture.status().await.batches;
    assert_eq!((batches.batches, batches.rows, batches.full), (4, 21, 2));
    assert_eq!(batches.full + batches.delay, batches.batches);
}

#[tokio::test]
async fn requests_of_several_rows_and_shapes_are_joined_by_shape() {
    let fixture = Fixture::eager(&any_width(), &queueing(size_max(8)));
    let busy = fixture.occupy();
    let shapes: [[usize; 2]; 7] = [[2, 4], [1, 3], [3, 4], [2, 3], [9, 4], [1, 4], [3, 4]];
    let inputs = shapes.map(|[rows, width]| {
        (0..rows * width).map(|n| (n * rows * 7 % 31) as f32).collect::<Vec<_>>()
    });
    let ask = |([rows, width], input): ([usize; 2], &Vec<f32>)| {
        fixture.begin(request([rows as u64, width as u64], input))
    };
    let answers: Vec<_> = shapes.into_iter().zip(&inputs).map(ask).collect();
    fixture.engine.release();
    busy.await.unwrap();
    for (([_, width], input), answer) in shapes.iter().zip(&inputs).zip(answers) {
        assert_eq!(values(&within_patience(answer).await), expected(*width, input));
    }
    // The last [3,4] equals the first and joined it. Of a request larger than a batch, the rest
    // leaves with others.
    assert_eq!(fixture.rows_of_runs(), [1, 5, 3, 8, 2]);
}

#[tokio::test]
async fn a_model_whose_rows_mix_runs_every_request_alone() {
    for (backend, mode) in [
        (FakeBackend::new().with_rows_that_mix(), BatchingMode::Auto),
        (FakeBackend::new(), BatchingMode::Alone),
    ] {
        let config = queueing(QueueConfig { mode, ..QueueConfig::default() });
        let fixture = Fixture::with(&backend, &config);
        let model = fixture.worker.model(ModelSelector::default()).unwrap();
        assert!(!model.batching.joins_rows(), "{:?}", model.batching);
        let busy = fixture.occupy();
        let answers: Vec<_> = (0..5u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
        let three = fixture.begin(request([3, 4], &[1.0; 12]));
        fixture.engine.release();
        busy.await.unwrap();
        for (n, answer) in (0..5u8).zip(answers) {
            assert_eq!(values(&within_patience(answer).await), row_answer(f32::from(n)));
        }
        assert_eq!(within_patience(three).await.unwrap().served.batch_size, 1);
        assert_eq!(fixture.rows_of_runs(), [1, 1, 1, 1, 1, 1, 3]);
        // What is no row for the model is none in the books.
        let batches = fixture.status().await.batches;
        assert_eq!((batches.batches, batches.rows, batches.full), (7, 7, 7));
    }
}

#[tokio::test]
async fn where_instances_do_not_take_at_once_a_batch_leaves_full_or_late() {
    let patient = QueueConfig {
        dispatch_when_idle: false,
        delay_max: Duration::from_millis(5),
        ..size_max(2)
    };
    let never_late = QueueConfig { delay_max: 100 * PATIENCE, ..patient.clone() };
    let fixture = Fixture::with(&FakeBackend::new(), &queueing(never_late));
    let (first, second) = tokio::join!(fixture.ask(row(1.0)), fixture.ask(row(2.0)));
    assert_eq!((values(&first), values(&second)), (row_answer(1.0), row_answer(2.0)));
    let batches = fixture.status().await.batches;
    assert_eq!((batches.full, batches.delay, batches.idle), (1, 0, 0));

    let fixture = Fixture::with(&FakeBackend::new(), &queueing(patient));
    let answer = fixture.ask(row(1.0)).await.unwrap();
    assert!(answer.served.queue_time >= Duration::from_millis(5));
    let batches = fixture.status().await.batches;
    assert_eq!((batches.full, batches.delay, batches.idle), (0, 1, 0));
}

#[tokio::test]
async fn as_many_batches_run_at_once_as_there_are_instances() {
    let config = WorkerConfig { instances: NonZeroUsize::new(3), ..queueing(size_max(1)) };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.hold();
    let answers: Vec<_> = (0..5u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    assert!(fixture.engine.wait_until_running(3, PATIENCE));
    assert_eq!(fixture.status().await.batches.queued, 2);
    fixture.engine.release();
    for (n, answer) in (0..5u8).zip(answers) {
        assert_eq!(values(&within_patience(answer).await), row_answer(f32::from(n)));
    }
}

/// An instance that waits for one lane to fill must not sleep through another that is full.
#[tokio::test]
async fn a_full_lane_leaves_while_instances_wait_for_others() {
    for instances in [1, 2, 3] {
        let config = WorkerConfig {
            instances: NonZeroUsize::new(instances),
            ..queueing(QueueConfig {
                dispatch_when_idle: false,
                delay_max: 100 * PATIENCE,
                ..size_max(2)
            })
        };
        let fixture = Fixture::of_any_width(&config);
        for round in 0..50u8 {
            let value = f32::from(round);
            // One waits in each of four lanes, then all four fill up in another order.
            let halves = [1, 2, 3, 4].map(|width| (width, value));
            let others = [3, 1, 4, 2].map(|width| (width, -1.0 - value));
            let clients = halves.into_iter().chain(others).map(|(width, value)| {
                let worker = fixture.worker.clone();
                let request = request([1, width], &vec![value; width as usize]);
                tokio::spawn(async move { worker.infer(request).await })
            });
            for client in clients.collect::<Vec<_>>() {
                within_patience(client).await.unwrap().unwrap();
            }
        }
        let batches = fixture.status().await.batches;
        assert_eq!((batches.batches, batches.full, batches.rows), (200, 200, 400));
    }
}

/// A declaration that does not hold must not give anybody another's answer.
#[tokio::test]
async fn outputs_that_do_not_split_into_rows_are_computed_apart() {
    let backend = FunctionBackend {
        shape: shape(&[None, Some(1)]),
        function: |inputs| {
            let numbers = inputs[0].to_f32().unwrap();
            // The answer to several rows is one row: nobody can say whose.
            Ok(vec![tensor([1, 1], &[numbers.iter().sum()])])
        },
    };
    let config = queueing(QueueConfig {
        mode: BatchingMode::Rows,
        dispatch_when_idle: false,
        delay_max: 100 * PATIENCE,
        ..size_max(3)
    });
    let worker = start(&["model"], &backend, &config);
    assert!(worker.model(ModelSelector::default()).unwrap().batching.joins_rows());
    let clients = [1.0, 2.0, 3.0].map(|number| {
        let worker = worker.clone();
        tokio::spawn(async move { worker.infer(request([1, 1], &[number])).await })
    });
    for (number, client) in [1.0, 2.0, 3.0].into_iter().zip(clients) {
        assert_eq!(values(&within_patience(client).await.unwrap()), [number]);
    }
}

#[tokio::test]
async fn many_lanes_leave_in_the_order_of_their_oldest() {
    let fixture = Fixture::with(&any_width(), &WorkerConfig::default());
    let busy = fixture.occupy();
    // Widths differ, so no two share a run; the rows tell the runs apart.
    let answers: Vec<_> = (1..=8u64)
        .map(|n| {
            let numbers: Vec<f32> = (0..n * (20 - n)).map(|number| number as f32).collect();
            fixture.begin(request([n, 20 - n], &numbers))
        })
        .collect();
    fixture.engine.release();
    busy.await.unwrap();
    for answer in answers {
        within_patience(answer).await.unwrap();
    }
    assert_eq!(fixture.rows_of_runs(), [1, 1, 2, 3, 4, 5, 6, 7, 8]);
}
