//! Outputs that are no tensors, which are served as JSON texts.

use inferring_backend::LoadedModel;
use inferring_types::{DataType, Dimension, Tensor};
use serde_json::{Value, json};

use crate::load_bytes;
use crate::onnx::{self, Message, Size};

/// The texts of a BYTES tensor, read as JSON.
fn parsed(tensor: &Tensor) -> Vec<Value> {
    assert_eq!((tensor.datatype(), tensor.shape().rank()), (DataType::Bytes, 1));
    let (mut data, mut texts) = (&tensor.data()[..], Vec::new());
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(serde_json::from_slice(text).unwrap());
        data = rest;
    }
    assert_eq!(tensor.elements(), texts.len() as u64);
    texts
}

fn ask(model: &mut LoadedModel, input: &Tensor) -> Vec<Value> {
    parsed(&model.session.execute(std::slice::from_ref(input)).unwrap()[0])
}

fn f32s(shape: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.into(), values).unwrap()
}

const FLOAT: u64 = 1;
const NOTHING: [Value; 0] = [];

fn rows_of(width: u64) -> Message {
    onnx::tensor(FLOAT, &[Size::Symbol("N"), Size::Fixed(width)])
}

/// A model of one operator of `domain` that gives `y` of this type.
fn one_operator(node: Message, domain: &str, input: Message, output: Message) -> Vec<u8> {
    let node = if domain.is_empty() { node } else { node.text(7, domain) };
    onnx::model(&[node], &[("x", input)], &[("y", output)])
}

#[test]
fn a_sequence_of_maps_is_an_object_for_each() {
    let integers = onnx::node("ZipMap", &["x"], &["y"]).integers("classlabels_int64s", &[0, -7, 9]);
    let strings =
        onnx::node("ZipMap", &["x"], &["y"]).strings("classlabels_strings", &[b"a", b"\"", b"c"]);
    for (node, key, labels, notation) in [
        (integers, DataType::Int64, ["0", "-7", "9"], "seq(map(int64,tensor(float)))"),
        (strings, DataType::Bytes, ["a", "\"", "c"], "seq(map(string,tensor(float)))"),
    ] {
        let map = onnx::map(onnx::element(key), &onnx::tensor(FLOAT, &[]));
        let made = one_operator(node, "ai.onnx.ml", rows_of(3), onnx::sequence(&map));
        let mut model = load_bytes(&made);
        assert_eq!(model.outputs[0].datatype, DataType::Bytes);
        assert_eq!(model.outputs[0].shape.dimensions(), [Dimension::Dynamic(None)]);
        assert_eq!(model.notes, [format!("output `y` is {notation}, served as JSON texts")]);
        let answer = ask(&mut model, &f32s(&[2, 3], &[0.5, 0.25, 1e-7, f32::NAN, -1.0, 3.0]));
        let [a, b, c] = labels;
        assert_eq!(
            answer,
            [
                json!({ a: 0.5, b: 0.25, c: f64::from(1e-7_f32) }),
                json!({ a: "NaN", b: -1.0, c: 3.0 })
            ]
            .map(|value| narrowed(&value))
        );
        assert_eq!(ask(&mut model, &f32s(&[0, 3], &[])), NOTHING);
    }
}

/// The shortest text of a float is read as a wider one than it was.
fn narrowed(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), narrowed(v))).collect(),
        Value::Number(number) => {
            let shortest = format!("{:?}", number.as_f64().unwrap() as f32);
            serde_json::from_str(&shortest).unwrap()
        }
        other => other.clone(),
    }
}

#[test]
fn a_sequence_of_tensors_is_a_text_for_each() {
    let tensor = onnx::tensor(FLOAT, &[Size::Unknown, Size::Fixed(2)]);
    let split = onnx::node("SplitToSequence", &["x"], &["y"]);
    let made = one_operator(split, "", rows_of(2), onnx::sequence(&tensor));
    let mut model = load_bytes(&made);
    assert_eq!(model.notes, ["output `y` is seq(tensor(float)), served as JSON texts"]);
    let answer = ask(&mut model, &f32s(&[2, 2], &[1.0, 2.0, f32::INFINITY, -4.5]));
    let row = |data: Value| json!({ "datatype": "FP32", "shape": [1, 2], "data": data });
    assert_eq!(answer, [row(json!([1.0, 2.0])), row(json!(["Infinity", -4.5]))]);
}

