//! Answers, against those that ONNX Runtime gave through its Python package.

use std::thread;

use inferring_backend::{Backend as _, LoadOptions};
use inferring_types::{ContentDigest, DataType, NamedTensor, Shape, Tensor, TensorSpec};
use serde_json::Value;

use crate::{backend, iris, load, models};

#[test]
fn every_recorded_case_is_answered_alike() {
    let cases = std::fs::read(models().join("cases.json")).unwrap();
    let cases = serde_json::from_slice::<Vec<Value>>(&cases).unwrap();
    assert!(cases.len() >= 13, "only {} cases", cases.len());
    for case in &cases {
        let name = case["model"].as_str().unwrap();
        let path = if name == "iris.onnx" { iris() } else { models().join(name) };
        let mut model = load(&path);
        let inputs = arrange(&model.inputs, &case["inputs"]);
        let expected = arrange(&model.outputs, &case["outputs"]);
        let answers = model.session.execute(&inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(answers.len(), expected.len(), "{name}");
        for (answer, expected) in answers.iter().zip(&expected) {
            assert_alike(name, answer, expected);
        }
    }
}

/// The recorded tensors in declared order.
fn arrange(specs: &[TensorSpec], recorded: &Value) -> Vec<Tensor> {
    let recorded = recorded.as_array().unwrap();
    assert_eq!(recorded.len(), specs.len());
    let named = recorded
        .iter()
        .map(|tensor| NamedTensor::new(tensor["name"].as_str().unwrap().into(), tensor_of(tensor)));
    let named = named.collect::<Vec<_>>();
    let find = |spec: &TensorSpec| named.iter().find(|t| t.name == spec.name);
    specs
        .iter()
        .map(|spec| {
            let tensor = &find(spec).unwrap_or_else(|| panic!("no `{}`", spec.name)).tensor;
            assert_eq!(tensor.datatype(), spec.datatype, "{}", spec.name);
            assert!(spec.shape.admits(tensor.shape()), "{}", spec.name);
            tensor.clone()
        })
        .collect()
}

fn tensor_of(recorded: &Value) -> Tensor {
    let data = recorded["data"].as_array().unwrap();
    let float = |value: &Value| value.as_f64().unwrap();
    let (datatype, bytes) = match recorded["datatype"].as_str().unwrap() {
        "float16" => {
            let half = |v: &Value| half::f16::from_f64(float(v)).to_le_bytes();
            (DataType::Fp16, data.iter().flat_map(half).collect::<Vec<_>>())
        }
        "float32" => {
            let single = |v: &Value| (float(v) as f32).to_le_bytes();
            (DataType::Fp32, data.iter().flat_map(single).collect())
        }
        "float64" => (DataType::Fp64, data.iter().flat_map(|v| float(v).to_le_bytes()).collect()),
        "int64" => {
            let long = |v: &Value| v.as_i64().unwrap().to_le_bytes();
            (DataType::Int64, data.iter().flat_map(long).collect())
        }
        "uint8" => {
            let byte = |v: &Value| u8::try_from(v.as_u64().unwrap()).unwrap();
            (DataType::Uint8, data.iter().map(byte).collect())
        }
        other => panic!("the record has a tensor of {other}: read it here"),
    };
    let shape = recorded["shape"].as_array().unwrap();
    let shape = Shape::new(shape.iter().map(|size| size.as_u64().unwrap()));
    Tensor::new(datatype, shape, bytes.into()).unwrap()
}

/// Floats within 1e-5 of each other, relatively; everything else to the bit.
fn assert_alike(name: &str, answer: &Tensor, expected: &Tensor) {
    assert_eq!(answer.datatype(), expected.datatype(), "{name}");
    assert_eq!(answer.shape(), expected.shape(), "{name}");
    let (Some(got), Some(want)) = (answer.to_f32(), expected.to_f32()) else {
        assert_eq!(answer.data(), expected.data(), "{name}");
        return;
    };
    for (got, want) in got.iter().zip(&want) {
        let tolerance = 1e-5 * want.abs().max(1e-3);
        assert!((got - want).abs() <= tolerance, "{name}: {got} instead of {want}");
    }
}

#[test]
fn a_digest_is_the_one_of_the_file() {
    let model = load(&iris());
    let bytes = std::fs::read(iris()).unwrap();
    assert_eq!(model.digest, ContentDigest::of(&bytes));
    assert_eq!(model.size_bytes, bytes.len() as u64);
}

#[test]
fn sessions_run_beside_each_other_and_answer_their_own_callers() {
    let backend = backend();
    let mut single = load(&models().join("tiny_mlp.onnx")).session;
    let questions = (0..8).map(|i| {
        let i = i as f32;
        Tensor::from_f32([1, 3].into(), &[i, -2.0 * i, 0.5]).unwrap()
    });
    let questions = questions.collect::<Vec<_>>();
    let answers = questions
        .iter()
        .map(|question| single.execute(std::slice::from_ref(question)).unwrap())
        .collect::<Vec<_>>();
    thread::scope(|scope| {
        for (question, answer) in questions.iter().zip(&answers) {
            let backend = backend.clone();
            scope.spawn(move || {
                let path = models().join("tiny_mlp.onnx");
                let mut model = backend.load(&path, &LoadOptions::default()).unwrap();
                for _ in 0..200 {
                    let again = model.session.execute(std::slice::from_ref(question)).unwrap();
                    assert_eq!(&again, answer);
                }
            });
        }
    });
}

#[test]
fn a_run_that_fails_says_why_and_the_session_goes_on() {
    let mut model = load(&models().join("poison_row.onnx"));
    let rows = |indices: &[i64]| {
        let data = indices.iter().flat_map(|index| index.to_le_bytes()).collect::<Vec<_>>();
        let shape = [indices.len() as u64, 1].into();
        Tensor::new(DataType::Int64, shape, data.into()).unwrap()
    };
    let before = model.session.execute(&[rows(&[3])]).unwrap();
    let error = model.session.execute(&[rows(&[3, 99])]).unwrap_err().to_string();
    assert!(error.contains("Gather") && error.contains("99"), "{error}");
    assert!(!error.contains("/onnxruntime_src/") && !error.contains('\n'), "{error}");
    assert_eq!(model.session.execute(&[rows(&[3])]).unwrap(), before);
}

#[test]
fn what_does_not_fit_is_refused_before_the_engine_sees_it() {
    let mut model = load(&models().join("two_inputs.onnx"));
    let pair = |first: &[f32]| Tensor::from_f32([1, first.len() as u64].into(), first).unwrap();
    let double = Tensor::new(DataType::Fp64, [1, 2].into(), vec![0; 16].into()).unwrap();
    for (inputs, expected) in [
        (vec![], "the model takes 2 inputs, got 0"),
        (vec![pair(&[1.0, 2.0])], "the model takes 2 inputs, got 1"),
        (vec![pair(&[1.0, 2.0]); 3], "the model takes 2 inputs, got 3"),
        (
            vec![pair(&[1.0, 2.0]), pair(&[1.0, 2.0, 3.0])],
            "input `b`: expected FP32 [N,2], got FP32 [1,3]",
        ),
        (vec![double, pair(&[1.0, 2.0])], "input `a`: expected FP32 [N,2], got FP64 [1,2]"),
    ] {
        assert_eq!(model.session.execute(&inputs).unwrap_err().to_string(), expected);
    }
}
