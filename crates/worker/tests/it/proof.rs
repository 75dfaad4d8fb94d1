//! What is found out about models of which the tests know the truth.

use inferring_backend::fake::FakeBackend;
use inferring_backend::{Backend as _, ExecuteError, LoadOptions};
use inferring_types::{
    DataType, Dimension, InferenceService as _, ModelSelector, ShapeSpec, Tensor, TensorSpec,
};
use inferring_worker::{BatchingMode, Proof, QueueConfig, WorkerConfig, prove};

use crate::fixture::{FunctionSession, queueing, shape, spec, start, tensor};

type Function = fn(&[Tensor]) -> Result<Vec<Tensor>, ExecuteError>;

/// The proof for a model of one input and one output of shape `[N,2]`.
fn prove_rows(function: Function) -> Proof {
    let input = [spec("x", shape(&[None, Some(2)]))];
    let output = [spec("y", shape(&[None, Some(2)]))];
    prove(&mut FunctionSession(function), &input, &output)
}

/// Applies a function of all numbers to an `[N,2]` tensor.
fn over_all(
    inputs: &[Tensor],
    function: impl Fn(&[f32]) -> Vec<f32>,
) -> Result<Vec<Tensor>, ExecuteError> {
    let numbers = inputs[0].to_f32().unwrap();
    Ok(vec![tensor(inputs[0].shape().clone(), &function(&numbers))])
}

fn assert_alone(proof: &Proof, why: &str) {
    assert!(!proof.batching.joins_rows(), "{:?}", proof.batching);
    assert!(proof.batching.reason().contains(why), "{}", proof.batching.reason());
}

#[test]
fn independent_rows_are_proved() {
    let proof = prove_rows(|inputs| over_all(inputs, |all| all.iter().map(|x| x * 3.0).collect()));
    assert!(proof.batching.joins_rows(), "{:?}", proof.batching);
    assert_eq!(proof.known_good.unwrap()[0].shape(), &[1, 2].into());
}

/// A different blocking of the same sum rounds differently; that is no influence.
#[test]
fn rounding_is_no_influence() {
    let proof = prove_rows(|inputs| {
        over_all(inputs, |all| {
            let blocking = if all.len() > 2 { 1.0 + f32::EPSILON } else { 1.0 };
            all.iter().map(|x| x * blocking).collect()
        })
    });
    assert!(proof.batching.joins_rows(), "{:?}", proof.batching);
}

#[test]
fn rows_that_influence_each_other_are_found_out() {
    let sum: Function = |inputs| {
        over_all(inputs, |all| {
            let sum = all.iter().sum::<f32>();
            all.iter().map(|x| x + sum).collect()
        })
    };
    let previous: Function = |inputs| {
        over_all(inputs, |all| {
            let before = [0.0; 2].into_iter().chain(all.iter().copied());
            all.iter().zip(before).map(|(x, before)| x + 0.01 * before).collect()
        })
    };
    // Further than a few rows show: only a large batch tells.
    let far: Function = |inputs| {
        over_all(inputs, |all| {
            let before = [0.0; 16].into_iter().chain(all.iter().copied());
            all.iter().zip(before).map(|(x, before)| x + before).collect()
        })
    };
    let reversed: Function =
        |inputs| over_all(inputs, |all| all.chunks(2).rev().flatten().copied().collect());
    let place: Function = |inputs| {
        over_all(inputs, |all| all.iter().enumerate().map(|(n, x)| x + (n / 2) as f32).collect())
    };
    for function in [sum, previous, far, reversed, place] {
        let proof = prove_rows(function);
        assert_alone(&proof, "influence each other");
        assert!(proof.known_good.is_some(), "it ran some inputs all the same");
    }
}

#[test]
fn what_cannot_be_shown_is_not_assumed() {
    let constant: Function = |inputs| over_all(inputs, |all| vec![1.0; all.len()]);
    assert_alone(&prove_rows(constant), "answers to different generated inputs were equal");
    let one_at_a_time: Function = |inputs| match inputs[0].shape().dimensions()[0] {
        1 => Ok(inputs.to_vec()),
        _ => Err(ExecuteError("one at a time".to_owned())),
    };
    assert_alone(&prove_rows(one_at_a_time), "rows together failed to run (one at a time)");
    let fewer: Function = |inputs| Ok(vec![tensor([1, 2], &inputs[0].to_f32().unwrap()[..2])]);
    assert_alone(&prove_rows(fewer), "influence each other");
    let broken: Function = |_| Err(ExecuteError("broken".to_owned()));
    let proof = prove_rows(broken);
    assert_alone(&proof, "ran none of the generated inputs (broken)");
    assert!(proof.known_good.is_none());
}

