//! What is answered, and what is refused before the model runs.

use inferring_backend::fake::FakeBackend;
use inferring_types::{
    Blame, CacheOutcome, DataType, Dimension, ErrorKind, InferRequest, InferenceService as _,
    ModelSelector, NamedTensor, Tensor,
};
use inferring_worker::{BatchingMode, QueueConfig, WorkerConfig};

use crate::fixture::{
    Fixture, expected, queueing, request, row, row_answer, start, status, tensor, values,
};

#[tokio::test]
async fn a_row_is_answered_with_what_it_took() {
    let fixture = Fixture::new();
    let request = row(7.0);
    let id = request.id.clone();
    let answer = fixture.ask(request).await;
    assert_eq!(values(&answer), row_answer(7.0));
    let answer = answer.unwrap();
    assert_eq!((&answer.id, answer.model.as_str()), (&id, "model"));
    assert_eq!(answer.outputs[0].tensor.shape(), &[1, 4].into());
    let served = answer.served;
    assert_eq!((served.worker.as_str(), served.cache), ("worker", CacheOutcome::Computed));
    assert_eq!(served.batch_size, 1);
    assert!(served.inference_time >= served.queue_time + served.execution_time);
}

#[tokio::test]
async fn several_rows_in_one_request_are_answered_in_order() {
    let fixture = Fixture::new();
    let rows: Vec<f32> = (0..12).map(|n| n as f32).collect();
    let answer = fixture.ask(request([3, 4], &rows)).await;
    assert_eq!(values(&answer), expected(4, &rows));
    assert_eq!(answer.unwrap().served.batch_size, 3);
    assert_eq!(fixture.rows_of_runs(), [3]);
}

#[tokio::test]
async fn no_rows_are_answered_with_no_rows_alone_and_among_others() {
    let fixture = Fixture::new();
    let nothing = || request([0, 4], &[]);
    let empty = fixture.ask(nothing()).await;
    assert_eq!(values(&empty), [0.0; 0]);
    assert_eq!(empty.unwrap().outputs[0].tensor.shape(), &[0, 4].into());

    let fixture = Fixture::eager(&FakeBackend::new(), &WorkerConfig::default());
    let busy = fixture.occupy();
    let others = [row(1.0), nothing(), row(2.0)].map(|request| fixture.begin(request));
    fixture.engine.release();
    busy.await.unwrap();
    let [first, empty, second] = others;
    assert_eq!(values(&first.await), row_answer(1.0));
    assert_eq!(values(&empty.await), [0.0; 0]);
    assert_eq!(values(&second.await), row_answer(2.0));
    assert_eq!(fixture.rows_of_runs(), [1, 2]);
}

/// Elements of a vector of any length are rows of one element.
#[tokio::test]
async fn a_model_of_one_dimension_joins_elements() {
    let backend = FakeBackend::new().with_shape([Dimension::Dynamic(None)]);
    let fixture = Fixture::with(&backend, &WorkerConfig::default());
    assert!(fixture.worker.model(ModelSelector::default()).unwrap().batching.joins_rows());
    fixture.engine.hold();
    let busy = fixture.begin(request([1], &[1.0]));
    assert!(fixture.engine.wait_until_running(1, crate::fixture::PATIENCE));
    let pair = fixture.begin(request([2], &[2.0, 3.0]));
    let one = fixture.begin(request([1], &[4.0]));
    fixture.engine.release();
    assert_eq!(values(&busy.await), [3.0]);
    assert_eq!(values(&pair.await), [6.0, 9.0]);
    assert_eq!(values(&one.await), [12.0]);
    assert_eq!(fixture.rows_of_runs(), [1, 3]);
}

