//! The numbers that inputs are filled with.

use std::io::Write;

use fastrand::Rng;
use half::{bf16, f16};
use inferring_types::DataType;

/// Draws the elements of one input.
pub(super) struct Values {
    datatype: DataType,
    /// Numbers are drawn from so many whole ones, from 0 on; all are the constant where absent.
    count: Option<u32>,
    /// What a drawn number is divided by, or the constant itself.
    number: f64,
}

impl Values {
    /// Elements that differ.
    ///
    /// Floats are in [0, 1) with as many binary digits as the datatype holds exactly, so that
    /// inputs which differ as text differ as tensors. Integers fit the smallest datatype, and
    /// most vocabularies.
    pub(super) fn random(datatype: DataType) -> Self {
        let digits = match datatype {
            DataType::Fp32 | DataType::Fp64 => 24,
            DataType::Fp16 => 11,
            DataType::Bf16 => 8,
            _ => 7,
        };
        let count = 1 << digits;
        let divisor = if is_float(datatype) { f64::from(count) } else { 1.0 };
        Self { datatype, count: Some(count), number: divisor }
    }

    /// Elements that are all this number.
    pub(super) fn constant(datatype: DataType, number: f64) -> Self {
        Self { datatype, count: None, number }
    }

    /// How many tensors of so many elements there are.
    pub(super) fn different(&self, elements: u64) -> u64 {
        let exponent = u32::try_from(elements).unwrap_or(u32::MAX);
        self.count.map_or(1, |count| u64::from(count).saturating_pow(exponent))
    }

    /// Writes the next element as JSON has it.
    pub(super) fn write_text(&self, out: &mut Vec<u8>, rng: &mut Rng) {
        let number = self.draw(rng);
        let mut text = ryu::Buffer::new();
        match self.datatype {
            DataType::Fp64 => out.extend_from_slice(text.format_finite(number).as_bytes()),
            datatype if is_float(datatype) => {
                out.extend_from_slice(text.format_finite(number as f32).as_bytes());
            }
            _ => write!(out, "{number:.0}").expect("writing to memory does not fail"),
        }
    }

    /// Writes the next element as a tensor has it.
    pub(super) fn write_bytes(&self, out: &mut Vec<u8>, rng: &mut Rng) {
        let number = self.draw(rng);
        match self.datatype {
            DataType::Fp64 => out.extend_from_slice(&number.to_le_bytes()),
            DataType::Fp32 => out.extend_from_slice(&(number as f32).to_le_bytes()),
            DataType::Fp16 => out.extend_from_slice(&f16::from_f64(number).to_le_bytes()),
            DataType::Bf16 => out.extend_from_slice(&bf16::from_f64(number).to_le_bytes()),
            integer => {
                let size = integer.element_size().expect("checked to be numeric");
                // Two's complement: the lower bytes of a number are the number in less bytes.
                out.extend_from_slice(&(number as i64).to_le_bytes()[..size]);
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> f64 {
        match self.count {
            Some(count) => f64::from(rng.u32(..count)) / self.number,
            None => self.number,
        }
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp64 | DataType::Fp32 | DataType::Fp16 | DataType::Bf16)
}
