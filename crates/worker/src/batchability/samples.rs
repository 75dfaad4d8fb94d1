//! Inputs that are made up to find out what a model does with them.

use half::{bf16, f16};
use inferring_types::{DataType, Dimension, Shape, Tensor, TensorSpec};

use crate::assembly::PaddedInput;
use crate::rows;

/// Larger inputs are not made up: several rows of them are held at once.
const ELEMENTS_MAX: u64 = 16 << 20;

/// What numbers are generated.
#[derive(Clone, Copy)]
pub(super) enum Domain {
    /// Floats of both signs and of scales that differ between rows; integers below 100; texts of
    /// two letters.
    Wide,
    /// Floats from 0 to 1; integers 0 and 1, as texts as well. For models that index or take
    /// logarithms, and for texts that are read as numbers.
    Narrow,
}

/// What the tensors that are made up look like.
#[derive(Clone, Copy)]
pub(super) enum Pattern<'a> {
    /// As declared; dimensions left open that are not rows have this size.
    Declared(u64),
    /// Like these inputs, of which those without rows are taken as they are.
    Like(&'a [Tensor]),
}

/// An input that is made up.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Which of the model's inputs it is.
    pub(super) place: usize,
    pub(super) spec: &'a TensorSpec,
    /// Along which its rows lie.
    pub(super) rows: Option<usize>,
    /// How it is filled up, and how long it is to be. It has no element that looks as if it were
    /// filled up: whoever sends a mask sends no row that is masked out as a whole.
    pub(super) padded: Option<(&'a PaddedInput, u64)>,
}

impl Pattern<'_> {
    /// One row of the input; `None` for one that is too large.
    pub(super) fn generate(
        self,
        wanted: Wanted<'_>,
        row: usize,
        domain: Domain,
        random: &mut fastrand::Rng,
    ) -> Option<Tensor> {
        let shape = match (self, wanted.rows) {
            (Self::Declared(free_size), rows) => declared(wanted.spec, rows, free_size),
            (Self::Like(inputs), None) => return inputs.get(wanted.place).cloned(),
            (Self::Like(inputs), Some(rows)) => {
                rows::with_size(inputs.get(wanted.place)?.shape(), rows, 1)
            }
        };
        match wanted.padded {
            None => generate(wanted.spec, shape, &[], row, domain, random),
            Some((padded, length)) => {
                let shape = rows::with_size(&shape, padded.axis, length);
                generate(wanted.spec, shape, &padded.element, row, domain, random)
            }
        }
    }
}

fn declared(spec: &TensorSpec, axis: Option<usize>, free_size: u64) -> Shape {
    let dimensions = spec.shape.dimensions().iter().enumerate();
    Shape::new(dimensions.map(|(index, dimension)| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Dynamic(_) if Some(index) == axis => 1,
        Dimension::Dynamic(_) => free_size,
    }))
}

/// A tensor without the element `never`.
fn generate(
    spec: &TensorSpec,
    shape: Shape,
    never: &[u8],
    row: usize,
    domain: Domain,
    random: &mut fastrand::Rng,
) -> Option<Tensor> {
    let elements = shape.elements().filter(|&n| n <= ELEMENTS_MAX)?;
    let mut data = Vec::new();
    for _ in 0..elements {
        let begin = data.len();
        element(spec.datatype, row, domain, random, &mut data);
        while data[begin..] == *never {
            data.truncate(begin);
            element(spec.datatype, row, domain, random, &mut data);
        }
    }
    Some(Tensor::new(spec.datatype, shape, data.into()).expect("generated to fit"))
}

/// Appends a random element, which is one of several.
fn element(
    datatype: DataType,
    row: usize,
    domain: Domain,
    random: &mut fastrand::Rng,
    data: &mut Vec<u8>,
) {
    let scale = [1.0, 10.0, 0.1, 3.0][row % 4];
    let mut float = || match domain {
        Domain::Wide => (random.f64() * 2.0 - 1.0) * scale,
        Domain::Narrow => random.f64(),
    };
    match datatype {
        DataType::Fp32 => data.extend((float() as f32).to_le_bytes()),
        DataType::Fp64 => data.extend(float().to_le_bytes()),
        DataType::Fp16 => data.extend(f16::from_f64(float()).to_le_bytes()),
        DataType::Bf16 => data.extend(bf16::from_f64(float()).to_le_bytes()),
        DataType::Bool => data.push(random.u8(0..2)),
        DataType::Bytes => {
            let below = match domain {
                Domain::Wide => 26 * 26,
                Domain::Narrow => 2,
            };
            text(random.u16(0..below), data);
        }
        integer => {
            let size = integer.element_size().expect("strings were handled above");
            let below = match domain {
                Domain::Wide => 100,
                Domain::Narrow => 2,
            };
            data.extend(&random.u64(0..below).to_le_bytes()[..size]);
        }
    }
}

/// An element of BYTES: the digit of a number below 2, or two letters that stand for it.
fn text(number: u16, data: &mut Vec<u8>) {
    let letter = |number: u16| b'a' + u8::try_from(number % 26).expect("below 26");
    let text = match number {
        0 | 1 => vec![b'0' + u8::try_from(number).expect("below 2")],
        _ => vec![letter(number / 26), letter(number)],
    };
    data.extend(u32::try_from(text.len()).expect("one or two").to_le_bytes());
    data.extend(text);
}
