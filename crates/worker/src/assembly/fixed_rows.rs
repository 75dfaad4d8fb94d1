//! Models whose files fix the number of rows.

use inferring_types::{Dimension, ShapeSpec, TensorSpec};

/// Opens the axis of rows of a model of which every run has `rows` rows: what has fewer is filled
/// up, and what has more takes several runs, so that to a client any number fits.
///
/// `tensors` are all inputs and outputs, with the axis along which their rows lie. Where one of
/// them has another fixed size there, it has no such rows, and nothing is opened.
pub(crate) fn open(rows: usize, tensors: Vec<(Option<usize>, &mut TensorSpec)>) {
    let fixed = Dimension::Fixed(rows as u64);
    let size = |axis: Option<usize>, spec: &TensorSpec| -> Option<Dimension> {
        spec.shape.dimensions().get(axis?).cloned()
    };
    let is_other = |size: Dimension| size != fixed && size.fixed().is_some();
    if tensors.iter().any(|(axis, spec)| size(*axis, spec).is_some_and(is_other)) {
        return;
    }
    for (axis, spec) in tensors {
        if size(axis, spec).as_ref() == Some(&fixed) {
            let dimensions = spec.shape.dimensions().iter().enumerate();
            spec.shape = ShapeSpec::new(dimensions.map(|(index, size)| {
                if Some(index) == axis { Dimension::Dynamic(None) } else { size.clone() }
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::DataType;

    use super::*;

    /// The shapes of a model's tensors when runs of 8 rows are filled up.
    fn opened(tensors: &[(Option<usize>, &[i64])]) -> Vec<String> {
        let spec = |shape: &[i64]| TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new(shape.iter().map(|&size| match u64::try_from(size) {
                Ok(size) => Dimension::Fixed(size),
                Err(_) => Dimension::Dynamic(Some("B".to_owned())),
            })),
        };
        let mut specs: Vec<_> = tensors.iter().map(|(_, shape)| spec(shape)).collect();
        open(8, tensors.iter().map(|(axis, _)| *axis).zip(&mut specs).collect());
        specs.iter().map(|spec| spec.shape.to_string()).collect()
    }

    #[test]
    fn the_axis_of_rows_is_opened_where_every_tensor_has_that_many() {
        let tensors = [(Some(0), &[8, 4][..]), (Some(1), &[2, 8, 8]), (None, &[8]), (None, &[])];
        assert_eq!(opened(&tensors), ["[?,4]", "[2,?,8]", "[8]", "[]"]);
        assert_eq!(opened(&[(Some(0), &[8, 4]), (Some(0), &[-1, 8])]), ["[?,4]", "[B,8]"]);
        assert_eq!(opened(&[(Some(0), &[8, 4]), (Some(0), &[4, 4])]), ["[8,4]", "[4,4]"]);
    }
}
