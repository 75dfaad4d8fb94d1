//! What the backend says a model takes and gives.

use inferring_backend::Backend as _;
use inferring_types::{DataType, Dimension, Shape, Tensor, TensorSpec};

use crate::onnx::{self, Size};
use crate::{backend, iris, load, load_bytes, models};

fn words(specs: &[TensorSpec]) -> String {
    let words = specs.iter().map(|s| format!("{} {} {}", s.name, s.datatype, s.shape));
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn names_datatypes_and_symbols_are_the_models_own() {
    for (name, inputs, outputs) in [
        ("tiny_mlp", "input FP32 [N,3]", "output FP32 [N,2]"),
        ("time_major_cumsum", "input FP32 [T,4]", "output FP32 [T,4]"),
        ("fixed_batch3", "input FP32 [3,2]", "output FP32 [3,2]"),
        ("int64_scale", "input INT64 [N,3]", "output INT64 [N,3]"),
        ("f16_scale", "input FP16 [N,3]", "output FP16 [N,3]"),
        ("uint8_sum", "input UINT8 [N,L]", "sum FP32 [N,1]"),
        ("two_inputs", "a FP32 [N,2], b FP32 [N,2]", "sum FP32 [N,2]"),
        ("two_outputs", "input FP32 [N,3]", "double FP32 [N,3], total FP32 [N,1]"),
    ] {
        let model = load(&models().join(name).with_extension("onnx"));
        assert_eq!(words(&model.inputs), inputs, "{name}");
        assert_eq!(words(&model.outputs), outputs, "{name}");
    }
}

#[test]
fn a_dimension_without_a_symbol_and_a_scalar_are_told_apart() {
    let kind = onnx::element(DataType::Fp32);
    let shape = [Size::Unknown, Size::Symbol("width"), Size::Fixed(7), Size::Fixed(0)];
    let model = load_bytes(&onnx::model(
        &[onnx::node("Identity", &["x"], &["y"]), onnx::node("Identity", &["s"], &["t"])],
        &[("x", onnx::tensor(kind, &shape)), ("s", onnx::tensor(kind, &[]))],
        &[("y", onnx::tensor(kind, &shape)), ("t", onnx::tensor(kind, &[]))],
    ));
    let dimensions = [
        Dimension::Dynamic(None),
        Dimension::Dynamic(Some("width".to_owned())),
        Dimension::Fixed(7),
        Dimension::Fixed(0),
    ];
    assert_eq!(model.inputs[0].shape.dimensions(), dimensions);
    assert_eq!(model.inputs[1].shape.dimensions(), []);
}

#[test]
fn what_declares_no_rank_takes_any() {
    let kind = onnx::element(DataType::Fp32);
    let any = onnx::tensor_of_unknown_rank(kind);
    let mut model = load_bytes(&onnx::model(
        &[onnx::node("Add", &["x", "x"], &["y"])],
        &[("x", any.clone())],
        &[("y", any)],
    ));
    assert!(!model.inputs[0].shape.is_ranked() && !model.outputs[0].shape.is_ranked());
    for shape in [Shape::default(), [3].into(), [2, 3].into(), [1, 0, 2].into(), [1; 7].into()] {
        let elements = usize::try_from(shape.elements().unwrap()).unwrap();
        let input = Tensor::from_f32(shape.clone(), &vec![1.5; elements]).unwrap();
        let outputs = model.session.execute(&[input]).unwrap();
        assert_eq!(outputs, [Tensor::from_f32(shape, &vec![3.0; elements]).unwrap()]);
    }
}

#[test]
fn a_model_may_take_nothing() {
    let float = onnx::element(DataType::Fp32);
    let values = [1.0_f32, -2.0].map(f32::to_le_bytes);
    let value = onnx::constant(float, &[2], values.as_flattened());
    let constant = onnx::node("Constant", &[], &["y"]).tensor_attribute("value", &value);
    let mut model = load_bytes(&onnx::model(
        &[constant],
        &[],
        &[("y", onnx::tensor(float, &[Size::Fixed(2)]))],
    ));
    assert_eq!(model.inputs, []);
    assert!(model.deterministic);
    let expected = Tensor::from_f32([2].into(), &[1.0, -2.0]).unwrap();
    let outputs = model.session.execute(&[]).unwrap();
    assert_eq!(outputs, [expected]);
    let error = model.session.execute(&outputs).unwrap_err().to_string();
    assert_eq!(error, "the model takes 0 inputs, got 1");
}

#[test]
fn a_model_that_draws_random_numbers_says_so() {
    let float = onnx::element(DataType::Fp32);
    let mut model = load_bytes(&onnx::model(
        &[onnx::node("RandomNormal", &[], &["y"]).integers("shape", &[64])],
        &[],
        &[("y", onnx::tensor(float, &[Size::Fixed(64)]))],
    ));
    assert!(!model.deterministic);
    assert_eq!(model.notes, ["it draws random numbers (RandomNormal): no answer is kept"]);
    let mut run = || model.session.execute(&[]).unwrap();
    assert_ne!(run(), run());
}

#[test]
fn library_and_device_are_told() {
    let status = backend().status();
    assert_eq!(status.name, "onnxruntime");
    let numbers = status.version.split('.').map(str::parse::<u32>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>().unwrap();
    assert!(numbers[..2] >= [1, 24][..], "{}", status.version);
    let library = status.library.unwrap();
    assert!(std::path::Path::new(&library).is_file(), "{library}");
    assert!(status.found_by.is_some());
    let model = load(&iris());
    assert_eq!(model.device.provider, "CPUExecutionProvider");
    assert_eq!(model.device.fallback_reason, None);
}
