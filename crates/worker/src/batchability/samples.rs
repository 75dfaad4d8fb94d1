//! Inputs that are made up to find out what a model does with them.

use half::{bf16, f16};
use inferring_types::{DataType, Dimension, Shape, Tensor, TensorSpec};

/// Larger inputs are not made up: several rows of them are held at once.
const ELEMENTS_MAX: u64 = 16 << 20;

/// What numbers are generated.
#[derive(Clone, Copy)]
pub(super) enum Domain {
    /// Floats of both signs and of scales that differ between rows; integers below 100.
    Wide,
    /// Floats from 0 to 1; integers 0 and 1. For models that index or take logarithms.
    Narrow,
}

/// One row of an input, or `None` for a datatype that is not generated.
pub(super) fn generate(
    spec: &TensorSpec,
    free_size: u64,
    row: usize,
    domain: Domain,
    random: &mut fastrand::Rng,
) -> Option<Tensor> {
    let dimensions = spec.shape.dimensions().iter().enumerate();
    let shape = Shape::new(dimensions.map(|(index, dimension)| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Dynamic(_) if index == 0 => 1,
        Dimension::Dynamic(_) => free_size,
    }));
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
        DataType::Bytes => return None,
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
