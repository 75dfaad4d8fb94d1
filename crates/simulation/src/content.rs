//! What clients ask, and what the right answer to it is.

use inferring_types::{NamedTensor, Tensor};

/// One row that is asked for. Different ones have different answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content(pub(crate) u32);

impl Content {
    /// The name of the model that is asked.
    pub(crate) const MODEL: &str = "model";

    /// The numbers of a row.
    pub(crate) const WIDTH: usize = 4;

    /// What tells rows of clients from those that a worker makes up to try a model.
    const MARK: f32 = 4096.5;

    fn row(self) -> [f32; Self::WIDTH] {
        [self.0 as f32, Self::MARK, 1.0, -1.0]
    }

    /// The row's, where it is a client's.
    pub(crate) fn of_row(row: &[f32]) -> Option<Self> {
        let content = Self(row[0] as u32);
        (row == content.row()).then_some(content)
    }

    /// What this version of the model makes of a row.
    pub(crate) fn answer(row: &[f32], version: u64) -> [f32; Self::WIDTH] {
        let sum: f32 = row.iter().sum();
        std::array::from_fn(|place| 2.0 * row[place] + sum + version as f32)
    }

    /// The inputs of a request for these rows.
    pub(crate) fn inputs(contents: &[Self]) -> Vec<NamedTensor> {
        let rows: Vec<f32> = contents.iter().flat_map(|content| content.row()).collect();
        let shape = [contents.len() as u64, Self::WIDTH as u64].into();
        let tensor = Tensor::from_f32(shape, &rows).expect("as many as the shape says");
        vec![NamedTensor::new("input".into(), tensor)]
    }

    /// Whether these are the right outputs of that version for them.
    pub(crate) fn are_answered_by(
        contents: &[Self],
        version: u64,
        outputs: &[NamedTensor],
    ) -> bool {
        let answer = |content: &Self| Self::answer(&content.row(), version);
        let expected: Vec<f32> = contents.iter().flat_map(answer).collect();
        matches!(outputs, [output] if output.tensor.to_f32().as_ref() == Some(&expected))
    }
}
