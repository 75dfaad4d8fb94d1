//! Models whose weights lie in files beside them.

use std::fs;
use std::path::PathBuf;

use inferring_backend::{Backend as _, LoadError, LoadOptions};
use inferring_types::{DataType, Tensor};
use tempfile::TempDir;

use crate::onnx::{self, Message, Size};
use crate::{backend, load};

/// An FP32 tensor of two elements in a file.
fn weight_in_file(name: &str, file: &str) -> Message {
    let entry = Message::default().text(1, "location").text(2, file);
    let tensor = Message::default().number(1, 2).number(2, 1).text(8, name);
    tensor.message(13, &entry).number(14, 1)
}

/// A model that adds two weights from a file, in a folder of its own.
fn model_beside(file: &str) -> (TempDir, PathBuf) {
    let float = onnx::element(DataType::Fp32);
    let shape = [Size::Symbol("N"), Size::Fixed(2)];
    let made = onnx::model_with_weights(
        &[onnx::node("Add", &["x", "w"], &["y"])],
        &[("x", onnx::tensor(float, &shape))],
        &[("y", onnx::tensor(float, &shape))],
        &[weight_in_file("w", file)],
    );
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, made).unwrap();
    (folder, path)
}

fn answer(path: &std::path::Path) -> Vec<f32> {
    let input = Tensor::from_f32([1, 2].into(), &[1.0, 2.0]).unwrap();
    load(path).session.execute(&[input]).unwrap()[0].to_f32().unwrap()
}

#[test]
fn weights_in_a_file_beside_the_model_are_found_and_told_from_others() {
    let (folder, path) = model_beside("sub/weights.bin");
    let weights = folder.path().join("sub/weights.bin");
    fs::create_dir(weights.parent().unwrap()).unwrap();
    let mut digests = Vec::new();
    for values in [[10.0_f32, 20.0], [30.0, 40.0]] {
        fs::write(&weights, values.map(f32::to_le_bytes).as_flattened()).unwrap();
        let model = load(&path);
        assert_eq!(model.size_bytes, fs::metadata(&path).unwrap().len() + 8);
        digests.push(model.digest);
        assert_eq!(answer(&path), [values[0] + 1.0, values[1] + 2.0]);
    }
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn weights_that_are_missing_short_or_elsewhere_are_named() {
    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("secret.bin");
    fs::write(&secret, [1; 8]).unwrap();
    for (file, expected) in [
        ("weights.bin", "its tensor `w` lies in the file `weights.bin`, which does not exist"),
        ("../secret.bin", "which leads out of the model's folder"),
        (secret.to_str().unwrap(), "which leads out of the model's folder"),
    ] {
        let (_folder, path) = model_beside(file);
        let error = backend().load(&path, &LoadOptions::default()).err().expect(expected);
        assert!(matches!(error, LoadError::Refused { .. }), "{error}");
        let error = error.to_string();
        assert!(error.ends_with(expected) && error.contains(file), "{error}");
    }
    // How long a tensor is need not be said.
    let (folder, path) = model_beside("weights.bin");
    fs::write(folder.path().join("weights.bin"), [1; 7]).unwrap();
    let error = backend().load(&path, &LoadOptions::default()).err().unwrap().to_string();
    let expected = "its tensor `w` lies in the file `weights.bin`, which is too short: it has 7 \
                    bytes, and the tensor ends at 8";
    assert!(error.ends_with(expected), "{error}");
}
