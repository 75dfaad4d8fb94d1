//! What is given for an input, made the tensor that the model declares, or refused with what was
//! expected.
//!
//! Two liberties are taken, and each is told: a batch dimension that is missing is added, and
//! numbers of another datatype are converted. Nothing is padded, cut or guessed beyond that.

use anyhow::{Context, anyhow, bail, ensure};
use inferring_protocol::array;
use inferring_types::{DataType, Dimension, ModelMetadata, Shape, ShapeSpec, Tensor, TensorSpec};

use super::source::Given;

/// The tensor for the input that `spec` declares; `note` is told what was changed on the way.
pub(super) fn fit(
    spec: &TensorSpec,
    given: Given,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<Tensor> {
    let datatype = spec.datatype;
    let (tensor, from_rows) = match given {
        Given::Value(text) => (value(&text, spec)?, false),
        Given::Json(text) => (array::read(&text, datatype).with_context(|| expected(spec))?, false),
        Given::Rows(rows) => (rows_as_tensor(rows, datatype, note)?, true),
        Given::Tensor(tensor) => {
            let from = tensor.datatype();
            if from != datatype {
                note(&format!("{from} converted to {datatype}"));
            }
            (array::convert(&tensor, datatype).with_context(|| expected(spec))?, false)
        }
        Given::Several(_) | Given::Request { .. } => bail!("expected one array, got several"),
    };
    let given_shape = tensor.shape();
    let shape = if from_rows { shape_of_rows(spec, given_shape) } else { None };
    let Some(shape) = shape
        .or_else(|| fitting_shape(&spec.shape, given_shape))
        .or_else(|| flat(spec, given_shape))
    else {
        bail!("{}, got shape {given_shape}", expected(spec));
    };
    if shape == *given_shape {
        return Ok(tensor);
    }
    note(&format!("shape {given_shape} sent as {shape}"));
    let data = tensor.data().clone();
    Ok(Tensor::new(datatype, shape, data).expect("another shape of as many elements"))
}

fn expected(spec: &TensorSpec) -> String {
    format!("expected {} {}", spec.datatype, spec.shape)
}

/// A value of the command line: JSON, or numbers with commas between, or for BYTES any text.
fn value(text: &str, spec: &TensorSpec) -> anyhow::Result<Tensor> {
    let trimmed = text.trim();
    let tensor = if trimmed.starts_with('[') || trimmed.starts_with('"') {
        array::read(trimmed.as_bytes(), spec.datatype)
    } else if spec.datatype == DataType::Bytes {
        array::read(serde_json::to_string(text)?.as_bytes(), DataType::Bytes)
    } else if trimmed.contains(',') {
        array::read(format!("[{trimmed}]").as_bytes(), spec.datatype)
    } else {
        array::read(trimmed.as_bytes(), spec.datatype)
    };
    tensor.with_context(|| {
        let hint = if spec.datatype == DataType::Bytes && trimmed.starts_with(['[', '"']) {
            "; a text that begins so is given as JSON: [\"[...\"]"
        } else {
            ""
        };
        format!("{}{hint}", expected(spec))
    })
}

/// The given shape where it is admitted, or with the batch dimension that it lacks.
fn fitting_shape(spec: &ShapeSpec, given: &Shape) -> Option<Shape> {
    let batch_of_one = || Shape::new([1].into_iter().chain(given.dimensions().iter().copied()));
    spec.admits(given).then(|| given.clone()).or_else(|| {
        let batched = batch_of_one();
        spec.admits(&batched).then_some(batched)
    })
}

/// Flat values as the one item that the model declares.
fn flat(spec: &TensorSpec, given: &Shape) -> Option<Shape> {
    if given.rank() > 1 {
        return None;
    }
    ModelMetadata::shape_of_flat(spec, given.elements()?)
}

/// Rows of a table, each as one item of a batch.
fn shape_of_rows(spec: &TensorSpec, given: &Shape) -> Option<Shape> {
    let &[rows, columns] = given.dimensions() else { return None };
    match spec.shape.dimensions() {
        // One column, or one row.
        [only] if rows == 1 || columns == 1 => {
            only.admits(rows * columns).then(|| Shape::from([rows * columns]))
        }
        [first, item @ ..] if item.len() > 1 && first.admits(rows) => {
            let sizes = item.iter().map(Dimension::fixed).collect::<Option<Vec<_>>>()?;
            let elements = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
            (elements == Some(columns)).then(|| Shape::new([rows].into_iter().chain(sizes)))
        }
        _ => None,
    }
}

/// The cells of a table, `[rows, columns]`. A first row without any number, above rows of
/// numbers, is a head.
fn rows_as_tensor(
    mut rows: Vec<Vec<String>>,
    datatype: DataType,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<Tensor> {
    let is_head = |row: &Vec<String>| row.iter().all(|text| cell(text, datatype).is_err());
    let mut first_row = 1;
    if datatype != DataType::Bytes && rows.len() > 1 && is_head(&rows[0]) {
        note(&format!("the first row ({}) is taken for a head", rows[0].join(",")));
        rows.remove(0);
        first_row = 2;
    }
    ensure!(!rows.is_empty(), "the table has no rows");
    let shape = Shape::from([rows.len() as u64, rows[0].len() as u64]);
    let mut data = Vec::new();
    for (row, row_number) in rows.iter().zip(first_row..) {
        for (text, column) in row.iter().zip(1..) {
            let value = cell(text, datatype)
                .with_context(|| format!("row {row_number}, column {column}: `{text}`"))?;
            data.extend_from_slice(value.data());
        }
    }
    Ok(Tensor::new(datatype, shape, data.into()).expect("one element for each cell"))
}

fn cell(text: &str, datatype: DataType) -> anyhow::Result<Tensor> {
    if datatype == DataType::Bytes {
        return Ok(array::read(serde_json::to_string(text)?.as_bytes(), datatype)?);
    }
    let text = text.trim();
    if datatype == DataType::Bool {
        let value = match text.to_ascii_lowercase().as_str() {
            "true" | "1" => &b"true"[..],
            "false" | "0" => b"false",
            _ => bail!("expected true or false"),
        };
        return Ok(array::read(value, datatype)?);
    }
    if let Ok(value) = array::read(text.as_bytes(), datatype)
        && value.shape().rank() == 0
    {
        return Ok(value);
    }
    // Other programs write `nan`, `+1` and `.5`.
    let number: f64 = text.parse().map_err(|_| anyhow!("expected {datatype}"))?;
    let number =
        Tensor::new(DataType::Fp64, Shape::default(), number.to_le_bytes().to_vec().into());
    Ok(array::convert(&number.expect("eight bytes are one FP64"), datatype)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferring_protocol::array::{Style, write};

    /// A declaration; 0 is a dynamic dimension.
    fn spec(datatype: DataType, sizes: &[u64]) -> TensorSpec {
        let dimensions = sizes.iter().map(|&size| match size {
            0 => Dimension::Dynamic(Some("N".into())),
            _ => Dimension::Fixed(size),
        });
        TensorSpec { name: "x".into(), datatype, shape: ShapeSpec::new(dimensions) }
    }

    /// What is sent, or the whole error; then the notes.
    fn fitted(spec: &TensorSpec, given: Given) -> (Result<String, String>, Vec<String>) {
        let mut notes = Vec::new();
        let tensor = fit(spec, given, &mut |note| notes.push(note.to_owned()));
        let shown = tensor.map(|tensor| {
            assert!(spec.shape.admits(tensor.shape()) && tensor.datatype() == spec.datatype);
            write(&tensor, Style::JSON)
        });
        (shown.map_err(|error| format!("{error:#}")), notes)
    }

    #[track_caller]
    fn check(spec: &TensorSpec, given: Given, expected: Result<&str, &str>, notes: &[&str]) {
        let (got, got_notes) = fitted(spec, given);
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
        assert_eq!(got_notes, notes);
    }

    #[test]
    fn values_of_the_command_line_take_the_declared_form() {
        let rows = spec(DataType::Fp32, &[0, 3]);
        let value = |text: &str| Given::Value(text.to_owned());
        check(&rows, value("[[1,2,3]]"), Ok("[[1.0,2.0,3.0]]"), &[]);
        check(&rows, value("[1,2,3]"), Ok("[[1.0,2.0,3.0]]"), &["shape [3] sent as [1,3]"]);
        check(&rows, value("1, 2,3"), Ok("[[1.0,2.0,3.0]]"), &["shape [3] sent as [1,3]"]);
        check(&rows, value("[1,2]"), Err("expected FP32 [N,3], got shape [2]"), &[]);
        check(&rows, value("[[1,2],[3,4]]"), Err("expected FP32 [N,3], got shape [2,2]"), &[]);
        check(&spec(DataType::Int64, &[]), value("5"), Ok("5"), &[]);
        let one = spec(DataType::Int64, &[0, 1]);
        check(&one, value("5"), Ok("[[5]]"), &["shape [] sent as [1,1]"]);
        let error = fitted(&one, value("hello")).0.unwrap_err();
        assert!(error.starts_with("expected INT64 [N,1]: ") && error.contains("byte 0"), "{error}");
        let text = spec(DataType::Bytes, &[0]);
        check(&text, value("hello, you"), Ok(r#"["hello, you"]"#), &["shape [] sent as [1]"]);
        check(&text, value(r#"["a","b"]"#), Ok(r#"["a","b"]"#), &[]);
        let (error, _) = fitted(&text, value("[CLS] a"));
        assert!(error.unwrap_err().contains("is given as JSON"));
    }

    #[test]
    fn a_tensor_keeps_its_rows_and_changes_its_datatype() {
        let image = spec(DataType::Fp32, &[0, 2, 2]);
        let tensor =
            |text: &str, datatype| Given::Tensor(array::read(text.as_bytes(), datatype).unwrap());
        check(
            &image,
            tensor("[[1,2],[3,4]]", DataType::Fp64),
            Ok("[[[1.0,2.0],[3.0,4.0]]]"),
            &["FP64 converted to FP32", "shape [2,2] sent as [1,2,2]"],
        );
        check(
            &spec(DataType::Uint8, &[0]),
            tensor("[300]", DataType::Int64),
            Err("expected UINT8 [N]: element 0 is 300, which does not fit UINT8"),
            &["INT64 converted to UINT8"],
        );
        check(
            &spec(DataType::Int8, &[2, 3]),
            tensor("[[1,2]]", DataType::Int8),
            Err("expected INT8 [2,3], got shape [1,2]"),
            &[],
        );
        let any = TensorSpec { shape: ShapeSpec::any_rank(), ..image };
        check(&any, tensor("[1.5]", DataType::Fp32), Ok("[1.5]"), &[]);
    }

    #[test]
    fn a_table_is_rows_of_a_batch() {
        let table = |rows: &[&[&str]]| {
            Given::Rows(
                rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect(),
            )
        };
        let iris = spec(DataType::Fp32, &[0, 2]);
        check(&iris, table(&[&["1", " .5"], &["nan", "+2"]]), Ok("[[1.0,0.5],[\"NaN\",2.0]]"), &[]);
        check(
            &iris,
            table(&[&["width", "height"], &["1", "2"]]),
            Ok("[[1.0,2.0]]"),
            &["the first row (width,height) is taken for a head"],
        );
        check(
            &iris,
            table(&[&["1", "2"], &["3", "x"]]),
            Err("row 2, column 2: `x`: expected FP32"),
            &[],
        );
        check(&iris, table(&[]), Err("the table has no rows"), &[]);
        check(
            &spec(DataType::Int32, &[0, 2, 2]),
            table(&[&["1", "2", "3", "4"]]),
            Ok("[[[1,2],[3,4]]]"),
            &["shape [1,4] sent as [1,2,2]"],
        );
        check(
            &spec(DataType::Bool, &[0]),
            table(&[&["True"], &["0"]]),
            Ok("[true,false]"),
            &["shape [2,1] sent as [2]"],
        );
        check(
            &spec(DataType::Uint8, &[0, 1]),
            table(&[&["256"]]),
            Err("row 1, column 1: `256`: element 0 is 256, which does not fit UINT8"),
            &[],
        );
        check(
            &spec(DataType::Bytes, &[0, 1]),
            table(&[&["a b"], &[""]]),
            Ok(r#"[["a b"],[""]]"#),
            &[],
        );
    }
}
