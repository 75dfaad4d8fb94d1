//! Reads off a model's settings which of its inputs are padded, and holds that against the model.

use std::collections::BTreeMap;

use inferring_repository::{PaddingSettings, TensorSettings};
use inferring_types::{Dimension, RowAxes, TensorSpec};

use super::{PaddedInput, Padding};
use crate::settings::Misfit;

/// What the settings say of a model's inputs or outputs, by name.
type Settings = BTreeMap<String, TensorSettings>;

impl Padding {
    /// What the settings of a model say about it whose rows lie along `axes`.
    ///
    /// # Errors
    /// [`Misfit`] where that cannot be: it names the input or output and says why.
    pub(crate) fn declared(
        (inputs, of_inputs): (&[TensorSpec], &Settings),
        (outputs, of_outputs): (&[TensorSpec], &Settings),
        axes: &RowAxes,
    ) -> Result<Self, Misfit> {
        let input = |(spec, rows): (&TensorSpec, &Option<usize>)| {
            let settings = of_inputs.get(spec.name.as_str());
            settings
                .and_then(|settings| settings.padding.as_ref())
                .map(|padding| padded_input(spec, padding, *rows))
                .transpose()
        };
        let output = |(spec, rows): (&TensorSpec, &Option<usize>)| {
            let axis = of_outputs.get(spec.name.as_str()).and_then(|settings| settings.padded_axis);
            axis.map(|axis| check_axis("output", spec, axis, *rows).map(|()| axis)).transpose()
        };
        let padding = Self {
            inputs: inputs.iter().zip(&axes.inputs).map(input).collect::<Result<_, _>>()?,
            outputs: outputs.iter().zip(&axes.outputs).map(output).collect::<Result<_, _>>()?,
        };
        Ok(if padding.is_any() { padding } else { Self::none() })
    }
}

fn padded_input(
    spec: &TensorSpec,
    padding: &PaddingSettings,
    rows: Option<usize>,
) -> Result<PaddedInput, Misfit> {
    check_axis("input", spec, padding.axis, rows)?;
    let (name, datatype) = (&spec.name, spec.datatype);
    let mut element = Vec::new();
    match &padding.value {
        Some(value) => value.encode(datatype, &mut element).ok_or_else(|| {
            Misfit(format!(
                "input `{name}` is padded with a value that is no element of {datatype}"
            ))
        })?,
        // Zero, or an empty text behind its length of four bytes.
        None => element.resize(datatype.element_size().unwrap_or(4), 0),
    }
    Ok(PaddedInput { axis: padding.axis, element })
}

/// Holds an axis that is said to be padded against the declared shape and the axis of rows.
fn check_axis(
    what: &str,
    spec: &TensorSpec,
    axis: usize,
    rows: Option<usize>,
) -> Result<(), Misfit> {
    let TensorSpec { name, shape, .. } = spec;
    let problem = match (rows, shape.dimensions().get(axis)) {
        _ if rows == Some(axis) => format!("its rows lie along axis {axis}"),
        (None, _) => "it has no rows".to_owned(),
        (_, Some(Dimension::Fixed(size))) => format!("axis {axis} of {shape} is always {size}"),
        (_, None) if shape.is_ranked() => format!("{shape} has no axis {axis}"),
        (_, None) => "its number of dimensions is not known: give its `shape`".to_owned(),
        (_, Some(Dimension::Dynamic(_))) => return Ok(()),
    };
    Err(Misfit(format!("{what} `{name}` cannot be padded along axis {axis}: {problem}")))
}

#[cfg(test)]
mod tests {
    use inferring_repository::ModelSettings;
    use inferring_types::{DataType, ShapeSpec};

    use super::*;

    fn spec(name: &str, datatype: DataType, shape: &[Option<u64>]) -> TensorSpec {
        let dimension =
            |size: &Option<u64>| size.map_or(Dimension::Dynamic(None), Dimension::Fixed);
        TensorSpec {
            name: name.into(),
            datatype,
            shape: ShapeSpec::new(shape.iter().map(dimension)),
        }
    }

