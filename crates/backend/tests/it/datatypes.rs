//! Every datatype on its way in and out, aligned or not, in shapes of every size.
//!
//! `Cast` to FP32 shows that the engine reads the bytes as the numbers that were meant, and
//! `Identity` that they come back to the bit.

use bytes::Bytes;
use half::{bf16, f16};
use inferring_backend::LoadedModel;
use inferring_types::{DataType, Shape, Tensor};

use crate::load_bytes;
use crate::onnx::{self, Size};

/// `same` is `x` again, `cast` is `x` as FP32; `x` has the shape of `sizes`.
fn identity_and_cast(datatype: DataType, sizes: &[Size]) -> LoadedModel {
    let kind = onnx::element(datatype);
    let float = onnx::element(DataType::Fp32);
    load_bytes(&onnx::model(
        &[
            onnx::node("Identity", &["x"], &["same"]),
            onnx::node("Cast", &["x"], &["cast"]).attribute("to", float),
        ],
        &[("x", onnx::tensor(kind, sizes))],
        &[("same", onnx::tensor(kind, sizes)), ("cast", onnx::tensor(float, sizes))],
    ))
}

/// The values 0, 1 and 100 (true, for a boolean), and a fourth that only this datatype has.
fn values_of(datatype: DataType) -> (Vec<u8>, [f32; 4]) {
    fn concat<const N: usize>(values: [[u8; N]; 4]) -> Vec<u8> {
        values.as_flattened().to_vec()
    }
    match datatype {
        DataType::Bool => (vec![0, 1, 1, 0], [0.0, 1.0, 1.0, 0.0]),
        DataType::Uint8 => (vec![0, 1, 100, 255], [0.0, 1.0, 100.0, 255.0]),
        DataType::Int8 => (vec![0, 1, 100, 0x80], [0.0, 1.0, 100.0, -128.0]),
        DataType::Uint16 => {
            (concat([0, 1, 100, 65_535].map(u16::to_le_bytes)), [0.0, 1.0, 100.0, 65_535.0])
        }
        DataType::Int16 => {
            (concat([0, 1, 100, -32_768].map(i16::to_le_bytes)), [0.0, 1.0, 100.0, -32_768.0])
        }
        DataType::Uint32 => {
            (concat([0, 1, 100, 1 << 31].map(u32::to_le_bytes)), [0.0, 1.0, 100.0, 2f32.powi(31)])
        }
        DataType::Int32 => {
            (concat([0, 1, 100, i32::MIN].map(i32::to_le_bytes)), [0.0, 1.0, 100.0, -2f32.powi(31)])
        }
        DataType::Uint64 => {
            (concat([0, 1, 100, 1 << 63].map(u64::to_le_bytes)), [0.0, 1.0, 100.0, 2f32.powi(63)])
        }
        DataType::Int64 => {
            (concat([0, 1, 100, i64::MIN].map(i64::to_le_bytes)), [0.0, 1.0, 100.0, -2f32.powi(63)])
        }
        DataType::Fp16 => {
            let values = [0.0, 1.0, 100.0, -0.5];
            (concat(values.map(|v| f16::from_f32(v).to_le_bytes())), values)
        }
        DataType::Bf16 => {
            let values = [0.0, 1.0, 100.0, -2f32.powi(100)];
            (concat(values.map(|v| bf16::from_f32(v).to_le_bytes())), values)
        }
        DataType::Fp32 => {
            let values = [0.0, 1.0, 100.0, f32::MIN_POSITIVE];
            (concat(values.map(f32::to_le_bytes)), values)
        }
        DataType::Fp64 => {
            let values = [0.0, 1.0, 100.0, -0.1];
            (concat(values.map(f64::to_le_bytes)), values.map(|v| v as f32))
        }
        DataType::Bytes => (bytes_of(&[b"0", b"1", b"100", b"-1e5"]), [0.0, 1.0, 100.0, -1e5]),
    }
}

fn bytes_of(elements: &[&[u8]]) -> Vec<u8> {
    let framed = elements.iter().flat_map(|element| {
        let length = u32::try_from(element.len()).unwrap().to_le_bytes();
        [&length, *element].concat()
    });
    framed.collect()
}

