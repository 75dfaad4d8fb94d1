//! Which inputs may differ in length between requests that share a run, and what fills them up.
//!
//! The settings of a model name them: nothing in a model file tells that a dimension is a length,
//! and what to put behind its end.

use inferring_types::Tensor;

/// What is done about lengths that differ; by default nothing, and only requests of equal
/// lengths share runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Padding {
    /// For each input in declared order how it is filled up, if it is; empty where none is.
    pub(crate) inputs: Vec<Option<PaddedInput>>,
    /// For each output in declared order the axis along which it is as long as the inputs, if
    /// there is one; empty where no input is filled up.
    pub(crate) outputs: Vec<Option<usize>>,
}

/// How an input is filled up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PaddedInput {
    /// The axis along which lengths differ.
    pub(crate) axis: usize,
    /// The bytes of the element that is put behind the end.
    pub(crate) element: Vec<u8>,
}

impl Padding {
    /// Only requests of equal lengths share runs.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Whether requests that differ in length may share a run.
    pub(crate) fn is_any(&self) -> bool {
        self.inputs.iter().any(Option::is_some)
    }

    /// How the input in that place is filled up, if it is.
    pub(crate) fn of_input(&self, place: usize) -> Option<&PaddedInput> {
        self.inputs.get(place)?.as_ref()
    }

    /// The axis along which the output in that place is as long as the inputs, if there is one.
    pub(crate) fn of_output(&self, place: usize) -> Option<usize> {
        *self.outputs.get(place)?
    }

    /// The length of these inputs: that of the first of those that may be filled up, for they
    /// are equally long. 0 where there are none.
    pub(crate) fn length(&self, inputs: &[Tensor]) -> u64 {
        let mut inputs = inputs.iter().zip(&self.inputs);
        let length = inputs.find_map(|(input, padded)| padded.as_ref()?.length(input));
        length.unwrap_or_default()
    }
}

impl PaddedInput {
    /// The length of a tensor for this input; `None` where it has no such axis.
    pub(crate) fn length(&self, tensor: &Tensor) -> Option<u64> {
        tensor.shape().dimensions().get(self.axis).copied()
    }
}
