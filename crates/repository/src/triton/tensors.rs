//! `input` and `output`.

use std::collections::BTreeMap;

use inferring_types::{DataType, Dimension, ShapeSpec};

use super::Spelling;
use super::batching::Rows;
use super::section::{Located, Section, integer};
use crate::error::ConfigError;
use crate::settings::{BatchAxis, RANK_MAX, TensorSettings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

pub(super) fn read(
    root: &Section<'_>,
    side: Side,
    rows: Rows,
) -> Result<BTreeMap<String, TensorSettings>, ConfigError> {
    let key = match side {
        Side::Input => "input",
        Side::Output => "output",
    };
    let mut tensors = BTreeMap::new();
    for located in root.many(key) {
        let section = root.inside(&located)?;
        let name = section.text("name")?.unwrap_or_default();
        if name.is_empty() {
            return Err(located.problem("has no `name`"));
        }
        let settings = tensor(&section, rows)?;
        match side {
            Side::Input => report_of_input(&section),
            Side::Output => {
                section
                    .no_effect("label_filename", "classification on the server is not supported");
            }
        }
        section.finish();
        if tensors.insert(name.clone(), settings).is_some() {
            return Err(located.problem(format!("`{name}` is described a second time")));
        }
    }
    Ok(tensors)
}

fn tensor(section: &Section<'_>, rows: Rows) -> Result<TensorSettings, ConfigError> {
    let datatype = datatype(section)?;
    section.no_effect("is_shape_tensor", "only TensorRT has shape tensors");
    section.no_effect("is_non_linear_format_io", "only TensorRT has such formats");
    let mut dims = section.many("dims");
    let reshape = section.section("reshape")?;
    if let Some(reshape) = reshape {
        // The model has the inner shape, Triton's clients the outer one.
        dims = reshape.many("shape");
        section.note(
            section.key("reshape"),
            "tensors are not reshaped here: clients must use the model's own shape",
        );
        reshape.finish();
    } else if dims.is_empty() {
        return Ok(TensorSettings { datatype, ..TensorSettings::default() });
    }
    Ok(described(datatype, dimensions(&dims, section.spelling())?, rows))
}

/// A tensor of these `dims`, before which the axis of the rows may have been left out.
pub(super) fn described(
    datatype: Option<DataType>,
    dims: impl IntoIterator<Item = Dimension>,
    rows: Rows,
) -> TensorSettings {
    let (axis, batch_axis) = match rows {
        Rows::LeftOut => (Some(Dimension::Dynamic(None)), Some(BatchAxis::At(0))),
        Rows::Within => (None, None),
    };
    let shape = Some(ShapeSpec::new(axis.into_iter().chain(dims)));
    TensorSettings { datatype, shape, batch_axis, ..TensorSettings::default() }
}

/// The sizes in `dims`, -1 for one that is left open.
pub(super) fn dimensions(
    dims: &[Located<'_>],
    spelling: Spelling,
) -> Result<Vec<Dimension>, ConfigError> {
    if let Some(located) = dims.get(RANK_MAX) {
        return Err(located.problem(format!("more than {RANK_MAX} dimensions")));
    }
    dims.iter().map(|located| dimension(located, spelling)).collect()
}

fn dimension(located: &Located<'_>, spelling: Spelling) -> Result<Dimension, ConfigError> {
    match integer::<i64>(located, spelling)? {
        -1 => Ok(Dimension::Dynamic(None)),
        size => match u64::try_from(size) {
            Ok(size) if size > 0 => Ok(Dimension::Fixed(size)),
            _ => Err(located.problem(format!("{size} is no dimension: expected a size or -1"))),
        },
    }
}

fn report_of_input(section: &Section<'_>) {
    section.no_effect("format", "the layout of a tensor is the model's and the client's");
    section.no_effect("allow_ragged_batch", "requests share a run only where their shapes agree");
    section.no_effect("optional", "an input may be left out where the model has a default for it");
}

/// The element type under `data_type`.
pub(super) fn datatype(section: &Section<'_>) -> Result<Option<DataType>, ConfigError> {
    let chosen = section.choice(
        "data_type",
        &[
            ("TYPE_INVALID", 0, None),
            ("TYPE_BOOL", 1, Some(DataType::Bool)),
            ("TYPE_UINT8", 2, Some(DataType::Uint8)),
            ("TYPE_UINT16", 3, Some(DataType::Uint16)),
            ("TYPE_UINT32", 4, Some(DataType::Uint32)),
            ("TYPE_UINT64", 5, Some(DataType::Uint64)),
            ("TYPE_INT8", 6, Some(DataType::Int8)),
            ("TYPE_INT16", 7, Some(DataType::Int16)),
            ("TYPE_INT32", 8, Some(DataType::Int32)),
            ("TYPE_INT64", 9, Some(DataType::Int64)),
            ("TYPE_FP16", 10, Some(DataType::Fp16)),
            ("TYPE_FP32", 11, Some(DataType::Fp32)),
            ("TYPE_FP64", 12, Some(DataType::Fp64)),
            ("TYPE_STRING", 13, Some(DataType::Bytes)),
            ("TYPE_BF16", 14, Some(DataType::Bf16)),
        ],
    )?;
    Ok(chosen.flatten())
}