    /// What these settings say of a model with inputs of several datatypes, of which `rate` has
    /// no rows and `side` has them on its second axis.
    fn declared(settings: &str) -> Result<Padding, String> {
        let settings = ModelSettings::from_toml(settings).unwrap();
        let inputs = [
            spec("ids", DataType::Int64, &[None, None]),
            spec("flags", DataType::Bool, &[None, None, Some(2)]),
            spec("texts", DataType::Bytes, &[None, None]),
            spec("rate", DataType::Fp16, &[None, None]),
            TensorSpec { shape: ShapeSpec::any_rank(), ..spec("any", DataType::Fp32, &[]) },
            spec("side", DataType::Fp32, &[None, None]),
        ];
        let outputs = [spec("y", DataType::Fp32, &[None, None, Some(4)])];
        let axes = RowAxes {
            inputs: vec![Some(0), Some(0), Some(0), None, Some(0), Some(1)],
            outputs: vec![Some(0)],
        };
        Padding::declared((&inputs, &settings.inputs), (&outputs, &settings.outputs), &axes)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_value_becomes_an_element() {
        let padding = declared(
            r#"
            [inputs]
            ids.padding = { axis = 1, value = -1 }
            flags.padding = { axis = 1, value = true }
            texts.padding = { axis = 1, value = "ab" }
            [outputs]
            y.padded_axis = 1
            "#,
        )
        .unwrap();
        let element = |place: usize| &padding.of_input(place).unwrap().element[..];
        assert_eq!(element(0), [255; 8]);
        assert_eq!(element(1), [1]);
        assert_eq!(element(2), b"\x02\0\0\0ab");
        assert!(padding.of_input(3).is_none() && padding.of_input(4).is_none());
        assert_eq!(padding.of_output(0), Some(1));
        let zeros = declared("inputs.ids.padding.axis = 1\ninputs.texts.padding.axis = 1").unwrap();
        assert_eq!(zeros.of_input(0).unwrap().element, [0; 8]);
        assert_eq!(zeros.of_input(2).unwrap().element, [0; 4]);
        assert_eq!(zeros.of_output(0), None);
        assert_eq!(declared("inputs.ids.batch_axis = 0").unwrap(), Padding::none());
    }

    #[test]
    fn what_cannot_be_padded_is_refused_in_words() {
        for (settings, expected) in [
            (
                "inputs.side.padding.axis = 1",
                "input `side` cannot be padded along axis 1: its rows lie along axis 1",
            ),
            (
                "inputs.ids.padding.axis = 2",
                "input `ids` cannot be padded along axis 2: [?,?] has no axis 2",
            ),
            (
                "inputs.flags.padding.axis = 2",
                "input `flags` cannot be padded along axis 2: axis 2 of [?,?,2] is always 2",
            ),
            (
                "inputs.rate.padding.axis = 1",
                "input `rate` cannot be padded along axis 1: it has no rows",
            ),
            (
                "inputs.any.padding.axis = 1",
                "input `any` cannot be padded along axis 1: its number of dimensions is not \
                 known: give its `shape`",
            ),
            (
                "inputs.ids.padding = { axis = 1, value = 0.5 }",
                "input `ids` is padded with a value that is no element of INT64",
            ),
            (
                "inputs.texts.padding = { axis = 1, value = 0 }",
                "input `texts` is padded with a value that is no element of BYTES",
            ),
            (
                "inputs.ids.padding.axis = 1\noutputs.y.padded_axis = 2",
                "output `y` cannot be padded along axis 2: axis 2 of [?,?,4] is always 4",
            ),
        ] {
            let error = declared(settings).unwrap_err();
            assert_eq!(error, format!("the settings do not fit: {expected}"), "{settings}");
        }
    }
}