/// Scalars have no rows: not even a declaration joins them.
#[tokio::test]
async fn a_model_of_scalars_runs_requests_alone_whatever_is_declared() {
    for mode in [BatchingMode::Auto, BatchingMode::Rows, BatchingMode::Alone] {
        let backend = FakeBackend::new().with_shape([]);
        let config = queueing(QueueConfig { mode, ..QueueConfig::default() });
        let fixture = Fixture::with(&backend, &config);
        assert!(!fixture.worker.model(ModelSelector::default()).unwrap().batching.joins_rows());
        fixture.engine.hold();
        let answers: Vec<_> =
            (0..4u8).map(|n| fixture.begin(request([], &[f32::from(n)]))).collect();
        fixture.engine.release();
        for (n, answer) in (0..4u8).zip(answers) {
            assert_eq!(values(&answer.await), [3.0 * f32::from(n)]);
        }
        assert_eq!(fixture.rows_of_runs(), [1; 4]);
    }
}

#[tokio::test]
async fn what_does_not_fit_the_model_is_refused_and_never_runs() {
    let fixture = Fixture::new();
    let integers = Tensor::new(DataType::Int32, [1, 4].into(), vec![0; 16].into()).unwrap();
    let named = |name: &str, tensor| vec![NamedTensor::new(name.into(), tensor)];
    let good = || tensor([1, 4], &[0.0; 4]);
    for (wrong, kind, message) in [
        (request([1, 3], &[0.0; 3]), ErrorKind::InvalidArgument, "expected FP32 [N,4]"),
        (request([1, 5], &[0.0; 5]), ErrorKind::InvalidArgument, "expected FP32 [N,4]"),
        (request([4], &[0.0; 4]), ErrorKind::InvalidArgument, "got FP32 [4]"),
        (
            InferRequest { inputs: named("input", integers), ..row(0.0) },
            ErrorKind::InvalidArgument,
            "got INT32",
        ),
        (
            InferRequest { inputs: named("input_2", good()), ..row(0.0) },
            ErrorKind::InvalidArgument,
            "no input `input_2`: expected `input`",
        ),
        (
            InferRequest { inputs: Vec::new(), ..row(0.0) },
            ErrorKind::InvalidArgument,
            "`input` of model `model` is missing",
        ),
        (
            InferRequest { outputs: vec!["outptu".into()], ..row(0.0) },
            ErrorKind::InvalidArgument,
            "no output `outptu`: it has output",
        ),
        (
            InferRequest { model: "other".parse().unwrap(), ..row(0.0) },
            ErrorKind::NotFound,
            "no model `other` (served here: model)",
        ),
    ] {
        let error = fixture.ask(wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (kind, Blame::Client), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains(message), "{error}");
    }
    assert_eq!(fixture.runs(), 0);
    let status = fixture.status().await;
    assert_eq!((status.requests, status.errors, status.in_flight), (8, 8, 0));
    assert_eq!(status.cache.misses, 0);
}

#[tokio::test]
async fn an_output_can_be_asked_for_by_name() {
    let fixture = Fixture::new();
    let by_name = InferRequest { outputs: vec!["output".into()], ..row(3.0) };
    assert_eq!(values(&fixture.ask(by_name).await), row_answer(3.0));
    // All outputs are kept, whichever were asked for.
    let answer = fixture.ask(row(3.0)).await.unwrap();
    assert_eq!(answer.served.cache, CacheOutcome::Hit);
}

#[tokio::test]
async fn models_answer_by_name_and_share_neither_runs_nor_answers() {
    let backend = FakeBackend::new();
    let worker = start(&["one", "two"], &backend, &WorkerConfig::default());
    let names: Vec<_> = worker.models().iter().map(|model| model.name.to_string()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(worker.model(ModelSelector::default()).unwrap().name.as_str(), "one");
    assert_eq!(
        worker.model(ModelSelector::named("three")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    for name in ["one", "two", "two"] {
        let request = InferRequest { model: name.parse().unwrap(), ..row(5.0) };
        let answer = worker.infer(request).await;
        assert_eq!(values(&answer), row_answer(5.0));
        assert_eq!(answer.unwrap().model.as_str(), name);
    }
    let status = status(&worker).await;
    assert_eq!(status.models.iter().map(|m| m.batches.batches).collect::<Vec<_>>(), [1, 1]);
    assert_eq!((status.cache.misses, status.cache.hits), (2, 1));
    assert_eq!(status.batches.batches, 2);
}
