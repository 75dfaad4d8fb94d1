//! The plain form: `POST /infer {"request_id", "input_data": [..]}`.
//!
//! It asks a model with one input. A flat array is one item; nested arrays carry their own shape;
//! `"shape"` may state it. Nothing is ever padded or cut. The answer of a model with several
//! outputs has an object with a member for each, where that of a model with one has an array.

use std::num::NonZeroU32;

use inferring_types::{
    InferResponse, ModelMetadata, NamedTensor, RequestId, SequenceStep, ServiceError, Shape,
    Tensor, TensorSpec,
};

use crate::json::counted;
use crate::json::reader::{Cursor, JsonError};
use crate::json::values::{Values, read_shape};
use crate::json::writer;
use crate::rest::standing::Standing;

/// A decoded request.
#[derive(Debug)]
pub struct PlainRequest {
    /// The id in the body, if any.
    pub id: Option<RequestId>,
    /// The model's one input.
    pub input: NamedTensor,
    /// Whether NaN and infinities may stand in the answer.
    pub allow_nan: bool,
    /// How urgent it is, if it says so.
    pub priority: Option<NonZeroU32>,
    /// Its place in a sequence, if it is in one.
    pub sequence: Option<SequenceStep>,
}

/// Reads a request for `model`.
///
/// # Errors
/// `InvalidArgument` that says what was expected: malformed JSON (with the position), a missing
/// or mistyped field, a number that does not fit the model's datatype, a length or shape other
/// than the model's, or a model that does not take exactly one input.
pub fn decode_request(body: &[u8], model: &ModelMetadata) -> Result<PlainRequest, ServiceError> {
    let spec = the_one_input(model)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ServiceError::invalid(format!(
            "the body is empty: expected {{\"input_data\": [..]}} with {} numbers of shape {}",
            spec.datatype, spec.shape,
        )));
    }
    let fields = Fields::read(body, spec)?;
    let Some(values) = fields.input_data else {
        return Err(fields.missing_input_data(spec));
    };
    let shape = shape_for(&values, fields.shape, spec, model)?;
    let tensor = Tensor::new(spec.datatype, shape, values.data.into())
        .map_err(|error| ServiceError::invalid(format!("field `shape`: {error}")))?;
    Ok(PlainRequest {
        id: fields.request_id,
        input: NamedTensor::new(spec.name.clone(), tensor),
        allow_nan: fields.allow_nan,
        priority: fields.standing.priority,
        sequence: fields.standing.sequence(),
    })
}

/// Writes the answer: the outputs' elements flat and row-major, beside their shape.
///
/// # Errors
/// `InvalidArgument` where JSON cannot carry the answer: NaN or an infinity, unless `allow_nan`,
/// or bytes that are no UTF-8.
pub fn encode_response(response: &InferResponse, allow_nan: bool) -> Result<Vec<u8>, ServiceError> {
    let outputs = &response.outputs[..];
    let served = &response.served;
    let bytes: usize = outputs.iter().map(|output| output.tensor.size_bytes()).sum();
    let mut out = Vec::with_capacity(256 + bytes * 3);
    out.extend_from_slice(b"{\"request_id\":");
    writer::string(&mut out, response.id.as_str());
    out.extend_from_slice(b",\"output_data\":");
    write_each(&mut out, outputs, |out, output| {
        writer::elements(out, &output.tensor, allow_nan)
            .map_err(|reason| super::v2::unwritable(output, reason))
    })?;
    out.extend_from_slice(b",\"output_shape\":");
    write_each(&mut out, outputs, |out, output| {
        writer::integers(out, output.tensor.shape().dimensions());
        Ok(())
    })?;
    out.extend_from_slice(b",\"model\":");
    writer::string(&mut out, response.model.as_str());
    out.push(b',');
    super::v2::write_served(&mut out, served);
    out.push(b'}');
    Ok(out)
}

/// Writes something about the one output, or an object with it about each of several.
fn write_each(
    out: &mut Vec<u8>,
    outputs: &[NamedTensor],
    mut write: impl FnMut(&mut Vec<u8>, &NamedTensor) -> Result<(), ServiceError>,
) -> Result<(), ServiceError> {
    if let [output] = outputs {
        return write(out, output);
    }
    out.push(b'{');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        writer::string(out, output.name.as_str());
        out.push(b':');
        write(out, output)?;
    }
    out.push(b'}');
    Ok(())
}

fn the_one_input(model: &ModelMetadata) -> Result<&TensorSpec, ServiceError> {
    if let [input] = &model.inputs[..] {
        return Ok(input);
    }
    Err(ServiceError::invalid(format!(
        "model `{name}` has {inputs}, and the plain form takes one: ask \
         POST /v2/models/{name}/infer",
        name = model.name,
        inputs = counted(model.inputs.len() as u64, "input"),
    )))
}

