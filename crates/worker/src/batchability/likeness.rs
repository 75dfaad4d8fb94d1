//! Whether two answers are the same but for rounding.

use half::{bf16, f16};
use inferring_types::{DataType, Tensor};

/// Whether two answers are the same, up to the rounding that a different blocking of the same
/// sums may cause.
pub(super) fn alike(one: &Tensor, other: &Tensor) -> bool {
    if one.shape() != other.shape() || one.datatype() != other.datatype() {
        return false;
    }
    let (a, b) = (&one.data()[..], &other.data()[..]);
    match one.datatype() {
        DataType::Fp32 => close(a, b, 1e-4, |bytes| f64::from(f32::from_le_bytes(bytes))),
        DataType::Fp64 => close(a, b, 1e-9, f64::from_le_bytes),
        DataType::Fp16 => close(a, b, 1e-2, |bytes| f16::from_le_bytes(bytes).to_f64()),
        DataType::Bf16 => close(a, b, 5e-2, |bytes| bf16::from_le_bytes(bytes).to_f64()),
        _ => a == b,
    }
}

/// Whether floats agree within `tolerance` of the row's largest magnitude.
fn close<const N: usize>(
    one: &[u8],
    other: &[u8],
    tolerance: f64,
    value: impl Fn([u8; N]) -> f64,
) -> bool {
    let values =
        |data: &[u8]| data.as_chunks::<N>().0.iter().map(|&b| value(b)).collect::<Vec<_>>();
    let (one, other) = (values(one), values(other));
    let finite = one.iter().filter(|value| value.is_finite());
    let scale = finite.fold(0.0f64, |scale, value| scale.max(value.abs()));
    one.iter()
        .zip(&other)
        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale)
}