#[test]
fn every_datatype_is_read_as_meant_and_comes_back_to_the_bit() {
    for datatype in DataType::ALL {
        let mut model = identity_and_cast(datatype, &[Size::Symbol("N"), Size::Fixed(2)]);
        assert_eq!(model.inputs[0].datatype, datatype);
        let (data, expected) = values_of(datatype);
        let input = Tensor::new(datatype, [2, 2].into(), data.into()).unwrap();
        let outputs = model.session.execute(std::slice::from_ref(&input)).unwrap();
        assert_eq!(outputs[0], input, "{datatype}");
        assert_eq!(outputs[1], Tensor::from_f32([2, 2].into(), &expected).unwrap(), "{datatype}");
    }
}

#[test]
fn bytes_may_lie_anywhere_in_memory() {
    for datatype in DataType::ALL {
        let mut model = identity_and_cast(datatype, &[Size::Symbol("N")]);
        let (data, expected) = values_of(datatype);
        let expected = Tensor::from_f32([4].into(), &expected).unwrap();
        for offset in 0..9 {
            let mut shifted = vec![0xee; offset];
            shifted.extend_from_slice(&data);
            let data = Bytes::from(shifted).slice(offset..);
            let input = Tensor::new(datatype, [4].into(), data).unwrap();
            let outputs = model.session.execute(std::slice::from_ref(&input)).unwrap();
            assert_eq!(outputs[1], expected, "{datatype} at {offset}");
        }
    }
}

#[test]
fn scalars_and_tensors_without_elements_pass() {
    for datatype in DataType::ALL {
        let mut scalar = identity_and_cast(datatype, &[]);
        let (data, _) = values_of(datatype);
        let one = match datatype.element_size() {
            Some(size) => data[..size].to_vec(),
            None => bytes_of(&[b"0"]),
        };
        let input = Tensor::new(datatype, Shape::default(), one.into()).unwrap();
        let outputs = scalar.session.execute(std::slice::from_ref(&input)).unwrap();
        assert_eq!(outputs[0], input, "{datatype}");
        assert_eq!(outputs[1], Tensor::from_f32(Shape::default(), &[0.0]).unwrap());

        let mut rows = identity_and_cast(datatype, &[Size::Symbol("N"), Size::Fixed(3)]);
        let none = Tensor::new(datatype, [0, 3].into(), Bytes::new()).unwrap();
        let outputs = rows.session.execute(std::slice::from_ref(&none)).unwrap();
        assert_eq!(outputs[0], none, "{datatype}");
        assert_eq!(outputs[1], Tensor::from_f32([0, 3].into(), &[]).unwrap());
    }
}

#[test]
fn strings_may_hold_any_bytes() {
    let kind = onnx::element(DataType::Bytes);
    let shape = [Size::Unknown];
    let mut model = load_bytes(&onnx::model(
        &[onnx::node("Identity", &["x"], &["y"])],
        &[("x", onnx::tensor(kind, &shape))],
        &[("y", onnx::tensor(kind, &shape))],
    ));
    let long = vec![b'x'; 100_000];
    let elements: &[&[u8]] = &[b"", b"a\0b", b"\xff\xfe not UTF-8", "ü".as_bytes(), &long, b""];
    let shape = [elements.len() as u64].into();
    let input = Tensor::new(DataType::Bytes, shape, bytes_of(elements).into()).unwrap();
    let outputs = model.session.execute(std::slice::from_ref(&input)).unwrap();
    assert_eq!(outputs, [input]);
}

#[test]
fn any_boolean_byte_but_zero_is_true() {
    let mut model = identity_and_cast(DataType::Bool, &[Size::Symbol("N")]);
    let data = Bytes::from_static(&[0, 1, 2, 255]);
    let input = Tensor::new(DataType::Bool, [4].into(), data).unwrap();
    let outputs = model.session.execute(&[input]).unwrap();
    assert_eq!(outputs[0].data()[..], [0, 1, 1, 1]);
    assert_eq!(outputs[1].to_f32().unwrap(), [0.0, 1.0, 1.0, 1.0]);
}
