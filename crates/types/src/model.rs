//! What a model takes, what it gives, and whether its requests may share a run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{
    ContentDigest, DataType, Dimension, ModelVersion, NamedTensor, ServiceError, Shape, ShapeSpec,
};

/// The name under which a model is served.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

/// A text that cannot name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a model: expected 1 to {max} ASCII letters, digits, `.`, `_` or `-`",
    max = ModelName::MAX_LENGTH
)]
pub struct InvalidName(pub String);

impl ModelName {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text, Self::MAX_LENGTH) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

/// Whether a text can name a model or a version: in a path, a file name and a label.
pub(crate) fn is_name(text: &str, length_max: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=length_max).contains(&text.len())
        && text.chars().all(allowed)
        && text != "."
        && text != ".."
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The name of a model's input or output; any text that the model itself uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorName(Arc<str>);

impl TensorName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TensorName {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One declared input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: TensorName,
    /// Its element type.
    pub datatype: DataType,
    /// Its shape, with dynamic dimensions.
    pub shape: ShapeSpec,
}

impl TensorSpec {
    /// Shapes of inputs that make one row: 1 for what may be the number of rows, `size` for every
    /// other dimension left open. Rows are counted by the first dimension of any input, and by
    /// every other one that has its name, such as `B` in `[2,B,128]`.
    pub fn shapes_of_one_row(inputs: &[Self], size: u64) -> Vec<Shape> {
        let name_of_rows = |spec: &Self| match spec.shape.dimensions().first() {
            Some(Dimension::Dynamic(name)) => name.clone(),
            _ => None,
        };
        let names: Vec<_> = inputs.iter().filter_map(name_of_rows).collect();
        let one = |(index, dimension): (usize, &Dimension)| match dimension {
            Dimension::Fixed(size) => *size,
            Dimension::Dynamic(Some(name)) if names.contains(name) => 1,
            Dimension::Dynamic(_) => {
                if index == 0 {
                    1
                } else {
                    size
                }
            }
        };
        let shape = |spec: &Self| match spec.shape.is_ranked() {
            true => Shape::new(spec.shape.dimensions().iter().enumerate().map(one)),
            false => [1].into(),
        };
        inputs.iter().map(shape).collect()
    }
}

/// Whether requests for a model may be joined row by row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batching {
    /// Rows of different requests may share a run: each row's answer depends on that row alone.
    Rows {
        /// How that is known: declared, or proved at load.
        reason: String,
        /// Where the rows of each input and output are.
        axes: RowAxes,
    },
    /// Every request runs alone.
    Alone {
        /// Why it may not be joined with others.
        reason: String,
    },
}

impl Batching {
    /// Whether rows of different requests may share a run.
    pub fn joins_rows(&self) -> bool {
        matches!(self, Self::Rows { .. })
    }

    /// How it is known.
    pub fn reason(&self) -> &str {
        match self {
            Self::Rows { reason, .. } | Self::Alone { reason } => reason,
        }
    }

    /// Where the rows of inputs and outputs are, where requests may be joined.
    pub fn axes(&self) -> Option<&RowAxes> {
        match self {
            Self::Rows { axes, .. } => Some(axes),
            Self::Alone { .. } => None,
        }
    }
}

/// The axis along which rows lie, for each input and output in declared order.
///
/// A tensor without one has no rows. Requests share a run only where such an input is the same
/// for all of them; such an output goes to all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowAxes {
    /// Of the inputs; at least one has an axis.
    pub inputs: Vec<Option<usize>>,
    /// Of the outputs.
    pub outputs: Vec<Option<usize>>,
}

impl RowAxes {
    /// The first axis of every tensor.
    pub fn first(inputs: usize, outputs: usize) -> Self {
        Self { inputs: vec![Some(0); inputs], outputs: vec![Some(0); outputs] }
    }
}

/// Everything about a loaded model that a client or a gateway may need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    /// The name under which it is served.
    pub name: ModelName,
    /// Its version; `1` for a single file.
    pub version: ModelVersion,
    /// Other names of this version: `stable`, `canary`.
    pub aliases: Vec<ModelVersion>,
    /// Digest of the model's bytes: two models with one name are told apart by it.
    pub digest: ContentDigest,
    /// Size of the model's files, in bytes.
    pub size_bytes: u64,
    /// Declared inputs, in the model's order; empty for a model that only gives.
    pub inputs: Vec<TensorSpec>,
    /// Declared outputs, in the model's order; never empty.
    pub outputs: Vec<TensorSpec>,
    /// Whether requests may be joined.
    pub batching: Batching,
    /// Rows in one run at most; 0 where every request runs alone.
    pub batch_size_max: u64,
}

impl ModelMetadata {
    /// Whether `version` is this version, or another name for it.
    pub fn answers_to(&self, version: &str) -> bool {
        self.version.as_str() == version || self.aliases.iter().any(|a| a.as_str() == version)
    }

