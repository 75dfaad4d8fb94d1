//! Runs that fail: whose fault it is, and that nobody else pays for it.

use std::num::NonZeroUsize;

use bytes::Bytes;
use inferring_backend::fake::FakeBackend;
use inferring_types::{Blame, DataType, ErrorKind, InferenceService as _, ModelSelector, Tensor};
use inferring_worker::{BatchingMode, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, FunctionBackend, PATIENCE, queueing, request, row, row_answer, shape, start, values,
    within_patience,
};

const POISON: f32 = -777.0;

#[tokio::test]
async fn a_poison_row_fails_alone() {
    for (poisoned, size) in [(0, 1), (0, 8), (3, 8), (7, 8), (5, 9)] {
        let fixture = Fixture::new();
        fixture.engine.set_poison(Some(POISON));
        let busy = fixture.occupy();
        let value = |n: u8| if n == poisoned { POISON } else { f32::from(n) };
        let answers: Vec<_> = (0..size).map(|n| fixture.begin(row(value(n)))).collect();
        fixture.engine.release();
        busy.await.unwrap();
        for (n, answer) in (0..size).zip(answers) {
            let answer = within_patience(answer).await;
            if n != poisoned {
                assert_eq!(values(&answer), row_answer(f32::from(n)));
                continue;
            }
            let error = answer.unwrap_err();
            assert_eq!((error.kind(), error.blame()), (ErrorKind::InvalidArgument, Blame::Client));
            assert!(!error.is_retryable());
            assert!(error.to_string().contains("poison value -777"), "{error}");
        }
        assert_eq!(fixture.status().await.errors, 1);
    }
}

#[tokio::test]
async fn a_batch_of_poison_fails_whole_and_the_instance_goes_on() {
    let fixture = Fixture::new();
    fixture.engine.set_poison(Some(POISON));
    let busy = fixture.occupy();
    let answers: Vec<_> = (0..5u8)
        .map(|n| fixture.begin(request([1, 4], &[POISON, f32::from(n), 0.0, 0.0])))
        .collect();
    fixture.engine.release();
    busy.await.unwrap();
    for answer in answers {
        let error = within_patience(answer).await.unwrap_err();
        assert_eq!(error.blame(), Blame::Client);
    }
    assert_eq!(values(&fixture.ask(row(1.0)).await), row_answer(1.0));
}

/// What one bad row costs its neighbours: the halves that it is in and those beside them, one run
/// to see whether the session is sound, and its own second chance.
#[tokio::test]
async fn a_poison_row_is_found_in_few_runs() {
    for (poisoned, size) in [(0u8, 32u8), (19, 32), (31, 32), (3, 8)] {
        let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
        fixture.engine.set_poison(Some(POISON));
        let busy = fixture.occupy();
        let value = |n| if n == poisoned { POISON } else { f32::from(n) };
        let answers: Vec<_> = (0..size).map(|n| fixture.begin(row(value(n)))).collect();
        fixture.engine.release();
        busy.await.unwrap();
        for (n, answer) in (0..size).zip(answers) {
            assert_eq!(within_patience(answer).await.is_ok(), n != poisoned);
        }
        let runs = fixture.rows_of_runs();
        assert_eq!(runs[..2], [1, u64::from(size)], "{runs:?}");
        assert_eq!(runs.len(), 2 + 2 * size.ilog2() as usize + 2, "{runs:?}");
    }
}

/// Where all rows are bad, each is found out alone, and the session is asked once for all.
#[tokio::test]
async fn the_runs_for_a_batch_of_poison_are_bounded() {
    let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
    fixture.engine.set_poison(Some(POISON));
    let busy = fixture.occupy();
    let answers: Vec<_> = (0..8u8)
        .map(|n| fixture.begin(request([1, 4], &[POISON, f32::from(n), 0.0, 0.0])))
        .collect();
    fixture.engine.release();
    busy.await.unwrap();
    for answer in answers {
        assert_eq!(within_patience(answer).await.unwrap_err().blame(), Blame::Client);
    }
    // A tree of 8 leaves, each leaf once more, and one run for the session.
    let runs = fixture.rows_of_runs();
    assert_eq!(runs.len(), 1 + 15 + 8 + 1, "{runs:?}");
}

/// A client's request of several rows is one failure, whichever of them is at fault.
#[tokio::test]
async fn a_request_of_several_rows_fails_as_a_whole_and_its_neighbours_do_not() {
    let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
    fixture.engine.set_poison(Some(POISON));
    let busy = fixture.occupy();
    let two = |a: f32, b: f32| request([2, 4], &[a, 0.0, 1.0, 2.0, b, 0.0, 1.0, 2.0]);
    let answers = [two(1.0, 2.0), two(3.0, POISON), two(4.0, 5.0)].map(|r| fixture.begin(r));
    fixture.engine.release();
    busy.await.unwrap();
    let [first, poisoned, last] = answers;
    assert_eq!(values(&within_patience(first).await), [row_answer(1.0), row_answer(2.0)].concat());
    assert_eq!(within_patience(poisoned).await.unwrap_err().blame(), Blame::Client);
    assert_eq!(values(&within_patience(last).await), [row_answer(4.0), row_answer(5.0)].concat());
}

#[tokio::test]
async fn a_broken_engine_is_the_workers_fault() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let answers: Vec<_> = (0..3u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    fixture.engine.fail_next(u64::MAX);
    fixture.engine.release();
    for answer in [busy].into_iter().chain(answers) {
        let error = within_patience(answer).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Internal, Blame::WorkerFailed));
        assert!(error.is_retryable(), "another worker may do better");
        assert_eq!(error.to_string(), "the model failed to run");
        assert!(error.chain().to_string().ends_with(": told to fail"), "for the operator");
    }
    fixture.engine.fail_next(0);
    assert_eq!(values(&fixture.ask(row(1.0)).await), row_answer(1.0));
}

