//! Files that are no model, models that cannot be served, and what their owner reads.

use std::io::ErrorKind;
use std::path::Path;

use inferring_backend::{Backend as _, LoadError, LoadOptions};
use inferring_types::{DataType, Tensor};
use tempfile::TempDir;

use crate::onnx::{self, Message, Size};
use crate::{backend, iris, models, try_load_bytes};

fn refusal(path: &Path) -> LoadError {
    match backend().load(path, &LoadOptions::default()) {
        Ok(_) => panic!("`{}` was loaded", path.display()),
        Err(error) => error,
    }
}

#[test]
fn what_cannot_be_read_is_told_with_the_systems_reason() {
    let folder = TempDir::new().unwrap();
    for (path, kind) in [
        (folder.path().join("absent.onnx"), ErrorKind::NotFound),
        (folder.path().to_owned(), ErrorKind::IsADirectory),
        ("/dev/null".into(), ErrorKind::InvalidInput),
        ("a\0b".into(), ErrorKind::InvalidInput),
    ] {
        let LoadError::Read { path: named, source } = refusal(&path) else {
            panic!("`{}` was read", path.display());
        };
        assert_eq!(named, path);
        assert_eq!(source.kind(), kind, "{source}");
    }
}

#[test]
fn what_is_no_model_is_refused_in_few_words() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    for (path, reason) in [
        (models().join("corrupt.onnx"), "Protobuf parsing failed."),
        (write("empty.onnx", b""), "the file is empty"),
        (write("text.onnx", b"# This is no model\n"), "Protobuf parsing failed."),
        (write("page.onnx", b"<!DOCTYPE html><html></html>"), "Protobuf parsing failed."),
    ] {
        let error = refusal(&path).to_string();
        let expected = format!("`{}` is not a model that can be loaded: {reason}", path.display());
        assert_eq!(error, expected);
    }
}

#[test]
fn no_damage_to_a_file_ends_the_process() {
    let whole = std::fs::read(iris()).unwrap();
    let check = |damaged: &[u8], damage: String| match try_load_bytes(damaged) {
        Ok(_) => {}
        Err(LoadError::Refused { reason, .. } | LoadError::Unsupported { reason, .. }) => {
            assert!(!reason.contains("binding"), "a panic after {damage}: {reason}");
            assert!(!reason.contains('\n') && !reason.is_empty());
        }
        Err(other) => panic!("{other} after {damage}"),
    };
    for length in 1..whole.len() {
        check(&whole[..length], format!("cutting at {length}"));
    }
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        // A pattern that changes with the place, so that tags, lengths and data all get theirs.
        damaged[position] ^= 1 << (position % 8);
        check(&damaged, format!("a flipped bit at {position}"));
    }
}

