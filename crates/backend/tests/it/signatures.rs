//! What the backend says a model takes and gives.

use inferring_backend::Backend as _;
use inferring_types::{DataType, Dimension, TensorSpec};

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
