//! Proves, when a model is loaded, whether rows of different requests may share a run.
//!
//! A dynamic first dimension alone proves nothing: it may be time, or the model may subtract
//! the mean over it. So rows are generated, run apart and run together in several orders and
//! numbers, and every answer must be the same. Where that cannot be shown, every request runs
//! alone, which is slower and never wrong.

mod samples;

use std::time::{Duration, Instant};

use half::{bf16, f16};
use inferring_backend::{ExecuteError, Session};
use inferring_types::{Batching, DataType, Dimension, RowAxes, Tensor, TensorSpec};

use crate::rows;
use samples::Domain;

/// What was found out about a model.
#[derive(Debug)]
pub struct Proof {
    /// Whether rows may share a run, and how that is known.
    pub batching: Batching,
    /// One row of inputs that the model ran, where any was found.
    pub known_good: Option<Vec<Tensor>>,
}

/// Runs a model on generated rows and compares rows apart with rows together.
pub fn prove(session: &mut dyn Session, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Proof {
    if let Some(reason) = obstacle(inputs, outputs) {
        return alone(reason, session, inputs);
    }
    let samples = match Samples::find(session, inputs, ROWS) {
        Ok(samples) => samples,
        Err(error) => {
            let reason =
                format!("not proved: the model ran none of the generated inputs ({error})");
            return Proof { batching: Batching::Alone { reason }, known_good: None };
        }
    };
    let batching = match samples.compare(session) {
        Ok(()) => Batching::Rows {
            reason: "proved at load: rows together gave the same answers as rows apart".into(),
            axes: RowAxes::first(inputs.len(), outputs.len()),
        },
        Err(reason) => Batching::Alone { reason },
    };
    Proof { batching, known_good: samples.rows.into_iter().next() }
}

/// What holds for a model whose rows may share a run by declaration: they do unless the model's
/// own declared shapes make it impossible.
pub(crate) fn declared_rows(
    session: &mut dyn Session,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Proof {
    match first_dimension_not_dynamic(inputs, outputs) {
        Some(reason) => alone(reason, session, inputs),
        None => Proof {
            batching: Batching::Rows {
                reason: DECLARED.to_owned(),
                axes: RowAxes::first(inputs.len(), outputs.len()),
            },
            known_good: known_good(session, inputs),
        },
    }
}

/// What holds for a model whose requests run alone by declaration.
pub(crate) fn declared_alone(session: &mut dyn Session, inputs: &[TensorSpec]) -> Proof {
    alone(DECLARED.to_owned(), session, inputs)
}

const DECLARED: &str = "declared in the configuration";

fn alone(reason: String, session: &mut dyn Session, inputs: &[TensorSpec]) -> Proof {
    Proof { batching: Batching::Alone { reason }, known_good: known_good(session, inputs) }
}

fn known_good(session: &mut dyn Session, inputs: &[TensorSpec]) -> Option<Row> {
    Samples::find(session, inputs, 1).ok()?.rows.pop()
}

/// Why what the model declares speaks against joining, if it does.
fn obstacle(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Option<String> {
    first_dimension_not_dynamic(inputs, outputs).or_else(|| first_dimensions_differ(inputs))
}

fn first_dimension_not_dynamic(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Option<String> {
    let spec = inputs.iter().chain(outputs).find(|spec| !spec.shape.first_is_dynamic())?;
    Some(format!("`{}` has shape {}: its first dimension is not dynamic", spec.name, spec.shape))
}

/// Requests that share runs must have equally many rows in all inputs, so a model that says
/// that its inputs may differ there must not be held to that.
fn first_dimensions_differ(inputs: &[TensorSpec]) -> Option<String> {
    let mut named = inputs.iter().filter_map(|spec| match spec.shape.dimensions().first() {
        Some(Dimension::Dynamic(Some(symbol))) => Some((spec, symbol)),
        _ => None,
    });
    let (first, symbol) = named.next()?;
    let (other, _) = named.find(|(_, other)| *other != symbol)?;
    Some(format!(
        "`{}` has shape {} and `{}` {}: their first dimensions may differ",
        first.name, first.shape, other.name, other.shape,
    ))
}

/// One input tensor for each input, or one output tensor for each output.
type Row = Vec<Tensor>;

/// Rows that are compared.
const ROWS: usize = 4;

/// Sizes tried for dynamic dimensions other than the first.
const FREE_SIZES: [u64; 4] = [8, 32, 64, 224];

/// Rows that the model runs one by one, and its answers to them.
struct Samples {
    rows: Vec<Row>,
    answers: Vec<Row>,
    /// How long the fastest of these runs took.
    fastest: Duration,
}

impl Samples {
    /// Generates `count` rows. If it can be, the answers to them differ.
    fn find(
        session: &mut dyn Session,
        inputs: &[TensorSpec],
        count: usize,
    ) -> Result<Self, ExecuteError> {
        let any_free = inputs.iter().any(|spec| {
            spec.shape.dimensions().iter().skip(1).any(|dimension| dimension.fixed().is_none())
        });
        let sizes = if any_free { &FREE_SIZES[..] } else { &FREE_SIZES[..1] };
        let mut found = Err(ExecuteError("no input could be generated".to_owned()));
        for &size in sizes {
            for domain in [Domain::Wide, Domain::Narrow] {
                let mut random = fastrand::Rng::with_seed(0x1f_e221);
                let rows = (0..count).map(|row| {
                    let inputs = inputs.iter();
                    inputs.map(|s| samples::generate(s, size, row, domain, &mut random)).collect()
                });
                let Some(rows) = rows.collect::<Option<Vec<Row>>>() else {
                    return found;
                };
                match Self::run(session, rows) {
                    Ok(samples) if samples.tell_rows_apart() || count == 1 => return Ok(samples),
                    Ok(samples) => found = Ok(samples),
                    Err(error) if found.is_err() => found = Err(error),
                    Err(_) => {}
                }
            }
        }
        found
    }

    fn run(session: &mut dyn Session, rows: Vec<Row>) -> Result<Self, ExecuteError> {
        let mut fastest = Duration::MAX;
        let mut run = |row: &Row| {
            let started = Instant::now();
            let answer = session.execute(row);
            fastest = fastest.min(started.elapsed());
            answer
        };
        let answers = rows.iter().map(&mut run).collect::<Result<_, _>>()?;
        Ok(Self { rows, answers, fastest })
    }

    /// Whether the answers to the rows differ: equal ones could not show whose answer is whose.
    fn tell_rows_apart(&self) -> bool {
        self.answers.iter().any(|answer| *answer != self.answers[0])
    }

    /// Holds several joint runs against the rows' own answers.
    fn compare(&self, session: &mut dyn Session) -> Result<(), String> {
        if !self.tell_rows_apart() {
            return Err("not proved: the answers to different generated inputs were equal".into());
        }
        for order in self.orders() {
            let joint: Row = (0..self.rows[0].len())
                .map(|input| rows::join(order.iter().map(|&row| &self.rows[row][input])))
                .collect();
            let together = session
                .execute(&joint)
                .map_err(|error| format!("not proved: rows together failed to run ({error})"))?;
            for (output, joint) in together.iter().enumerate() {
                let parts = rows::split(joint, &vec![1; order.len()]);
                let apart = order.iter().map(|&row| &self.answers[row][output]);
                if !parts.is_some_and(|parts| parts.iter().zip(apart).all(|(a, b)| alike(a, b))) {
                    return Err("rows influence each other: together they gave other answers \
                                than apart"
                        .into());
                }
            }
        }
        Ok(())
    }

    /// Which rows run together: all in order, all in another order, and fewer, so that
    /// neighbours, places and numbers all change. Where runs are quick and rows small, also as
    /// many as a large batch has: rows of a series may reach further than to the next ones.
    fn orders(&self) -> Vec<Vec<usize>> {
        const PATIENCE: Duration = Duration::from_millis(250);
        const MANY: u32 = 64;
        const BYTES_MAX: usize = 16 << 20;
        let mut orders = vec![vec![0, 1, 2, 3], vec![2, 0, 3, 1], vec![3, 2]];
        let row_bytes: usize = self.rows[0].iter().map(|input| input.data().len()).sum();
        if self.fastest * MANY <= PATIENCE && row_bytes * MANY as usize <= BYTES_MAX {
            let mut random = fastrand::Rng::with_seed(0x0dd_ba11);
            orders.push((0..MANY).map(|_| random.usize(..ROWS)).collect());
        }
        orders
    }
}

/// Whether two answers are the same, up to the rounding that a different blocking of the same
/// sums may cause.
fn alike(one: &Tensor, other: &Tensor) -> bool {
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