/// A model of logarithms answers NaN to what is negative, to every row alike; that tells nothing
/// about its rows.
#[test]
fn inputs_are_found_that_tell_rows_apart() {
    let sum_of_logarithms: Function = |inputs| {
        let numbers = inputs[0].to_f32().unwrap();
        let sums: Vec<f32> =
            numbers.chunks(32).map(|row| row.iter().map(|x| x.ln()).sum()).collect();
        Ok(vec![tensor([sums.len() as u64, 1], &sums)])
    };
    let input = [spec("x", shape(&[None, Some(32)]))];
    let output = [spec("y", shape(&[None, Some(1)]))];
    let proof = prove(&mut FunctionSession(sum_of_logarithms), &input, &output);
    assert!(proof.batching.joins_rows(), "{:?}", proof.batching);
}

#[test]
fn declared_shapes_that_leave_no_room_for_rows_run_alone() {
    let echo: Function = |inputs| Ok(inputs.to_vec());
    let prove = |input: &[Option<u64>], output: &[Option<u64>]| {
        let (input, output) = ([spec("x", shape(input))], [spec("y", shape(output))]);
        prove(&mut FunctionSession(echo), &input, &output)
    };
    for (input, output, name) in [
        (&[Some(1), Some(2)][..], &[None, Some(2)][..], "`x` has shape [1,2]"),
        (&[None, Some(2)], &[Some(1), Some(2)], "`y` has shape [1,2]"),
        (&[Some(3), None], &[None, None], "`x` has shape [3,?]"),
        (&[], &[None], "`x` has shape []"),
    ] {
        let proof = prove(input, output);
        assert_alone(&proof, name);
        assert_alone(&proof, "its first dimension is not dynamic");
        assert!(proof.known_good.is_some());
    }
}

/// Joined requests must have equally many rows in all inputs; a model that declares otherwise
/// is not held to it.
#[test]
fn inputs_whose_first_dimensions_may_differ_run_alone() {
    let add: Function = |inputs| {
        let (a, b) = (inputs[0].to_f32().unwrap(), inputs[1].to_f32().unwrap());
        let sums: Vec<f32> = a.iter().zip(b.iter().cycle()).map(|(a, b)| a + b).collect();
        Ok(vec![tensor(inputs[0].shape().clone(), &sums)])
    };
    let of = |symbols: [&str; 2]| {
        let inputs = symbols.map(|symbol| TensorSpec {
            name: symbol.into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new([
                Dimension::Dynamic(Some(symbol.to_owned())),
                Dimension::Fixed(2),
            ]),
        });
        prove(&mut FunctionSession(add), &inputs, &[spec("sum", shape(&[None, Some(2)]))])
    };
    assert!(of(["N", "N"]).batching.joins_rows());
    assert_alone(&of(["N", "M"]), "`N` has shape [N,2] and `M` [M,2]");
}

/// Strings have no fixed length, yet rows of them can be told apart.
#[test]
fn answers_of_strings_are_compared_row_by_row() {
    let input = [spec("x", shape(&[None]))];
    let output = [TensorSpec { datatype: DataType::Bytes, ..spec("y", shape(&[None])) }];
    let name: Function = |inputs| {
        let texts = inputs[0].to_f32().unwrap().into_iter().map(|x| format!("{x:.3}"));
        let data = texts.flat_map(|text| {
            let mut element = (text.len() as u32).to_le_bytes().to_vec();
            element.extend(text.as_bytes());
            element
        });
        let shape = inputs[0].shape().clone();
        Ok(vec![Tensor::new(DataType::Bytes, shape, data.collect::<Vec<u8>>().into()).unwrap()])
    };
    let proof = prove(&mut FunctionSession(name), &input, &output);
    assert!(proof.batching.joins_rows(), "{:?}", proof.batching);
}

/// A declaration saves the check, but one run stays: it gives inputs that are known to run. All
/// others are there to learn what runs cost.
#[test]
fn a_declaration_is_taken_at_its_word() {
    for (mode, joins) in [(BatchingMode::Rows, true), (BatchingMode::Alone, false)] {
        let backend = FakeBackend::new().with_rows_that_mix();
        let config = queueing(QueueConfig { mode, ..QueueConfig::default() });
        let worker = start(&["model"], &backend, &config);
        let batching = worker.model(ModelSelector::default()).unwrap().batching.clone();
        assert_eq!(batching.joins_rows(), joins);
        assert_eq!(batching.reason(), "declared in the configuration");
        let sizes = backend.control().rows_of_runs();
        // Twice each size, three times over.
        let learnt: &[u64] = if joins { &[1, 2, 4, 8, 16, 32] } else { &[1] };
        let turn: Vec<_> = learnt.iter().flat_map(|&rows| [rows; 2]).collect();
        assert_eq!(sizes, [&[1][..], &turn, &turn, &turn].concat(), "nothing was compared");
    }
}

#[test]
fn the_proof_is_what_a_worker_goes_by() {
    for backend in [FakeBackend::new(), FakeBackend::new().with_rows_that_mix()] {
        let mut model = backend.load("model.onnx".as_ref(), &LoadOptions::default()).unwrap();
        let proof = prove(&mut *model.session, &model.inputs, &model.outputs);
        let worker = start(&["model"], &backend, &WorkerConfig::default());
        assert_eq!(worker.model(ModelSelector::default()).unwrap().batching, proof.batching);
    }
}
