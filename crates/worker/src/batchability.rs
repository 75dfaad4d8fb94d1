//! Proves, when a model is loaded, whether rows of different requests may share a run.
//!
//! A dynamic first dimension alone proves nothing: it may be time, or the model may subtract
//! the mean over it. So rows are generated, run apart and run together in several orders, and
//! every answer must be the same. Where that cannot be shown, every request runs alone, which is
//! slower and never wrong.

use half::{bf16, f16};
use inferring_backend::{ExecuteError, Session};
use inferring_types::{Batching, DataType, Dimension, Shape, Tensor, TensorSpec};

use crate::rows;

/// What was found out about a model.
#[derive(Debug)]
pub struct Proof {
    /// Whether rows may share a run, and how that is known.
    pub batching: Batching,
    /// One row of inputs that the model ran, where any was found.
    pub known_good: Option<Vec<Tensor>>,
}

/// Rows that are compared.
const ROWS: usize = 4;

/// Sizes tried for dynamic dimensions other than the first.
const FREE_SIZES: [u64; 4] = [8, 32, 64, 224];

/// Runs a model on generated rows and compares rows apart with rows together.
pub fn prove(session: &mut dyn Session, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Proof {
    let rejection = inputs.iter().chain(outputs).find_map(obstacle);
    let (rows, apart) = match find_rows(session, inputs) {
        Ok(found) => found,
        Err(error) => {
            let reason = rejection.unwrap_or_else(|| {
                format!("not proved: the model ran none of the generated inputs ({error})")
            });
            return Proof { batching: Batching::Alone { reason }, known_good: None };
        }
    };
    let batching = match rejection {
        Some(reason) => Batching::Alone { reason },
        None => match compare(session, &rows, &apart) {
            Ok(()) => Batching::Rows {
                reason: "proved at load: rows together gave the same answers as rows apart".into(),
            },
            Err(reason) => Batching::Alone { reason },
        },
    };
    Proof { batching, known_good: rows.into_iter().next() }
}

/// Why a declared shape rules joining out, if it does.
fn obstacle(spec: &TensorSpec) -> Option<String> {
    if spec.shape.first_is_dynamic() {
        return None;
    }
    Some(format!("`{}` has shape {}: its first dimension is not dynamic", spec.name, spec.shape))
}

type Row = Vec<Tensor>;

/// Rows that the model runs one by one, and its answers to them.
fn find_rows(
    session: &mut dyn Session,
    inputs: &[TensorSpec],
) -> Result<(Vec<Row>, Vec<Vec<Tensor>>), ExecuteError> {
    let any_free = inputs.iter().any(|spec| {
        spec.shape.dimensions().iter().skip(1).any(|dimension| dimension.fixed().is_none())
    });
    let sizes = if any_free { &FREE_SIZES[..] } else { &FREE_SIZES[..1] };
    let mut last_error = ExecuteError("no input could be generated".to_owned());
    for &size in sizes {
        for domain in [Domain::Wide, Domain::Narrow] {
            let mut random = fastrand::Rng::with_seed(0x1f_e221);
            let rows = (0..ROWS).map(|row| {
                inputs.iter().map(|spec| generate(spec, size, row, domain, &mut random)).collect()
            });
            let Some(rows) = rows.collect::<Option<Vec<Row>>>() else {
                return Err(last_error);
            };
            match rows.iter().map(|row| session.execute(row)).collect() {
                Ok(answers) => return Ok((rows, answers)),
                Err(error) => last_error = error,
            }
        }
    }
    Err(last_error)
}

/// Holds several joint runs against the rows' own answers.
fn compare(
    session: &mut dyn Session,
    samples: &[Row],
    apart: &[Vec<Tensor>],
) -> Result<(), String> {
    if apart.iter().all(|answer| *answer == apart[0]) {
        return Err("not proved: the answers to different generated inputs were equal".into());
    }
    // All in order, all in another order, and fewer: neighbours, places and sizes all change.
    for order in [&[0, 1, 2, 3][..], &[2, 0, 3, 1], &[3, 2]] {
        let joint: Row = (0..samples[0].len())
            .map(|input| rows::join(order.iter().map(|&row| &samples[row][input])))
            .collect();
        let together = session
            .execute(&joint)
            .map_err(|error| format!("not proved: rows together failed to run ({error})"))?;
        for (place, &row) in order.iter().enumerate() {
            for (joint, alone) in together.iter().zip(&apart[row]) {
                if !row_equals(joint, place, order.len(), alone) {
                    return Err(
                        "rows influence each other: together they gave other answers than apart"
                            .into(),
                    );
                }
            }
        }
    }
    Ok(())
}

/// What numbers are generated.
#[derive(Clone, Copy)]
enum Domain {
    /// Floats of both signs and of scales that differ between rows; integers below 100.
    Wide,
    /// Floats from 0 to 1; integers 0 and 1. For models that index or take logarithms.
    Narrow,
}

/// One row of an input, or `None` for a datatype that is not generated.
fn generate(
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
    let elements = shape.elements().filter(|&n| n <= 64 << 20)?;
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

/// Whether row `place` of `rows` in `joint` is the lone row `alone`, up to the rounding that a
/// different blocking of the same sums may cause.
fn row_equals(joint: &Tensor, place: usize, rows: usize, alone: &Tensor) -> bool {
    let joint_shape = alone.shape().with_first(rows as u64);
    let one_row = alone.shape().dimensions().first() == Some(&1);
    if !one_row || joint_shape.as_ref() != Some(joint.shape()) {
        return false;
    }
    if joint.datatype() == DataType::Bytes {
        // Strings have no fixed place; joint answers that hold the lone one's bytes in place
        // could only be cut out by reading them all. Such models run alone.
        return false;
    }
    let length = alone.data().len();
    let part = &joint.data()[place * length..(place + 1) * length];
    match alone.datatype() {
        DataType::Fp32 => close(alone.data(), part, 1e-4, |b| f64::from(f32::from_le_bytes(b))),
        DataType::Fp64 => close(alone.data(), part, 1e-9, f64::from_le_bytes),
        DataType::Fp16 => close(alone.data(), part, 1e-2, |b| f16::from_le_bytes(b).to_f64()),
        DataType::Bf16 => close(alone.data(), part, 5e-2, |b| bf16::from_le_bytes(b).to_f64()),
        _ => alone.data()[..] == *part,
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
