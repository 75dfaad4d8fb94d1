//! Requests of different lengths joined: a model of attention, as models of sentences are.

use std::collections::BTreeMap;

use super::*;

/// Rows of the table of words, and numbers in each.
const WORDS: u64 = 100;
const WIDTH: u64 = 16;

/// `ids` and `mask`, INT64 `[B,S]`; `words`, FP32 `[B,S,16]`, is what each word is once it has
/// attended to all that the mask leaves, and `sentence`, FP32 `[B,16]`, the mean of those.
fn attention() -> Vec<u8> {
    let (float, integer) = (onnx::element(DataType::Fp32), onnx::element(DataType::Int64));
    let symbols = |third: Option<Size>| {
        [Size::Symbol("B"), Size::Symbol("S")].into_iter().chain(third).collect::<Vec<_>>()
    };
    let integers = |name: &str, values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        onnx::constant(integer, &[values.len() as u64], &bytes).text(8, name)
    };
    let floats = |name: &str, sizes: &[u64], values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        onnx::constant(float, sizes, &bytes).text(8, name)
    };
    let mut random = fastrand::Rng::with_seed(0x5e17);
    let table: Vec<f32> = (0..WORDS * WIDTH).map(|_| random.f32() * 2.0 - 1.0).collect();
    let weights = [
        floats("table", &[WORDS, WIDTH], &table),
        floats("one", &[], &[1.0]),
        floats("far", &[], &[-10_000.0]),
        integers("second", &[1]),
        integers("third", &[2]),
    ];
    let nodes = [
        onnx::node("Gather", &["table", "ids"], &["x"]),
        onnx::node("Transpose", &["x"], &["xt"]).integers("perm", &[0, 2, 1]),
        onnx::node("MatMul", &["x", "xt"], &["scores"]),
        onnx::node("Cast", &["mask"], &["left"]).attribute("to", float),
        onnx::node("Sub", &["one", "left"], &["out"]),
        onnx::node("Mul", &["out", "far"], &["penalty"]),
        onnx::node("Unsqueeze", &["penalty", "second"], &["penalties"]),
        onnx::node("Add", &["scores", "penalties"], &["masked"]),
        onnx::node("Softmax", &["masked"], &["weights"]),
        onnx::node("MatMul", &["weights", "x"], &["words"]),
        onnx::node("Unsqueeze", &["left", "third"], &["column"]),
        onnx::node("Mul", &["words", "column"], &["own"]),
        onnx::node("ReduceSum", &["own", "second"], &["sum"]).attribute("keepdims", 0),
        onnx::node("ReduceSum", &["left", "second"], &["count"]).attribute("keepdims", 1),
        onnx::node("Div", &["sum", "count"], &["sentence"]),
    ];
    onnx::model_with_weights(
        &nodes,
        &[
            ("ids", onnx::tensor(integer, &symbols(None))),
            ("mask", onnx::tensor(integer, &symbols(None))),
        ],
        &[
            ("words", onnx::tensor(float, &symbols(Some(Size::Fixed(WIDTH))))),
            ("sentence", onnx::tensor(float, &[Size::Symbol("B"), Size::Fixed(WIDTH)])),
        ],
        &weights,
    )
}

const PADDED: &str = "\
    [inputs]
    ids.padding.axis = 1
    mask.padding.axis = 1
    [outputs]
    words.padded_axis = 1
";

/// Rows of any words of that length; each leaves out what it likes of its end.
fn sentences(random: &mut fastrand::Rng, rows: u64, length: u64) -> InferRequest {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let own = random.u64(1..=length);
        ids.extend((0..length).map(|_| random.i64(0..WORDS as i64)));
        mask.extend((0..length).map(|at| i64::from(at < own)));
    }
    let tensor = |values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(DataType::Int64, [rows, length].into(), bytes.into()).unwrap()
    };
    InferRequest::new(
        "m".parse().unwrap(),
        vec![
            NamedTensor::new("ids".into(), tensor(&ids)),
            NamedTensor::new("mask".into(), tensor(&mask)),
        ],
        Deadline::after(Instant::now(), Duration::from_secs(300)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sentences_of_different_length_are_answered_as_alone() {
    // Batches are waited for, so that there are some on any machine.
    let patient = QueueConfig { dispatch_when_idle: false, ..QueueConfig::default() };
    let together = worker_over(&attention(), PADDED, &uncached(patient));
    let batching = together.model(ModelSelector::default()).unwrap().batching.clone();
    assert!(batching.reason().ends_with("where their lengths differ"), "{}", batching.reason());
    let alone = QueueConfig { mode: BatchingMode::Alone, ..QueueConfig::default() };
    let alone = worker_over(&attention(), PADDED, &uncached(alone));

    let mut random = fastrand::Rng::with_seed(0x1e57);
    let mut requests = Vec::new();
    for _ in 0..240 {
        let (rows, length) = (random.u64(1..4), random.u64(1..50));
        requests.push(sentences(&mut random, rows, length));
    }
    let mut rows_of_length = BTreeMap::<u64, u64>::new();
    for request in &requests {
        let [rows, length] = request.inputs[0].tensor.shape().dimensions() else { panic!() };
        *rows_of_length.entry(*length).or_default() += rows;
    }
    let joined: Vec<_> = requests
        .iter()
        .map(|request| {
            let (worker, request) = (together.clone(), request.clone());
            tokio::spawn(async move { worker.infer(request).await.unwrap() })
        })
        .collect();
    let (mut of_several_lengths, mut identical, mut tensors) = (0, 0, 0);
    for (request, joined) in requests.into_iter().zip(joined) {
        let length = request.inputs[0].tensor.shape().dimensions()[1];
        let lone = alone.infer(request).await.unwrap();
        let joined = joined.await.unwrap();
        for (lone, joined) in lone.outputs.iter().zip(joined.outputs.iter()) {
            assert_alike("attention", &lone.tensor, &joined.tensor);
            tensors += 1;
            identical += usize::from(lone.tensor == joined.tensor);
        }
        let batch = u64::from(joined.served.batch_size);
        of_several_lengths += usize::from(batch > rows_of_length[&length]);
    }
    println!("{identical} of {tensors} tensors are the same to the bit");
    assert!(of_several_lengths > 0, "no run had requests of several lengths");
}

/// Its end is not the request's.
#[tokio::test]
async fn a_model_that_attends_to_what_fills_it_up_is_found_out() {
    let settings =
        PADDED.replace("mask.padding.axis = 1", "mask.padding = { axis = 1, value = 1 }");
    let worker = worker_over(&attention(), &settings, &WorkerConfig::default());
    let batching = worker.model(ModelSelector::default()).unwrap().batching.clone();
    assert!(batching.joins_rows());
    let reason = batching.reason();
    assert!(reason.contains("; not true of rows of different length"), "{reason}");
}