/// The reason why a model of one `Identity` from an input to an output of these types is refused.
fn unsupported(input: Message, output: Message) -> String {
    let nodes = [onnx::node("Identity", &["x"], &["y"])];
    match try_load_bytes(&onnx::model(&nodes, &[("x", input)], &[("y", output)])) {
        Ok(_) => panic!("it was loaded"),
        Err(LoadError::Unsupported { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_is_no_tensor_is_named() {
    let float = onnx::element(DataType::Fp32);
    let tensor = onnx::tensor(float, &[Size::Symbol("N")]);
    let sequence = onnx::sequence(&tensor);
    let optional = onnx::optional(&tensor);
    for (kind, expected) in [
        (sequence, "its input `x` is a sequence: only tensors are served"),
        (optional, "its input `x` is an optional value: only tensors are served"),
        (
            onnx::tensor_of_unknown_rank(float),
            "its input `x` declares no shape, not even how many dimensions it has",
        ),
    ] {
        assert_eq!(unsupported(kind.clone(), kind), expected);
    }
}

#[test]
fn a_sequence_as_output_a_map_and_odd_tensors_are_named() {
    let float = onnx::element(DataType::Fp32);
    let tensor = onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(3)]);
    let sequence = onnx::model(
        &[onnx::node("SequenceConstruct", &["x"], &["parts"])],
        &[("x", tensor.clone())],
        &[("parts", onnx::sequence(&tensor))],
    );
    let keyed = onnx::map(onnx::element(DataType::Int64), &onnx::tensor(float, &[]));
    let map = onnx::model(
        &[onnx::node("CastMap", &["x"], &["y"]).text(7, "ai.onnx.ml")],
        &[("x", keyed)],
        &[("y", onnx::tensor(float, &[Size::Fixed(1), Size::Unknown]))],
    );
    let with_unused = |unused: Message| {
        let inputs = [("x", tensor.clone()), ("unused", unused)];
        onnx::model(&[onnx::node("Identity", &["x"], &["y"])], &inputs, &[("y", tensor.clone())])
    };
    let sparse = with_unused(onnx::sparse_tensor(float, &[Size::Symbol("N")]));
    let int4 = with_unused(onnx::tensor(onnx::INT4, &[Size::Symbol("N")]));
    for (made, expected) in [
        (sequence, "its output `parts` is a sequence: only tensors are served"),
        (map, "its input `x` is a map: only tensors are served"),
        (sparse, "its input `unused` is a sparse tensor: only dense tensors are served"),
        (int4, "its input `unused` is a tensor of i4, which is no datatype of the protocol"),
    ] {
        let error = try_load_bytes(&made).err().expect(expected).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn a_model_that_takes_nothing_is_told() {
    let float = onnx::element(DataType::Fp32);
    let weight = weight("w", &1.0_f32.to_le_bytes());
    let made = onnx::model_with_weights(
        &[onnx::node("Identity", &["w"], &["y"])],
        &[],
        &[("y", onnx::tensor(float, &[Size::Fixed(1)]))],
        &[weight],
    );
    let error = try_load_bytes(&made).err().expect("it takes no inputs").to_string();
    assert!(error.ends_with("it takes no inputs: there is nothing to ask it"), "{error}");
}

/// An FP32 initializer of one dimension, with its data inside.
fn weight(name: &str, data: &[u8]) -> Message {
    let elements = data.len() as u64 / 4;
    Message::default().number(1, elements).number(2, 1).text(8, name).bytes(9, data)
}

/// The same with its data in a file beside the model.
fn weight_in_file(name: &str, elements: u64, file: &str) -> Message {
    let entry = Message::default().text(1, "location").text(2, file);
    Message::default()
        .number(1, elements)
        .number(2, 1)
        .text(8, name)
        .message(13, &entry)
        .number(14, 1)
}

#[test]
fn weights_in_a_file_beside_the_model_are_found_and_missed() {
    let float = onnx::element(DataType::Fp32);
    let shape = [Size::Symbol("N"), Size::Fixed(2)];
    let made = onnx::model_with_weights(
        &[onnx::node("Add", &["x", "w"], &["y"])],
        &[("x", onnx::tensor(float, &shape))],
        &[("y", onnx::tensor(float, &shape))],
        &[weight_in_file("w", 2, "weights.bin")],
    );
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, made).unwrap();
    let error = refusal(&path).to_string();
    assert!(error.contains("weights.bin"), "{error}");

    let weights = [10.0_f32, 20.0].map(f32::to_le_bytes);
    std::fs::write(folder.path().join("weights.bin"), weights.as_flattened()).unwrap();
    let mut model = crate::load(&path);
    let input = Tensor::from_f32([1, 2].into(), &[1.0, 2.0]).unwrap();
    let outputs = model.session.execute(&[input]).unwrap();
    assert_eq!(outputs[0].to_f32().unwrap(), [11.0, 22.0]);
}

#[test]
fn an_operator_that_the_engine_lacks_is_named() {
    let tensor = onnx::tensor(onnx::element(DataType::Fp32), &[Size::Symbol("N")]);
    let nodes = [onnx::node("Frobnicate", &["x"], &["y"])];
    let made = onnx::model(&nodes, &[("x", tensor.clone())], &[("y", tensor)]);
    let error = try_load_bytes(&made).err().expect("there is no such operator").to_string();
    assert!(error.contains("Frobnicate"), "{error}");
    assert!(!error.contains("/onnxruntime_src/"), "{error}");
}
