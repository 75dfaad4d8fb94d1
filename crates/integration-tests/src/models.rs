//! The models that tests ask, and what ONNX Runtime itself answers to them.

use std::path::{Path, PathBuf};

use half::f16;
use serde_json::{Value, json};

use crate::load::Question;

/// The iris classifier: `input` FP32 `[N,4]` to `probabilities` FP32 `[N,3]`.
pub fn iris() -> PathBuf {
    repository().join("models/iris/iris.onnx")
}

/// One of the models in `models/`, which its `README.md` describes.
///
/// # Panics
/// Where there is none of that name.
#[track_caller]
pub fn named(name: &str) -> PathBuf {
    let path = folder().join(format!("{name}.onnx"));
    assert!(path.is_file(), "there is no `{}`", path.display());
    path
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("two levels up")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// A flower, as in the first example of the README, and the species that it is.
pub const SETOSA: [f32; 4] = [5.1, 3.5, 1.4, 0.2];

/// The `n`-th of as many different questions as anybody wants, each with an exact answer:
/// `int64_scale` takes three integers times three.
pub const TRIPLE: Question = Question {
    model: "int64_scale",
    input: |n| json!([n, -(n as i64), 7]),
    output: |n| json!([3 * n, -3 * (n as i64), 21]),
};

/// The same of a model that takes long for each run: `slow` takes four numbers times two.
/// Exact up to 2^24.
pub const SLOW_DOUBLE: Question = Question {
    model: "slow",
    input: |n| json!([n, -(n as f64), 0.5, 1]),
    output: |n| json!([2 * n, -2 * (n as i64), 1, 2]),
};

/// Inputs of a model, and the outputs that ONNX Runtime gave for them through its Python
/// package: no code of ours had a hand in them.
#[derive(Debug)]
pub struct Case {
    /// The model's name.
    pub model: String,
    /// Its file.
    pub path: PathBuf,
    /// Its inputs.
    pub inputs: Vec<CaseTensor>,
    /// The outputs that belong to them.
    pub outputs: Vec<CaseTensor>,
}

/// A tensor of a case.
#[derive(Debug)]
pub struct CaseTensor {
    /// Its name in the model.
    pub name: String,
    /// Its datatype, by its name in Open Inference Protocol v2.
    pub datatype: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its elements, row by row.
    pub data: Vec<Value>,
}

/// All recorded cases.
pub fn cases() -> Vec<Case> {
    let text = std::fs::read(folder().join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    cases.iter().map(Case::read).collect()
}

impl Case {
    fn read(case: &Value) -> Self {
        let file = case["model"].as_str().unwrap();
        let model = file.strip_suffix(".onnx").unwrap();
        let tensors = |key: &str| case[key].as_array().unwrap().iter().map(CaseTensor::read);
        Self {
            model: model.to_owned(),
            path: if model == "iris" { iris() } else { named(model) },
            inputs: tensors("inputs").collect(),
            outputs: tensors("outputs").collect(),
        }
    }
}

impl CaseTensor {
    fn read(tensor: &Value) -> Self {
        Self {
            name: tensor["name"].as_str().unwrap().to_owned(),
            datatype: match tensor["datatype"].as_str().unwrap() {
                "float16" => "FP16",
                "float32" => "FP32",
                "float64" => "FP64",
                "int64" => "INT64",
                "uint8" => "UINT8",
                other => panic!("the cases have a tensor of {other}: read it here"),
            },
            shape: tensor["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d.as_u64().unwrap())
                .collect(),
            data: tensor["data"].as_array().unwrap().clone(),
        }
    }

    /// Its elements as Open Inference Protocol v2 sends them raw: little-endian, row by row.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes_of = |value: &Value| -> Vec<u8> {
            let float = || value.as_f64().unwrap();
            match self.datatype {
                "FP16" => f16::from_f64(float()).to_le_bytes().into(),
                "FP32" => (float() as f32).to_le_bytes().into(),
                "FP64" => float().to_le_bytes().into(),
                "INT64" => value.as_i64().unwrap().to_le_bytes().into(),
                _ => vec![u8::try_from(value.as_u64().unwrap()).unwrap()],
            }
        };
        self.data.iter().flat_map(bytes_of).collect()
    }

    /// Holds raw elements, as an answer carried them, against these.
    ///
    /// # Panics
    /// Where they are not alike.
    #[track_caller]
    pub fn assert_alike_raw(&self, what: &str, raw: &[u8]) {
        let size = match self.datatype {
            "FP16" => 2,
            "FP32" => 4,
            "FP64" | "INT64" => 8,
            _ => 1,
        };
        assert_eq!(raw.len(), size * self.data.len(), "{what}: bytes");
        let read = raw.chunks_exact(size).map(|element| match self.datatype {
            "FP16" => json!(f16::from_le_bytes(element.try_into().unwrap()).to_f64()),
            "FP32" => json!(f32::from_le_bytes(element.try_into().unwrap())),
            "FP64" => json!(f64::from_le_bytes(element.try_into().unwrap())),
            "INT64" => json!(i64::from_le_bytes(element.try_into().unwrap())),
            _ => json!(element[0]),
        });
        self.assert_alike(what, &Value::Array(read.collect()));
    }

    /// Holds elements, as an answer carried them in JSON, against these: floating-point numbers
    /// within 1e-5 of each other, relatively, because another processor may sum in another
    /// order; integers exactly.
    ///
    /// # Panics
    /// Where they are not alike.
    #[track_caller]
    pub fn assert_alike(&self, what: &str, data: &Value) {
        let data = data.as_array().unwrap_or_else(|| panic!("{what}: no array: {data}"));
        assert_eq!(data.len(), self.data.len(), "{what}: elements");
        for (got, want) in data.iter().zip(&self.data) {
            let alike = match self.datatype {
                "INT64" | "UINT8" => got.as_i64() == want.as_i64(),
                _ => {
                    let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
                    (got - want).abs() <= 1e-5 * want.abs().max(1e-3)
                }
            };
            assert!(alike, "{what}: {got} instead of {want}");
        }
    }
}
