//! A model with state, whose every answer tells what it has heard so far.

use inferring_types::{Deadline, InferRequest, NamedTensor, RequestId, SequenceStep, Tensor};

/// What the model keeps of a sequence's row: a sum over all that it has heard, in which the order
/// counts, and how much that was. Whole numbers, which FP32 holds exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sum(pub(crate) [f32; Sum::WIDTH]);

impl Sum {
    /// The model's name.
    pub(crate) const MODEL: &str = "sums";

    /// The numbers of a row of state, and of an answer.
    pub(crate) const WIDTH: usize = 2;

    /// How it is served.
    pub(crate) const CONFIG: &str = "[[sequences.state]]\ninput = \"state\"\noutput = \"next\"\n";

    /// Of nothing.
    pub(crate) const ZERO: Self = Self([0.0; Self::WIDTH]);

    /// What this version of the model makes of one number more.
    pub(crate) fn and(self, number: f32, version: u64) -> Self {
        let Self([sum, count]) = self;
        Self([(sum * 31.0 + number + version as f32).rem_euclid(65_521.0), count + 1.0])
    }

    /// A step that brings these numbers, one for each row.
    pub(crate) fn request(
        id: RequestId,
        step: SequenceStep,
        numbers: &[f32],
        deadline: Deadline,
    ) -> InferRequest {
        let tensor = Tensor::from_f32([numbers.len() as u64, 1].into(), numbers);
        let tensor = tensor.expect("as many as the shape says");
        let inputs = vec![NamedTensor::new("input".into(), tensor)];
        let mut request = InferRequest::new(Self::MODEL.parse().expect("a name"), inputs, deadline);
        (request.id, request.sequence) = (id, Some(step));
        request
    }

    /// Whether these are the outputs of a step that ends in these sums.
    pub(crate) fn are_told_by(sums: &[Self], outputs: &[NamedTensor]) -> bool {
        let expected: Vec<f32> = sums.iter().flat_map(|sum| sum.0).collect();
        matches!(outputs, [output] if output.tensor.to_f32().as_ref() == Some(&expected))
    }
}