    /// The input of that name.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name.as_str() == name)
    }

    /// Checks a request's tensors against the declared inputs and puts them in declared order,
    /// so that equal work has equal form.
    ///
    /// # Errors
    /// `InvalidArgument`, blamed on the client, that names the input and what was expected: a
    /// missing, unknown or repeated name, another datatype, a shape that does not fit, or rows
    /// that differ in number between the inputs of a batching model.
    pub fn arrange(&self, mut given: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, ServiceError> {
        if let Some(stranger) = given.iter().find(|t| self.input(t.name.as_str()).is_none()) {
            let expected: Vec<_> =
                self.inputs.iter().map(|spec| format!("`{}`", spec.name)).collect();
            let expected =
                if expected.is_empty() { "none".to_owned() } else { expected.join(", ") };
            return Err(ServiceError::invalid(format!(
                "model `{}` has no input `{}`: expected {expected}",
                self.name, stranger.name,
            )));
        }
        for (index, spec) in self.inputs.iter().enumerate() {
            let found = given[index.min(given.len())..].iter().position(|t| t.name == spec.name);
            let Some(offset) = found else {
                return Err(self.not_found(spec, &given));
            };
            given.swap(index, index + offset);
            self.check_input(spec, &given[index])?;
        }
        if let Some(repeated) = given.get(self.inputs.len()) {
            return Err(given_twice(repeated));
        }
        if let Some(axes) = self.batching.axes() {
            self.check_equal_rows(axes, &given)?;
        }
        Ok(given)
    }

    /// The shape of `elements` numbers given flat, as the one item that `spec` describes.
    ///
    /// A dynamic first dimension becomes 1 where more dimensions follow: flat numbers are one
    /// row, never several. One other dynamic dimension takes what the length leaves. `None`
    /// where the length does not fit or the shape cannot be told from a length.
    pub fn shape_of_flat(spec: &TensorSpec, elements: u64) -> Option<Shape> {
        let dimensions = spec.shape.dimensions();
        let one_row = dimensions.len() > 1 && spec.shape.first_is_dynamic();
        let fixed = dimensions
            .iter()
            .enumerate()
            .map(|(i, d)| if i == 0 && one_row { Some(1) } else { d.fixed() });
        let known = fixed.clone().flatten().try_fold(1u64, u64::checked_mul)?;
        let rest = match fixed.clone().filter(Option::is_none).count() {
            0 => (known == elements).then_some(1)?,
            1 if known > 0 && elements.is_multiple_of(known) && elements > 0 => elements / known,
            _ => return None,
        };
        Some(Shape::new(fixed.map(|size| size.unwrap_or(rest))))
    }

    /// Why there is no tensor for `spec` among the remaining ones: another was given twice in its
    /// place, or too few were given. The first `given` are those of the inputs before it.
    fn not_found(&self, spec: &TensorSpec, given: &[NamedTensor]) -> ServiceError {
        // All are inputs of this model: of one more than it has inputs, two are the same.
        let looked_at = &given[..given.len().min(self.inputs.len() + 1)];
        let mut earlier = looked_at.iter().enumerate();
        let repeated = earlier.find(|(at, t)| looked_at[..*at].iter().any(|o| o.name == t.name));
        if let Some((_, repeated)) = repeated {
            return given_twice(repeated);
        }
        ServiceError::invalid(format!(
            "input `{}` of model `{}` is missing: expected {} {}",
            spec.name, self.name, spec.datatype, spec.shape,
        ))
    }

    fn check_input(&self, spec: &TensorSpec, given: &NamedTensor) -> Result<(), ServiceError> {
        let tensor = &given.tensor;
        if tensor.datatype() == spec.datatype && spec.shape.admits(tensor.shape()) {
            return Ok(());
        }
        Err(ServiceError::invalid(format!(
            "input `{}` of model `{}`: expected {} {}, got {} {}",
            spec.name,
            self.name,
            spec.datatype,
            spec.shape,
            tensor.datatype(),
            tensor.shape(),
        )))
    }

    fn check_equal_rows(
        &self,
        axes: &RowAxes,
        arranged: &[NamedTensor],
    ) -> Result<(), ServiceError> {
        let mut with_rows = arranged.iter().zip(&axes.inputs).filter_map(|(input, axis)| {
            let dimensions = input.tensor.shape().dimensions();
            Some((input, dimensions.get((*axis)?).copied()))
        });
        let Some((first, rows)) = with_rows.next() else {
            return Ok(());
        };
        match with_rows.find(|(_, other)| *other != rows) {
            None => Ok(()),
            Some((odd, _)) => Err(ServiceError::invalid(format!(
                "inputs of model `{}` must have equally many rows: `{}` has shape {}, `{}` {}",
                self.name,
                first.name,
                first.tensor.shape(),
                odd.name,
                odd.tensor.shape(),
            ))),
        }
    }
}

