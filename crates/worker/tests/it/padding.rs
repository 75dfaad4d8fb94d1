//! Requests of different lengths that share runs, and runs that are filled up to a number of rows.

use std::sync::Arc;

use inferring_backend::ExecuteError;
use inferring_backend::fake::FakeBackend;
use inferring_types::{
    Blame, CacheOutcome, DataType, Dimension, ErrorKind, InferRequest, InferenceService as _,
    ModelSelector, NamedTensor, Tensor, TensorSpec,
};
use inferring_worker::WorkerConfig;

use crate::fixture::{Answer, PATIENCE, eager, request, row, shape, spec, status, within_patience};
use crate::folder::{Folder, Served, serve};

/// Of `ids` and `mask`, INT64 `[N,S]`: `y`, FP32 `[N,S]`, is each id and the mean of those that
/// the mask leaves; `mean`, FP32 `[N,1]`, is that mean.
fn embedding() -> FakeBackend {
    embedding_by(embed)
}

fn embedding_by(
    function: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, ExecuteError> + Send + Sync + 'static,
) -> FakeBackend {
    let integers = |name| TensorSpec { datatype: DataType::Int64, ..spec(name, shape(&[None; 2])) };
    FakeBackend::computing(
        vec![integers("ids"), integers("mask")],
        vec![spec("y", shape(&[None; 2])), spec("mean", shape(&[None, Some(1)]))],
        function,
    )
}

fn embed(inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
    let [ids, mask] = [numbers(&inputs[0]), numbers(&inputs[1])];
    let length = inputs[0].shape().dimensions()[1] as usize;
    let (mut y, mut means) = (Vec::new(), Vec::new());
    for (ids, mask) in ids.chunks(length).zip(mask.chunks(length)) {
        let left = ids.iter().zip(mask).filter(|(_, mask)| **mask != 0);
        let mean = left.clone().map(|(id, _)| *id as f32).sum::<f32>() / left.count() as f32;
        y.extend(ids.iter().map(|id| *id as f32 + mean));
        means.push(mean);
    }
    let rows = means.len() as u64;
    let y = Tensor::from_f32([rows, length as u64].into(), &y).unwrap();
    Ok(vec![y, Tensor::from_f32([rows, 1].into(), &means).unwrap()])
}

fn numbers(tensor: &Tensor) -> Vec<i64> {
    tensor.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()
}

fn integers(name: &str, shape: [u64; 2], values: &[i64]) -> NamedTensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = Tensor::new(DataType::Int64, shape.into(), bytes.into()).unwrap();
    NamedTensor::new(name.into(), tensor)
}

/// So many rows of that length, all different from those of another `first`.
fn sentences(rows: u64, length: u64, first: i64) -> InferRequest {
    let ids: Vec<i64> = (first..).take((rows * length) as usize).collect();
    let inputs = vec![
        integers("ids", [rows, length], &ids),
        integers("mask", [rows, length], &vec![1; ids.len()]),
    ];
    InferRequest { model: "m".parse().unwrap(), inputs, ..row(0.0) }
}

/// What a request is answered when it runs alone.
fn alone(request: &InferRequest) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = request.inputs.iter().map(|input| input.tensor.clone()).collect();
    embed(&inputs).unwrap()
}

fn tensors(answer: &Answer) -> Vec<Tensor> {
    let answer = answer.as_ref().unwrap_or_else(|error| panic!("{}", error.chain()));
    answer.outputs.iter().map(|output| output.tensor.clone()).collect()
}

const PADDED: &str = "\
    instances = 1
    [inputs]
    ids.padding = { axis = 1, value = -7 }
    mask.padding.axis = 1
    [outputs]
    y.padded_axis = 1
";

/// A worker with one model `m` of these settings.
fn with(backend: FakeBackend, settings: &str) -> Served {
    let files = [("m/1/model.onnx", ""), ("m/config.toml", settings)];
    Served::over(backend, &files, &eager(&WorkerConfig::default()))
}

fn reason(served: &Served) -> String {
    served.worker.model(ModelSelector::default()).unwrap().batching.reason().to_owned()
}

/// The answers to requests that come while an instance is busy with another, and the rows of the
/// runs that they took, fewest first.
async fn together(
    served: &Served,
    busy: InferRequest,
    requests: &[InferRequest],
) -> (Vec<Answer>, Vec<u64>) {
    let before = served.engine.rows_of_runs().len();
    let ask = |request: &InferRequest| {
        let (worker, request) = (Arc::clone(&served.worker), request.clone());
        tokio::spawn(async move { worker.infer(request).await })
    };
    served.engine.hold();
    let busy = ask(&busy);
    let engine = served.engine.clone();
    let is_running =
        tokio::task::spawn_blocking(move || engine.wait_until_running(1, PATIENCE)).await;
    assert!(is_running.unwrap());
    let asked: Vec<_> = requests.iter().map(ask).collect();
    within_patience(async {
        while status(&served.worker).await.batches.queued < requests.len() as u64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    served.engine.release();
    within_patience(busy).await.unwrap().unwrap();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(within_patience(asked).await.unwrap());
    }
    let mut runs = served.engine.rows_of_runs().split_off(before + 1);
    runs.sort_unstable();
    (answers, runs)
}

#[tokio::test]
async fn requests_of_nearly_one_length_share_a_run_and_are_answered_as_alone() {
    let served = with(embedding(), PADDED);
    assert!(reason(&served).ends_with("as well where their lengths differ"), "{}", reason(&served));
    // 7 to 9 share a run, and so do 19 to 25.
    let lengths = [(1, 7), (2, 9), (1, 8), (1, 19), (3, 25), (1, 9)];
    let requests: Vec<_> = (1..)
        .zip(lengths)
        .map(|(number, (rows, length))| sentences(rows, length, 1000 * number))
        .collect();
    let (answers, runs) = together(&served, sentences(1, 7, 1), &requests).await;
    assert_eq!(runs, [4, 5]);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(tensors(&answer), alone(request));
        let again = within_patience(served.worker.infer(request.clone())).await;
        assert_eq!(again.as_ref().unwrap().served.cache, CacheOutcome::Hit);
        assert_eq!(tensors(&again), alone(request));
    }
}

