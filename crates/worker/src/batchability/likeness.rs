//! Whether two answers are the same but for rounding.

use half::{bf16, f16};
use inferring_types::{DataType, Tensor};

/// Whether two answers are the same, up to the rounding that a different blocking of the same
/// sums may cause.
pub(super) fn alike(one: &Tensor, other: &Tensor) -> bool {
    if one.shape() != other.shape() || one.datatype() != other.datatype() {
        return false;
    }
    match (floats(one), floats(other)) {
        (Some(a), Some(b)) => close(&a, &b, tolerance(one.datatype())),
        _ => one.data() == other.data(),
    }
}

/// Whether two answers differ in what they say: where nothing is a number, nothing is said.
pub(super) fn differ(one: &Tensor, other: &Tensor) -> bool {
    match (floats(one), floats(other)) {
        (Some(a), Some(b)) => a.iter().chain(&b).any(|value| value.is_finite()) && one != other,
        _ => one != other,
    }
}

/// The values of a tensor of floats.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    fn values<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
    }
    let data = tensor.data();
    Some(match tensor.datatype() {
        DataType::Fp32 => values(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
        DataType::Fp64 => values(data, f64::from_le_bytes),
        DataType::Fp16 => values(data, |bytes| f16::from_le_bytes(bytes).to_f64()),
        DataType::Bf16 => values(data, |bytes| bf16::from_le_bytes(bytes).to_f64()),
        _ => return None,
    })
}

/// What rounding may do to floats of that type, as a part of a row's largest magnitude.
fn tolerance(datatype: DataType) -> f64 {
    match datatype {
        DataType::Fp64 => 1e-9,
        DataType::Fp16 => 1e-2,
        DataType::Bf16 => 5e-2,
        _ => 1e-4,
    }
}

/// Whether floats agree within `tolerance` of the row's largest magnitude.
fn close(one: &[f64], other: &[f64], tolerance: f64) -> bool {
    let finite = one.iter().filter(|value| value.is_finite());
    let scale = finite.fold(0.0f64, |scale, value| scale.max(value.abs()));
    one.iter()
        .zip(other)
        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale)
}