#[test]
fn every_datatype_may_be_in_a_sequence() {
    // Of bfloat16 no operator makes a sequence.
    for datatype in DataType::ALL.into_iter().filter(|datatype| *datatype != DataType::Bf16) {
        let tensor = onnx::tensor(onnx::element(datatype), &[Size::Unknown]);
        let node = onnx::node("SequenceConstruct", &["x", "x"], &["y"]);
        let made = one_operator(node, "", tensor.clone(), onnx::sequence(&tensor));
        let mut model = load_bytes(&made);
        let (bytes, expected) = match datatype.element_size() {
            Some(size) => (vec![0; 2 * size], json!(0)),
            None => (b"\x01\0\0\0a\x01\0\0\0\xff".to_vec(), json!("a")),
        };
        let input = Tensor::new(datatype, [2].into(), bytes.into()).unwrap();
        let answer = ask(&mut model, &input);
        assert_eq!(answer.len(), 2, "{datatype}");
        assert_eq!(answer[0], answer[1], "{datatype}");
        assert_eq!(answer[0]["datatype"], datatype.name());
        assert_eq!(answer[0]["shape"], json!([2]));
        let first = &answer[0]["data"][0];
        let same = match datatype {
            DataType::Bool => first == &json!(false),
            DataType::Bytes => first == &expected && answer[0]["data"][1] == json!({"b64": "/w=="}),
            _ => first.as_f64() == Some(0.0),
        };
        assert!(same, "{datatype}: {}", answer[0]);
    }
}

#[test]
fn an_empty_sequence_and_an_absent_optional_value_are_no_texts() {
    let tensor = onnx::tensor(FLOAT, &[Size::Unknown]);
    let empty = onnx::node("SequenceEmpty", &[], &["y"]);
    let mut model = load_bytes(&one_operator(empty, "", tensor.clone(), onnx::sequence(&tensor)));
    assert_eq!(ask(&mut model, &f32s(&[1], &[1.0])), NOTHING);

    let absent = onnx::node("Optional", &[], &["y"]).type_attribute("type", &tensor);
    let mut model = load_bytes(&one_operator(absent, "", tensor.clone(), onnx::optional(&tensor)));
    assert_eq!(model.notes, ["output `y` is optional(tensor(float)), served as JSON texts"]);
    assert_eq!(model.outputs[0].shape.dimensions(), [Dimension::Dynamic(None)]);
    assert_eq!(ask(&mut model, &f32s(&[1], &[1.0])), NOTHING);
}

#[test]
fn an_optional_value_that_is_there_is_its_content() {
    let tensor = onnx::tensor(FLOAT, &[Size::Unknown]);
    let wrap = onnx::node("Optional", &["x"], &["y"]);
    let mut model = load_bytes(&one_operator(wrap, "", tensor.clone(), onnx::optional(&tensor)));
    let answer = ask(&mut model, &f32s(&[2], &[1.0, 2.0]));
    assert_eq!(answer, [json!({ "datatype": "FP32", "shape": [2], "data": [1.0, 2.0] })]);

    let sequence = onnx::sequence(&tensor);
    let made = onnx::model(
        &[
            onnx::node("SequenceConstruct", &["x", "x"], &["s"]),
            onnx::node("Optional", &["s"], &["y"]),
        ],
        &[("x", tensor)],
        &[("y", onnx::optional(&sequence))],
    );
    let mut model = load_bytes(&made);
    assert_eq!(model.notes, ["output `y` is optional(seq(tensor(float))), served as JSON texts"]);
    let answer = ask(&mut model, &f32s(&[1], &[3.0]));
    assert_eq!(answer, vec![json!({ "datatype": "FP32", "shape": [1], "data": [3.0] }); 2]);
}

#[test]
fn texts_and_tensors_may_be_outputs_of_one_model() {
    let tensor = onnx::tensor(FLOAT, &[Size::Unknown]);
    let made = onnx::model(
        &[
            onnx::node("SequenceConstruct", &["x"], &["parts"]),
            onnx::node("Identity", &["x"], &["same"]),
        ],
        &[("x", tensor.clone())],
        &[("parts", onnx::sequence(&tensor)), ("same", tensor)],
    );
    let mut model = load_bytes(&made);
    let input = f32s(&[1], &[0.1]);
    let outputs = model.session.execute(std::slice::from_ref(&input)).unwrap();
    assert_eq!(parsed(&outputs[0])[0]["data"], json!([0.1]));
    assert_eq!(outputs[1], input);
}
