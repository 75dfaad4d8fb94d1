//! Inputs that are made up to find out what a model does with them.

use half::{bf16, f16};
use inferring_types::{DataType, Dimension, Shape, Tensor, TensorSpec};

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

impl Pattern<'_> {
    /// One row of the input in that place, whose rows lie along `axis`; `None` for one that is
    /// too large.
    pub(super) fn generate(
        self,
        (place, spec): (usize, &TensorSpec),
        axis: Option<usize>,
        row: usize,
        domain: Domain,
        random: &mut fastrand::Rng,
    ) -> Option<Tensor> {
        let shape = match (self, axis) {
            (Self::Declared(free_size), _) => declared(spec, axis, free_size),
            (Self::Like(inputs), None) => return inputs.get(place).cloned(),
            (Self::Like(inputs), Some(axis)) => {
                rows::with_size(inputs.get(place)?.shape(), axis, 1)
            }
        };
        generate(spec, shape, row, domain, random)
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

fn generate(
    spec: &TensorSpec,
    shape: Shape,
    row: usize,
    domain: Domain,
    random: &mut fastrand::Rng,
) -> Option<Tensor> {
    let elements = shape.elements().filter(|&n| n <= ELEMENTS_MAX)?;
    let scale = [1.0, 10.0, 0.1, 3.0][row % 4];
    let mut float = || match domain {
        Domain::Wide => (random.f64() * 2.0 - 1.0) * scale,
        Domain::Narrow => random.f64(),
    };
    let bytes = |element: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut data = Vec::new();
        (0..elements).for_each(|_| element(&mut data));
        data
    };
    let data = match spec.datatype {
        DataType::Fp32 => bytes(&mut |data| data.extend((float() as f32).to_le_bytes())),
        DataType::Fp64 => bytes(&mut |data| data.extend(float().to_le_bytes())),
        DataType::Fp16 => bytes(&mut |data| data.extend(f16::from_f64(float()).to_le_bytes())),
        DataType::Bf16 => bytes(&mut |data| data.extend(bf16::from_f64(float()).to_le_bytes())),
        DataType::Bool => bytes(&mut |data| data.push(random.u8(0..2))),
        DataType::Bytes => {
            let below = match domain {
                Domain::Wide => 26 * 26,
                Domain::Narrow => 2,
            };
            bytes(&mut |data| text(random.u16(0..below), data))
        }
        integer => {
            let size = integer.element_size().expect("strings were handled above");
            let below = match domain {
                Domain::Wide => 100,
                Domain::Narrow => 2,
            };
            bytes(&mut |data| data.extend(&random.u64(0..below).to_le_bytes()[..size]))
        }
    };
    Some(Tensor::new(spec.datatype, shape, data.into()).expect("generated to fit"))
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
