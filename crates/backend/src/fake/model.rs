//! What a fake model computes.

use std::fmt;
use std::sync::Arc;

use inferring_types::{DataType, Dimension, Shape, ShapeSpec, Tensor, TensorSpec};

use crate::ExecuteError;

/// A function of tensors.
pub(super) type Function = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, ExecuteError> + Send + Sync;

/// Whether one row's answer depends on the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Influence {
    Independent,
    Mixed,
}

/// A function with the inputs that it takes and the outputs that it gives.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) function: Arc<Function>,
    pub(super) influence: Influence,
}

impl Model {
    pub(super) fn new(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        function: Arc<Function>,
    ) -> Self {
        Self { inputs, outputs, function, influence: Influence::Independent }
    }

    /// `y[j] = 2 x[j] + sum(x)`, for each row or over all.
    pub(super) fn sums(shape: ShapeSpec, influence: Influence) -> Self {
        let (input, output) = (float("input", shape.clone()), float("output", shape));
        let function = move |inputs: &[Tensor]| Ok(vec![sums(&inputs[0], influence)]);
        Self { influence, ..Self::new(vec![input], vec![output], Arc::new(function)) }
    }

    /// Input, state and scale to output and next state.
    pub(super) fn recurrent() -> Self {
        let rows = || Dimension::Dynamic(Some("N".to_owned()));
        let row = ShapeSpec::new([rows(), Dimension::Fixed(4)]);
        let state = ShapeSpec::new([Dimension::Fixed(2), rows(), Dimension::Fixed(3)]);
        let scale = TensorSpec {
            name: "scale".into(),
            datatype: DataType::Int64,
            shape: ShapeSpec::new([]),
        };
        Self::new(
            vec![float("input", row.clone()), float("state", state.clone()), scale],
            vec![float("output", row), float("next_state", state)],
            Arc::new(recur),
        )
    }

    /// Nothing to `[1, 2, 3, 4]`.
    pub(super) fn constant() -> Self {
        let shape = ShapeSpec::new([Dimension::Fixed(4)]);
        let function = |_: &[Tensor]| Ok(vec![floats([4], &[1.0, 2.0, 3.0, 4.0])]);
        Self::new(Vec::new(), vec![float("output", shape)], Arc::new(function))
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

fn float(name: &str, shape: ShapeSpec) -> TensorSpec {
    TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
}

fn floats(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.into(), values).expect("as many values as the shape has elements")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().expect("checked to be FP32")
}

fn sums(input: &Tensor, influence: Influence) -> Tensor {
    let values = values(input);
    let rows = input.shape().dimensions().first().copied().unwrap_or(1);
    let row_length = match influence {
        Influence::Independent => values.len() / usize::try_from(rows.max(1)).unwrap_or(1),
        Influence::Mixed => values.len(),
    };
    let answers = values.chunks(row_length.max(1)).flat_map(|row| {
        let sum = row.iter().sum::<f32>();
        row.iter().map(move |x| 2.0 * x + sum)
    });
    floats(input.shape().clone(), &answers.collect::<Vec<_>>())
}

fn recur(inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
    let [input, state, scale] = inputs else {
        return Err(ExecuteError(format!("expected three inputs, got {}", inputs.len())));
    };
    let (rows, states) = (values(input), values(state));
    let (rows, _) = rows.as_chunks::<4>();
    let (states, _) = states.as_chunks::<3>();
    if states.len() != 2 * rows.len() {
        return Err(ExecuteError("input and state differ in rows".to_owned()));
    }
    let scale = scale.data().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes)) as f32;
    let sums = rows.iter().map(|row| row.iter().sum::<f32>()).collect::<Vec<_>>();
    let outputs = rows.iter().enumerate().flat_map(|(n, row)| {
        let of_row = states[n].iter().chain(&states[rows.len() + n]).sum::<f32>();
        let added = sums[n] + of_row;
        row.iter().map(move |x| scale * (2.0 * x + added))
    });
    let outputs = outputs.collect::<Vec<_>>();
    let next = states.iter().zip(sums.iter().cycle());
    let next = next.flat_map(|(state, sum)| state.map(|s| s + sum)).collect::<Vec<_>>();
    Ok(vec![floats(input.shape().clone(), &outputs), floats(state.shape().clone(), &next)])
}