fn given_twice(input: &NamedTensor) -> ServiceError {
    ServiceError::invalid(format!("input `{}` is given more than once", input.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dimension, Tensor};

    fn spec(name: &str, shape: &[Option<u64>]) -> TensorSpec {
        let dimensions = shape.iter().map(|size| match size {
            Some(size) => Dimension::Fixed(*size),
            None => Dimension::Dynamic(None),
        });
        TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new(dimensions),
        }
    }

    fn model(inputs: Vec<TensorSpec>) -> ModelMetadata {
        ModelMetadata {
            name: "m".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: ContentDigest::of(b"m"),
            size_bytes: 1,
            outputs: inputs.clone(),
            batching: Batching::Rows {
                reason: "declared".into(),
                axes: RowAxes::first(inputs.len(), inputs.len()),
            },
            inputs,
            batch_size_max: 32,
        }
    }

    fn tensor(name: &str, shape: &[u64]) -> NamedTensor {
        let values = vec![0.0; shape.iter().product::<u64>() as usize];
        NamedTensor::new(name.into(), Tensor::from_f32(shape.into(), &values).unwrap())
    }

    /// A state has its rows where the model calls a dimension like the rows of another input.
    #[test]
    fn one_row_is_one_row_of_every_input() {
        let named = |name: &str| Dimension::Dynamic(Some(name.to_owned()));
        let of = |shape: Vec<Dimension>| TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new(shape),
        };
        let inputs = [
            of(vec![named("B"), named("S")]),
            of(vec![Dimension::Fixed(2), named("B"), Dimension::Fixed(3)]),
            of(vec![Dimension::Dynamic(None), Dimension::Dynamic(None)]),
            of(vec![]),
        ];
        let shapes: Vec<Shape> =
            vec![[1, 32].into(), [2, 1, 3].into(), [1, 32].into(), Shape::default()];
        assert_eq!(TensorSpec::shapes_of_one_row(&inputs, 32), shapes);
    }

    #[test]
    fn inputs_come_out_in_declared_order() {
        let model = model(vec![spec("a", &[None, Some(1)]), spec("b", &[None, Some(2)])]);
        let arranged = model.arrange(vec![tensor("b", &[3, 2]), tensor("a", &[3, 1])]).unwrap();
        assert_eq!(arranged[0].name.as_str(), "a");
        assert_eq!(arranged[1].name.as_str(), "b");
    }

    #[test]
    fn every_misfit_is_named() {
        let model = model(vec![spec("a", &[None, Some(1)]), spec("b", &[None, Some(2)])]);
        for (given, message) in [
            (vec![tensor("a", &[1, 1])], "input `b` of model `m` is missing: expected FP32 [?,2]"),
            (vec![], "input `a` of model `m` is missing: expected FP32 [?,1]"),
            (vec![tensor("c", &[1])], "model `m` has no input `c`: expected `a`, `b`"),
            (
                vec![tensor("a", &[1, 1]), tensor("b", &[1, 3])],
                "input `b` of model `m`: expected FP32 [?,2], got FP32 [1,3]",
            ),
            (
                vec![tensor("a", &[1, 1]), tensor("b", &[1, 2]), tensor("a", &[1, 1])],
                "input `a` is given more than once",
            ),
            (vec![tensor("a", &[1, 1]), tensor("a", &[1, 1])], "input `a` is given more than once"),
            (vec![tensor("b", &[1, 2]), tensor("b", &[1, 2])], "input `b` is given more than once"),
            (
                vec![tensor("a", &[1, 1]), tensor("b", &[2, 2])],
                "inputs of model `m` must have equally many rows: `a` has shape [1,1], `b` [2,2]",
            ),
        ] {
            assert_eq!(model.arrange(given).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn flat_numbers_are_one_item() {
        for (declared, elements, expected) in [
            (vec![None, Some(4)], 4, Some(vec![1, 4])),
            (vec![None, Some(4)], 8, None),
            (vec![None, Some(4)], 3, None),
            (vec![Some(3), Some(2)], 6, Some(vec![3, 2])),
            (vec![None], 5, Some(vec![5])),
            (vec![None, None], 7, Some(vec![1, 7])),
            (vec![None, Some(3), None, None], 3, None),
            (vec![], 1, Some(vec![])),
            (vec![None, None], 0, None),
        ] {
            let shape = ModelMetadata::shape_of_flat(&spec("x", &declared), elements);
            assert_eq!(shape, expected.map(Shape::new), "{declared:?} of {elements}");
        }
    }

    #[test]
    fn a_model_name_is_safe_in_a_path() {
        for (text, valid) in
            [("iris", true), ("a.b-c_9", true), ("", false), ("a/b", false), ("a b", false)]
        {
            assert_eq!(text.parse::<ModelName>().is_ok(), valid, "{text}");
        }
    }
}
