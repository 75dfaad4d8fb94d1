//! Shapes: of a tensor in hand, and as a model declares them.

use std::fmt;

use smallvec::SmallVec;

/// The dimensions of a tensor in hand, outermost first. A scalar has none.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[u64; 6]>);

impl Shape {
    /// A shape of these dimensions.
    pub fn new(dimensions: impl IntoIterator<Item = u64>) -> Self {
        Self(dimensions.into_iter().collect())
    }

    /// The dimensions, outermost first.
    pub fn dimensions(&self) -> &[u64] {
        &self.0
    }

    /// How many dimensions there are; 0 for a scalar.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The product of the dimensions, or `None` where it does not fit in 64 bits.
    ///
    /// A zero anywhere makes it zero, however large the other dimensions are.
    pub fn elements(&self) -> Option<u64> {
        if self.0.contains(&0) {
            return Some(0);
        }
        self.0.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension))
    }

    /// The same shape with its first dimension replaced, or `None` for a scalar.
    pub fn with_first(&self, first: u64) -> Option<Self> {
        let mut dimensions = self.0.clone();
        *dimensions.first_mut()? = first;
        Some(Self(dimensions))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<[u64; N]> for Shape {
    fn from(dimensions: [u64; N]) -> Self {
        Self::new(dimensions)
    }
}

impl From<&[u64]> for Shape {
    fn from(dimensions: &[u64]) -> Self {
        Self::new(dimensions.iter().copied())
    }
}

/// One dimension as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Exactly this size.
    Fixed(u64),
    /// Any size; with the model's own symbol (`N`, `batch_size`) where it has one.
    Dynamic(Option<String>),
}

impl Dimension {
    /// Whether a tensor's dimension of this size fits.
    pub fn admits(&self, size: u64) -> bool {
        match self {
            Self::Fixed(fixed) => *fixed == size,
            Self::Dynamic(_) => true,
        }
    }

    /// The size, where the model fixes it.
    pub fn fixed(&self) -> Option<u64> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Dynamic(_) => None,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Dynamic(Some(symbol)) => f.write_str(symbol),
            Self::Dynamic(None) => f.write_str("?"),
        }
    }
}

/// The shape of an input or output as a model declares it, such as `[N,3,224,224]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShapeSpec(Option<Vec<Dimension>>);

impl Default for ShapeSpec {
    fn default() -> Self {
        Self::new([])
    }
}

impl ShapeSpec {
    /// A shape of these dimensions.
    pub fn new(dimensions: impl IntoIterator<Item = Dimension>) -> Self {
        Self(Some(dimensions.into_iter().collect()))
    }

    /// A shape of any dimensions: the model does not even fix how many there are.
    pub fn any_rank() -> Self {
        Self(None)
    }

    /// Whether the model fixes how many dimensions there are.
    pub fn is_ranked(&self) -> bool {
        self.0.is_some()
    }

    /// The dimensions, outermost first; none where the rank is not fixed.
    pub fn dimensions(&self) -> &[Dimension] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether a tensor of this shape fits: same rank, and each dimension admitted.
    pub fn admits(&self, shape: &Shape) -> bool {
        let Some(dimensions) = &self.0 else {
            return true;
        };
        dimensions.len() == shape.rank()
            && dimensions.iter().zip(shape.dimensions()).all(|(spec, &size)| spec.admits(size))
    }

    /// Whether the outermost dimension may vary. This alone does **not** make a model batchable:
    /// the dimension may be time, or the rows may influence each other.
    pub fn first_is_dynamic(&self) -> bool {
        matches!(self.dimensions().first(), Some(Dimension::Dynamic(_)))
    }
}

impl fmt::Display for ShapeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(dimensions) => write_list(f, dimensions),
            None => f.write_str("[...]"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write!(f, "{item}")?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_refuse_to_overflow_but_know_zero() {
        assert_eq!(Shape::from([2, 3]).elements(), Some(6));
        assert_eq!(Shape::default().elements(), Some(1));
        assert_eq!(Shape::from([1 << 40, 1 << 40]).elements(), None);
        assert_eq!(Shape::from([1 << 40, 1 << 40, 0]).elements(), Some(0));
    }

    #[test]
    fn a_declared_shape_admits_by_rank_and_size() {
        let spec = ShapeSpec::new([Dimension::Dynamic(Some("N".into())), Dimension::Fixed(4)]);
        assert_eq!(spec.to_string(), "[N,4]");
        for (shape, admitted) in [
            (Shape::from([1, 4]), true),
            (Shape::from([9, 4]), true),
            (Shape::from([1, 5]), false),
            (Shape::from([4]), false),
        ] {
            assert_eq!(spec.admits(&shape), admitted, "{shape}");
        }
        assert!(ShapeSpec::any_rank().admits(&Shape::from([2, 3])));
        assert!(!ShapeSpec::default().admits(&Shape::from([2, 3])));
    }
}