#[tokio::test]
async fn a_passing_failure_is_nobodys_fault_and_the_request_is_answered() {
    let fixture = Fixture::new();
    fixture.engine.fail_next(1);
    assert_eq!(values(&fixture.ask(row(1.0)).await), row_answer(1.0));
    assert_eq!(fixture.status().await.errors, 0);
}

#[tokio::test]
async fn a_panic_in_the_engine_does_not_end_the_instance() {
    let fixture = Fixture::new();
    // One passes, like any failure; with the next, the engine fails on what it could do before.
    for (panics, answered) in [(1, true), (2, false), (1, true)] {
        fixture.engine.panic_next(panics);
        let answer = fixture.ask(row(panics as f32 + 10.0)).await;
        if answered {
            assert_eq!(values(&answer), row_answer(panics as f32 + 10.0));
        } else {
            let error = answer.unwrap_err();
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Internal, Blame::WorkerFailed));
            assert!(error.chain().to_string().contains("panicked"), "{}", error.chain());
        }
    }
    assert_eq!(values(&fixture.ask(row(1.0)).await), row_answer(1.0));
    assert_eq!(fixture.engine.running(), 0);
}

/// Memory that panics when it is freed: after the run, while the worker splits its outputs.
struct PanicsWhenFreed(Vec<u8>);

impl AsRef<[u8]> for PanicsWhenFreed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PanicsWhenFreed {
    fn drop(&mut self) {
        panic!("told to panic when freed");
    }
}

#[tokio::test]
async fn a_panic_beside_the_engine_costs_its_batch_and_not_the_instance() {
    let backend = FunctionBackend {
        shape: shape(&[None, Some(1)]),
        function: |inputs| match inputs[0].to_f32().unwrap()[..] {
            [a, b] if a == POISON || b == POISON => {
                let data = Bytes::from_owner(PanicsWhenFreed(vec![0; 8]));
                Ok(vec![Tensor::new(DataType::Fp32, [2, 1].into(), data).unwrap()])
            }
            _ => Ok(inputs.to_vec()),
        },
    };
    let pairs = QueueConfig {
        mode: BatchingMode::Rows,
        size_max: 2.try_into().unwrap(),
        delay_max: 100 * PATIENCE,
        dispatch_when_idle: false,
        ..QueueConfig::default()
    };
    let worker = start(&["model"], &backend, &queueing(pairs));
    let pair = |numbers: [f32; 2]| {
        let [a, b] = numbers.map(|number| worker.infer(request([1, 1], &[number])));
        within_patience(async { tokio::join!(a, b) })
    };
    let (a, b) = pair([1.0, POISON]).await;
    for error in [a.unwrap_err(), b.unwrap_err()] {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    }
    let (a, b) = pair([1.0, 2.0]).await;
    assert_eq!((values(&a), values(&b)), (vec![1.0], vec![2.0]));
}

/// Nobody found inputs at load that this model runs; the first that it runs is remembered.
#[tokio::test]
async fn an_input_that_once_ran_tells_a_bad_one_from_a_broken_engine() {
    let backend = FunctionBackend {
        shape: shape(&[None, Some(1)]),
        function: |inputs| match inputs[0].to_f32().unwrap()[0] {
            number if number >= 1000.0 => Ok(inputs.to_vec()),
            number => Err(inferring_backend::ExecuteError(format!("{number} is too small"))),
        },
    };
    let worker = start(&["model"], &backend, &WorkerConfig::default());
    let reason = worker.model(ModelSelector::default()).unwrap().batching.reason().to_owned();
    assert!(reason.contains("ran none of the generated inputs"), "{reason}");
    let ask = |number: f32| worker.infer(request([1, 1], &[number]));
    assert_eq!(ask(1.0).await.unwrap_err().blame(), Blame::WorkerFailed);
    assert_eq!(values(&ask(1000.0).await), [1000.0]);
    let error = ask(2.0).await.unwrap_err();
    assert_eq!(error.blame(), Blame::Client);
    assert!(error.to_string().contains("2 is too small"), "{error}");
}

#[tokio::test]
async fn several_instances_outlive_each_others_failures() {
    let one_by_one = QueueConfig { size_max: 1.try_into().unwrap(), ..QueueConfig::default() };
    let config = WorkerConfig { instances: NonZeroUsize::new(3), ..queueing(one_by_one) };
    let fixture = Fixture::with(&FakeBackend::new(), &config);
    fixture.engine.hold();
    let answers: Vec<_> = (0..3u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    assert!(fixture.engine.wait_until_running(3, PATIENCE));
    fixture.engine.panic_next(u64::MAX);
    fixture.engine.release();
    for answer in answers {
        assert_eq!(within_patience(answer).await.unwrap_err().kind(), ErrorKind::Internal);
    }
    fixture.engine.panic_next(0);
    fixture.engine.hold();
    let answers: Vec<_> = (0..3u8).map(|n| fixture.begin(row(f32::from(n)))).collect();
    assert!(fixture.engine.wait_until_running(3, PATIENCE), "all three are there");
    fixture.engine.release();
    for (n, answer) in (0..3u8).zip(answers) {
        assert_eq!(values(&within_patience(answer).await), row_answer(f32::from(n)));
    }
}
