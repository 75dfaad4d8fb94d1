//! Files that are no model, models that cannot be served, and what their owner reads.

use std::io::ErrorKind;
use std::path::Path;

use inferring_backend::{Backend as _, LoadError, LoadOptions};
use inferring_types::DataType;
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
    let damaged = "it is no ONNX model, or damaged:";
    for (path, reason) in [
        (
            models().join("corrupt.onnx"),
            format!("{damaged} a field that goes on behind the end, at byte 83"),
        ),
        (write("empty.onnx", b""), "the file is empty".to_owned()),
        (
            write("text.onnx", b"# This is no model\n"),
            format!("{damaged} a field of no known kind, at byte 0"),
        ),
        (
            write("page.onnx", b"<!DOCTYPE html><html></html>"),
            format!("{damaged} a field of no known kind, at byte 0"),
        ),
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
    for (kind, expected) in [
        (
            sequence.clone(),
            "its input `x` is a sequence, seq(tensor(float)): inputs must be dense tensors",
        ),
        (
            onnx::optional(&sequence),
            "its input `x` is an optional value, optional(seq(tensor(float))): inputs must be \
             dense tensors",
        ),
        (
            onnx::optional(&tensor),
            "its input `x` is an optional value, optional(tensor(float)): inputs must be dense \
             tensors",
        ),
    ] {
        assert_eq!(unsupported(kind.clone(), kind), expected);
    }
}

#[test]
fn maps_and_odd_tensors_are_named() {
    let float = onnx::element(DataType::Fp32);
    let tensor = onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(3)]);
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
    let [int4, float8] = [onnx::INT4, onnx::FLOAT8]
        .map(|element| with_unused(onnx::tensor(element, &[Size::Symbol("N")])));
    for (made, expected) in [
        (map, "its input `x` is a map, map(int64,tensor(float)): inputs must be dense tensors"),
        (sparse, "its input `unused` is a sparse tensor: only dense tensors are served"),
        (int4, "its input `unused` is a tensor of int4, which is no datatype of the protocol"),
        (
            float8,
            "its input `unused` is a tensor of float8e5m2, which is no datatype of the protocol",
        ),
    ] {
        let error = try_load_bytes(&made).err().expect(expected).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    // Complex numbers the engine refuses by itself, and what no operator can use.
    let complex = onnx::tensor(onnx::COMPLEX64, &[Size::Symbol("N")]);
    let nested = onnx::map(7, &onnx::sequence(&tensor));
    for (unused, word) in [(complex, "complex64"), (nested, "map")] {
        let error = try_load_bytes(&with_unused(unused)).err().expect(word).to_string();
        assert!(error.contains(word), "{error}");
    }
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