#[tokio::test]
async fn a_run_is_filled_up_in_rows_and_in_length() {
    let settings = format!("{PADDED}\n[batching]\nallowed_sizes = [1, 4]");
    let served = with(embedding(), &settings);
    let requests = [sentences(1, 7, 100), sentences(2, 9, 200)];
    let (answers, runs) = together(&served, sentences(1, 20, 1), &requests).await;
    assert_eq!(runs, [4], "three rows, and one that nobody asked for");
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(tensors(&answer), alone(request));
    }
}

#[tokio::test]
async fn requests_of_different_length_run_apart_where_nothing_is_said_or_it_is_not_true() {
    // What is cut off is at the wrong end.
    let reversed = embedding_by(|inputs| {
        let mut outputs = embed(inputs)?;
        let mut numbers = outputs[0].to_f32().unwrap();
        let length = inputs[0].shape().dimensions()[1] as usize;
        numbers.chunks_mut(length).for_each(<[f32]>::reverse);
        outputs[0] = Tensor::from_f32(outputs[0].shape().clone(), &numbers).unwrap();
        Ok(outputs)
    });
    for (backend, settings, expected) in [
        (embedding(), "instances = 1", "as rows apart"),
        (
            reversed,
            PADDED,
            "as rows apart; not true of rows of different length: together they gave other \
             answers than apart",
        ),
    ] {
        let served = with(backend, settings);
        assert!(reason(&served).ends_with(expected), "{}", reason(&served));
        let requests = [sentences(1, 7, 100), sentences(1, 9, 200), sentences(1, 7, 300)];
        let (answers, runs) = together(&served, sentences(1, 7, 1), &requests).await;
        assert_eq!(runs, [1, 2]);
        assert_eq!(tensors(&answers[0])[1], alone(&requests[0])[1]);
    }
}

#[tokio::test]
async fn a_request_whose_padded_inputs_differ_in_length_is_refused_by_their_names() {
    let served = with(embedding(), PADDED);
    let runs = served.engine.runs();
    let mut request = sentences(1, 7, 100);
    request.inputs[1] = integers("mask", [1, 8], &[1; 8]);
    let error = within_patience(served.worker.infer(request)).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::InvalidArgument, Blame::Client));
    let message = error.to_string();
    assert!(message.contains("`ids` has shape [1,7]") && message.contains("`mask` [1,8]"));
    assert_eq!(served.engine.runs(), runs, "it never ran");
}

#[test]
fn what_cannot_be_padded_is_not_loaded() {
    for (settings, expected) in [
        ("inputs.ids.padding.axis = 2", "input `ids` cannot be padded along axis 2: [?,?] has no"),
        ("inputs.ids.padding = { axis = 1, value = \"\" }", "that is no element of INT64"),
        ("inputs.ids.padding.axis = 0", "rows lie along axis 0"),
        (
            "inputs.ids.padding.axis = 1\noutputs.mean.padded_axis = 1",
            "output `mean` cannot be padded along axis 1: axis 1 of [?,1] is always 1",
        ),
    ] {
        let folder = Folder::of(&[("m/1/model.onnx", ""), ("m/config.toml", settings)]);
        let error = serve(&folder, embedding(), &WorkerConfig::default()).map(|_| ()).unwrap_err();
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            chain = format!("{chain}: {error}");
            source = error.source();
        }
        assert!(chain.contains(expected), "{settings}: {chain}");
    }
}

/// Engines may fix the number of rows. Clients need not know it.
#[tokio::test]
async fn a_model_of_four_rows_takes_one_to_many() {
    let fixed = FakeBackend::new().with_shape([Dimension::Fixed(4), Dimension::Fixed(4)]);
    let settings = "instances = 1\n[batching]\nmode = \"rows\"\nallowed_sizes = [4]";
    let served = with(fixed.clone(), settings);
    let metadata = served.worker.model(ModelSelector::default()).unwrap();
    assert_eq!(metadata.inputs[0].shape.to_string(), "[?,4]");
    assert_eq!(metadata.outputs[0].shape.to_string(), "[?,4]");
    for rows in [1u64, 3, 4, 6] {
        let numbers: Vec<f32> = (0..4 * rows).map(|n| (100 * rows + n) as f32).collect();
        let request = InferRequest { model: "m".parse().unwrap(), ..request([rows, 4], &numbers) };
        let answer = within_patience(served.worker.infer(request)).await;
        let expected = crate::fixture::expected(4, &numbers);
        assert_eq!(tensors(&answer)[0].to_f32().unwrap(), expected);
        assert_eq!(tensors(&answer)[0].shape(), &[rows, 4].into());
    }
    assert!(served.engine.rows_of_runs().iter().all(|rows| *rows == 4));
    // Nothing is opened where rows are not declared: there is no proof with one number of rows.
    let served = with(fixed, "[batching]\nallowed_sizes = [4]");
    let metadata = served.worker.model(ModelSelector::default()).unwrap();
    assert_eq!(metadata.inputs[0].shape.to_string(), "[4,4]");
}