/// What the body holds.
#[derive(Default)]
struct Fields {
    request_id: Option<RequestId>,
    input_data: Option<Values>,
    shape: Option<Shape>,
    allow_nan: bool,
    standing: Standing,
    others: Vec<String>,
}

impl Fields {
    fn read(body: &[u8], spec: &TensorSpec) -> Result<Self, ServiceError> {
        let mut fields = Self::default();
        let mut cursor = Cursor::new(body);
        cursor.object("an object such as {\"input_data\": [..]}", |key, cursor| {
            fields
                .member(key, cursor, spec)
                .map_err(|error| error.within(format_args!("field `{}`", key.escape_ascii())))
        })?;
        cursor.finish()?;
        Ok(fields)
    }

    fn member(
        &mut self,
        key: &[u8],
        cursor: &mut Cursor<'_>,
        spec: &TensorSpec,
    ) -> Result<(), JsonError> {
        match key {
            b"request_id" => {
                let text = cursor.string("a string")?;
                let id = text.parse().map_err(|error| cursor.misfit(format!("{error}")))?;
                self.request_id = Some(id);
            }
            b"input_data" => {
                if cursor.peek() != Some(b'[') {
                    return Err(cursor.expected("an array of numbers"));
                }
                self.input_data = Some(Values::read(cursor, spec.datatype)?);
            }
            b"shape" => self.shape = Some(read_shape(cursor)?),
            b"allow_nan" => self.allow_nan = cursor.boolean("true or false")?,
            _ if self.standing.read_member(key, cursor)? => {}
            _ => {
                cursor.skip_value()?;
                self.others.push(key.escape_ascii().to_string());
            }
        }
        Ok(())
    }

    fn missing_input_data(&self, spec: &TensorSpec) -> ServiceError {
        let found = match &self.others[..] {
            [] => String::new(),
            others => format!(" (found `{}`)", others.join("`, `")),
        };
        ServiceError::invalid(format!(
            "field `input_data` is missing{found}: expected an array of {} numbers of shape {}",
            spec.datatype, spec.shape,
        ))
    }
}

/// The shape that the numbers have: stated, nested, or the one item that a flat array is.
fn shape_for(
    values: &Values,
    stated: Option<Shape>,
    spec: &TensorSpec,
    model: &ModelMetadata,
) -> Result<Shape, ServiceError> {
    if let Some(shape) = stated {
        if shape.elements() != Some(values.elements) {
            return Err(ServiceError::invalid(format!(
                "field `shape` says {shape}, but `input_data` has {}",
                counted(values.elements, "number"),
            )));
        }
        return fitting(shape, spec, model);
    }
    if values.nesting.rank() > 1 {
        return fitting(values.nesting.clone(), spec, model);
    }
    ModelMetadata::shape_of_flat(spec, values.elements).ok_or_else(|| {
        ServiceError::invalid(format!(
            "`input_data` has {}, but model `{}` takes {} of shape {} for one item{}",
            counted(values.elements, "number"),
            model.name,
            spec.datatype,
            spec.shape,
            hint(spec),
        ))
    })
}

fn fitting(shape: Shape, spec: &TensorSpec, model: &ModelMetadata) -> Result<Shape, ServiceError> {
    if spec.shape.admits(&shape) {
        return Ok(shape);
    }
    Err(ServiceError::invalid(format!(
        "`input_data` has shape {shape}, but model `{}` takes {} of shape {}{}",
        model.name,
        spec.datatype,
        spec.shape,
        hint(spec),
    )))
}

fn hint(spec: &TensorSpec) -> String {
    let dimensions = spec.shape.dimensions();
    let row = &dimensions[usize::from(spec.shape.first_is_dynamic()).min(dimensions.len())..];
    let row: Option<u64> = row.iter().map(inferring_types::Dimension::fixed).product();
    match row {
        Some(count) if spec.shape.first_is_dynamic() && dimensions.len() > 1 => {
            let numbers = counted(count, "number");
            format!(": send {numbers}, or nested arrays [[..], ..] for several rows at once")
        }
        Some(count) if !spec.shape.first_is_dynamic() => {
            format!(": send {}", counted(count, "number"))
        }
        _ => ": send nested arrays, or the field `shape` beside the numbers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferring_types::{CacheOutcome, Served, WorkerLoad};

    use super::*;
    use crate::rest::metadata::tests::iris;

    fn decode(body: &str) -> Result<PlainRequest, String> {
        decode_request(body.as_bytes(), &iris()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flat_array_is_one_item_and_nested_arrays_are_rows() {
        for (body, shape) in [
            (r#"{"request_id":"test1","input_data":[5.1,3.5,1.4,0.2]}"#, [1, 4]),
            (r#"{"input_data":[[1,2,3,4],[5,6,7,8]],"request_id":"x"}"#, [2, 4]),
            (r#"{"input_data":[1,2,3,4,5,6,7,8],"shape":[2,4]}"#, [2, 4]),
        ] {
            let request = decode(body).unwrap();
            assert_eq!(request.input.tensor.shape(), &Shape::from(shape), "{body}");
        }
    }

    #[test]
    fn urgency_and_sequence_stand_beside_the_numbers() {
        let body = r#"{"input_data":[1,2,3,4],"priority":2,"sequence_id":7,"sequence_end":true}"#;
        let request = decode(body).unwrap();
        assert_eq!(request.priority, NonZeroU32::new(2));
        let id = "7".parse().unwrap();
        assert_eq!(request.sequence, Some(SequenceStep { id, start: false, end: true }));
        assert_eq!(
            decode(r#"{"input_data":[1,2,3,4],"priority":-1}"#).unwrap_err(),
            "malformed JSON at byte 35: field `priority`: expected a priority, got a negative \
             number",
        );
    }

    #[test]
    fn several_outputs_are_told_apart_by_their_names() {
        let output = |name: &str, values: &[f32]| {
            let tensor = Tensor::from_f32([values.len() as u64].into(), values).unwrap();
            NamedTensor::new(name.into(), tensor)
        };
        let response = InferResponse {
            id: "r".parse().unwrap(),
            model: iris().name,
            version: iris().version,
            outputs: [output("a", &[1.0]), output("b \"", &[2.0, 3.0])].into(),
            served: Served {
                worker: "worker_1".into(),
                cache: CacheOutcome::Computed,
                inference_time: Duration::ZERO,
                queue_time: Duration::ZERO,
                execution_time: Duration::ZERO,
                batch_size: 1,
                load: WorkerLoad::default(),
            },
            routed: None,
        };
        let text = String::from_utf8(encode_response(&response, false).unwrap()).unwrap();
        let expected =
            r#""output_data":{"a":[1.0],"b \"":[2.0,3.0]},"output_shape":{"a":[1],"b \"":[2]}"#;
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_is_padded() {
        for (body, message) in [
            (
                r#"{"input_data":[1,2,3]}"#,
                "`input_data` has 3 numbers, but model `iris` takes FP32 of shape [N,4] for one \
                 item: send 4 numbers, or nested arrays [[..], ..] for several rows at once",
            ),
            (
                r#"{"input_data":[[1,2,3,4,5]]}"#,
                "`input_data` has shape [1,5], but model `iris` takes FP32 of shape [N,4]: send 4 \
                 numbers, or nested arrays [[..], ..] for several rows at once",
            ),
            (
                r#"{"inputdata":[1]}"#,
                "field `input_data` is missing (found `inputdata`): expected an array of FP32 \
                 numbers of shape [N,4]",
            ),
            (
                r#"{"input_data":"1,2"}"#,
                "malformed JSON at byte 14: field `input_data`: expected an array of numbers, got \
                 a string",
            ),
            (
                r#"{"input_data":[1,2,nan,4]}"#,
                "malformed JSON at byte 19: field `input_data`: expected a number, got NaN, which \
                 JSON does not have",
            ),
            (
                r#"{"input_data":[1,2,1e39,4]}"#,
                "JSON at byte 19: field `input_data`: 1e39 does not fit FP32",
            ),
            (
                r#"{"input_data":[1]}"#,
                "`input_data` has 1 number, but model `iris` takes FP32 of shape [N,4] for one \
                 item: send 4 numbers, or nested arrays [[..], ..] for several rows at once",
            ),
            (
                r#"{"request_id":7,"input_data":[1,2,3,4]}"#,
                "malformed JSON at byte 14: field `request_id`: expected a string, got a number",
            ),
            (
                r#"{"input_data":[1,2,3,4],"shape":[2,4]}"#,
                "field `shape` says [2,4], but `input_data` has 4 numbers",
            ),
            (
                "  ",
                "the body is empty: expected {\"input_data\": [..]} with FP32 numbers of shape \
                 [N,4]",
            ),
            (
                r#"[1,2,3,4]"#,
                "malformed JSON at byte 0: expected an object such as {\"input_data\": [..]}, got \
                 an array",
            ),
            (
                r#"{"input_data":[1,2,3,4]"#,
                "malformed JSON at byte 23: expected `,` or `}`, got the end of the text",
            ),
        ] {
            assert_eq!(decode(body).unwrap_err(), message, "{body}");
        }
    }
}
