//! Requests, in both directions.

use std::num::NonZeroU32;
use std::time::Duration;

use inferring_types::{
    Dimension, InferRequest, ModelMetadata, NamedTensor, RequestId, SegmentedBytes, SequenceStep,
    ServiceError, Shape, Tensor, TensorName, TensorSpec,
};

use super::{
    Message, OutputForm, TensorEntry, check_no_rest, refuse_shared_memory, split,
    write_binary_size, write_list, write_tensor_head,
};
use crate::json::counted;
use crate::json::reader::{Cursor, JsonError};
use crate::json::writer;
use crate::rest::Chunks;
use crate::rest::standing::{self, Standing};

/// A decoded request, its tensors not yet held against a model.
#[derive(Debug, Default)]
pub struct DecodedRequest {
    /// The id in the body, if any.
    pub id: Option<RequestId>,
    /// The `timeout` parameter, if any.
    pub timeout: Option<Duration>,
    /// The inputs in the order given.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; empty for all.
    pub outputs: Vec<TensorName>,
    /// How they are to be written.
    pub form: OutputForm,
    /// How urgent it is, if it says so.
    pub priority: Option<NonZeroU32>,
    /// Its place in a sequence, if it is in one.
    pub sequence: Option<SequenceStep>,
}

/// Reads a request; `json_length` is the length of the head where raw tensors follow it.
///
/// # Errors
/// `InvalidArgument`: malformed JSON (with the position), a missing or mistyped field, a tensor
/// whose bytes do not fit its datatype and shape, lengths that do not add up, or a wish that is
/// not supported (shared memory, classification).
pub fn decode_request(
    body: SegmentedBytes,
    json_length: Option<usize>,
) -> Result<DecodedRequest, ServiceError> {
    let (head, mut raw) = split(body, json_length);
    let mut request = DecodedRequest::default();
    let mut entries = None;
    let mut standing = Standing::default();
    let mut cursor = Cursor::new(&head);
    cursor.object("an object with `inputs`", |key, cursor| {
        match key {
            b"id" => {
                let text = cursor.string("a string")?;
                if !text.is_empty() {
                    let id = text.parse().map_err(|error| cursor.misfit(format!("{error}")))?;
                    request.id = Some(id);
                }
            }
            b"parameters" => request.read_parameters(&mut standing, cursor)?,
            b"inputs" => {
                let entries = entries.insert(Vec::new());
                cursor.array("an array of tensors", |cursor| {
                    entries.push(TensorEntry::read(cursor)?);
                    Ok(())
                })?;
            }
            b"outputs" => cursor.array("an array of output objects", |cursor| {
                request.read_output(cursor)?;
                Ok(())
            })?,
            _ => cursor.skip_value()?,
        }
        Ok(())
    })?;
    cursor.finish()?;
    let entries = entries.ok_or_else(|| {
        ServiceError::invalid("field `inputs` is missing: expected {\"inputs\": [..]}")
    })?;
    for entry in entries {
        request.inputs.push(entry.resolve(&head, &mut raw)?);
    }
    check_no_rest(&raw)?;
    request.priority = standing.priority;
    request.sequence = standing.sequence();
    Ok(request)
}

/// Reads a request that is nothing but one raw tensor, for `model`. All outputs are wanted raw.
///
/// # Errors
/// `InvalidArgument` where the model takes other than one input, or where the tensor's shape
/// cannot be told from its length.
pub fn decode_raw_request(
    body: &SegmentedBytes,
    model: &ModelMetadata,
) -> Result<DecodedRequest, ServiceError> {
    let [spec] = &model.inputs[..] else {
        return Err(ServiceError::invalid(format!(
            "a body without a JSON part (Inference-Header-Content-Length: 0) is one raw tensor, \
             but model `{}` takes {}",
            model.name,
            counted(model.inputs.len() as u64, "input"),
        )));
    };
    let tensor = raw_tensor(body, spec, model).ok_or_else(|| {
        ServiceError::invalid(format!(
            "{} without a JSON part (Inference-Header-Content-Length: 0) are no input `{}` of \
             model `{}`, which takes {} {} in a batch of one",
            counted(body.len() as u64, "byte"),
            spec.name,
            model.name,
            spec.datatype,
            spec.shape,
        ))
    })?;
    let inputs = vec![NamedTensor::new(spec.name.clone(), tensor)];
    Ok(DecodedRequest { inputs, form: OutputForm::raw(), ..DecodedRequest::default() })
}

/// The tensor that `data` makes where there is only one way to shape it.
fn raw_tensor(data: &SegmentedBytes, spec: &TensorSpec, model: &ModelMetadata) -> Option<Tensor> {
    let axis = model.batching.axes().and_then(|axes| *axes.inputs.first()?);
    let dimensions = || spec.shape.dimensions().iter().enumerate();
    let fixed = |(at, dimension): (usize, &Dimension)| match dimension.fixed() {
        None if axis == Some(at) => Some(1),
        fixed => fixed,
    };
    let known = dimensions().filter_map(fixed).try_fold(1u64, u64::checked_mul)?;
    let (elements, data) = match spec.datatype.element_size() {
        Some(size) => ((data.len() / size) as u64, data.clone()),
        None => {
            // The body is the one string itself.
            let length = u32::try_from(data.len()).ok()?;
            (1, [&length.to_le_bytes()[..], data.contiguous()].concat().into())
        }
    };
    let rest = match dimensions().filter(|&d| fixed(d).is_none()).count() {
        0 => 1,
        1 if spec.shape.is_ranked() => elements.checked_div(known)?,
        _ => return None,
    };
    let shape = Shape::new(dimensions().map(|d| fixed(d).unwrap_or(rest)));
    Tensor::segmented(spec.datatype, shape, data).ok()
}

/// Writes a request, all tensors raw, asking for raw outputs.
pub fn encode_request(request: &InferRequest) -> Message {
    let mut head = Vec::with_capacity(192 + 96 * request.inputs.len());
    head.extend_from_slice(b"{\"id\":");
    writer::string(&mut head, request.id.as_str());
    head.extend_from_slice(b",\"parameters\":{\"binary_data_output\":true");
    standing::write_members(&mut head, request);
    head.extend_from_slice(b"},\"inputs\":");
    write_list(&mut head, &request.inputs, |out, input| {
        write_tensor_head(out, input);
        write_binary_size(out, input);
        Ok(())
    })
    .expect("raw tensors need no conversion");
    if !request.outputs.is_empty() {
        head.extend_from_slice(b",\"outputs\":");
        write_list(&mut head, &request.outputs, |out, name| {
            out.extend_from_slice(b"{\"name\":");
            writer::string(out, name.as_str());
            out.push(b'}');
            Ok(())
        })
        .expect("names need no conversion");
    }
    head.push(b'}');
    let json_length = Some(head.len());
    let body = Chunks::new(head, request.inputs.iter().flat_map(|input| input.tensor.segments()));
    Message { body, json_length }
}

impl DecodedRequest {
    fn read_parameters(
        &mut self,
        standing: &mut Standing,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), JsonError> {
        cursor.object("an object", |key, cursor| {
            match key {
                b"binary_data_output" => {
                    self.form.binary_by_default = cursor.boolean("true or false")?;
                }
                b"allow_nan" => self.form.allow_nan = cursor.boolean("true or false")?,
                b"timeout" => {
                    let microseconds = cursor.unsigned("microseconds")?;
                    self.timeout = (microseconds > 0).then(|| Duration::from_micros(microseconds));
                }
                _ if standing.read_member(key, cursor)? => {}
                _ => cursor.skip_value()?,
            }
            Ok(())
        })
    }

    fn read_output(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        let mut name = None;
        let mut binary = None;
        cursor.object("an output object", |key, cursor| {
            match key {
                b"name" => name = Some(TensorName::from(&*cursor.string("a string")?)),
                b"parameters" => cursor.object("an object", |key, cursor| {
                    match key {
                        b"binary_data" => binary = Some(cursor.boolean("true or false")?),
                        b"classification" => refuse_classification(cursor)?,
                        _ => {
                            refuse_shared_memory(key, cursor)?;
                            cursor.skip_value()?;
                        }
                    }
                    Ok(())
                })?,
                _ => cursor.skip_value()?,
            }
            Ok(())
        })?;
        let name = name.ok_or_else(|| cursor.misfit("an output has no field `name`"))?;
        if let Some(binary) = binary {
            self.form.binary_by_output.push((name.clone(), binary));
        }
        self.outputs.push(name);
        Ok(())
    }
}

/// Refuses to turn an output into the labels of its largest elements; 0 asks for none.
fn refuse_classification(cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
    let start = cursor.clone();
    if cursor.unsigned("a number of classes")? == 0 {
        return Ok(());
    }
    Err(start.misfit(
        "parameter `classification` is not supported: ask for the output itself and sort it",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use http_body::Body as _;
    use inferring_types::{Batching, DataType, Deadline, RowAxes, ShapeSpec, Tensor};

    use super::*;

    fn bytes_of(message: Message) -> (Bytes, Option<usize>) {
        let mut body = message.body;
        let mut whole = Vec::new();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(Ok(frame))) =
            std::pin::Pin::new(&mut body).poll_frame(&mut cx)
        {
            whole.extend_from_slice(&frame.into_data().unwrap());
        }
        (whole.into(), message.json_length)
    }

    fn error(head: &str, raw: &[u8]) -> String {
        let body = Bytes::from([head.as_bytes(), raw].concat());
        decode_request(body.into(), Some(head.len())).unwrap_err().to_string()
    }

    #[test]
    fn a_request_reads_back_raw_for_small_and_large_tensors() {
        for width in [3u64, 50_000] {
            let values: Vec<f32> = (0..width).map(|v| v as f32).collect();
            let request = InferRequest {
                id: "r \"1\"".parse().unwrap(),
                model: "m".parse().unwrap(),
                version: None,
                inputs: ["a", "b"]
                    .map(|name| {
                        let tensor = Tensor::from_f32([1, width].into(), &values).unwrap();
                        NamedTensor::new(name.into(), tensor)
                    })
                    .into(),
                outputs: vec!["y".into()],
                deadline: Deadline::after(Instant::now(), Duration::from_secs(1)),
                priority: None,
                sequence: None,
            };
            let (body, json_length) = bytes_of(encode_request(&request));
            let read = decode_request(body.into(), json_length).unwrap();
            assert_eq!(read.id, Some(request.id));
            assert_eq!(read.inputs, request.inputs);
            assert_eq!(read.outputs, request.outputs);
            assert!(read.form.is_binary(&"y".into()));
        }
    }

    #[test]
    fn json_data_may_come_before_its_datatype() {
        let body = Bytes::from_static(
            br#"{"inputs":[{"data":[[1,2],[3,4]],"shape":[2,2],"name":"x","datatype":"INT8"}],
                "outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"z"}],
                "parameters":{"timeout":1500}}"#,
        );
        let request = decode_request(body.into(), None).unwrap();
        assert_eq!(request.inputs[0].tensor.datatype(), DataType::Int8);
        assert_eq!(request.inputs[0].tensor.data()[..], [1, 2, 3, 4]);
        assert!(request.form.is_binary(&"y".into()) && !request.form.is_binary(&"z".into()));
        assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
    }

    #[test]
    fn a_missing_size_follows_from_shape_and_datatype() {
        let head = r#"{"inputs":[{"name":"x","datatype":"INT16","shape":[2]}]}"#;
        let body = Bytes::from([head.as_bytes(), &[1, 0, 2, 0]].concat());
        let request = decode_request(body.into(), Some(head.len())).unwrap();
        assert_eq!(request.inputs[0].tensor.data()[..], [1, 0, 2, 0]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let sized = |size: u64| {
            format!(
                r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"parameters":{{"binary_data_size":{size}}}}}]}}"#
            )
        };
        for (head, raw, message) in [
            (
                sized(8),
                &[0u8; 4][..],
                "tensor `x`: takes 8 bytes, but 4 follow the JSON part",
            ),
            (
                sized(8),
                &[0; 8],
                "tensor `x`: FP32 tensor of shape [1] takes 4 bytes, got 8",
            ),
            (sized(4), &[0; 5], "1 byte too many behind the last tensor"),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1152921504606846976]}]}"#.into(),
                &[0; 4],
                "tensor `x`: takes 4611686018427387904 bytes, but 4 follow the JSON part",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[4294967296,4294967296,4294967296]}]}"#.into(),
                &[],
                "tensor `x`: has neither `data` nor raw bytes behind the JSON part",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[4611686018427387904]}]}"#.into(),
                b"\x01\0\0\0a",
                "tensor `x`: has neither `data` nor raw bytes behind the JSON part",
            ),
            (r#"{}"#.into(), &[], "field `inputs` is missing: expected {\"inputs\": [..]}"),
            (
                r#"{"inputs":[{"name":"x","datatype":"FLOAT","shape":[1],"data":[1]}]}"#.into(),
                &[],
                "tensor `x`: unknown datatype `FLOAT`: expected one of BOOL, UINT8, UINT16, \
                 UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"data":[1]}]}"#.into(),
                &[],
                "malformed JSON at byte 50: tensor `x`, field `shape`: expected a size, got a negative \
                 number",
            ),
        ] {
            assert_eq!(error(&head, raw), message);
        }
    }
    fn json_error(body: &str) -> String {
        decode_request(Bytes::copy_from_slice(body.as_bytes()).into(), None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_wrong_with_a_tensor_is_said_by_its_name() {
        let tensor = |members: &str| format!(r#"{{"inputs":[{{{members}}}]}}"#);
        for (members, message) in [
            (
                r#""datatype":"FP32","shape":[1],"data":[1]"#,
                "a tensor has no field `name`: every one of them needs it",
            ),
            (r#""name":"x","shape":[1],"data":[1]"#, "tensor `x`: field `datatype` is missing"),
            (r#""name":"x","datatype":"FP32","data":[1]"#, "tensor `x`: field `shape` is missing"),
            (
                r#""name":"x","datatype":"UINT8","shape":[2],"data":[1,256]"#,
                "JSON at byte 64: tensor `x`, field `data`: 256 does not fit UINT8, which holds 0 \
                 to 255",
            ),
            (
                r#""data":[1,256],"name":"x","datatype":"UINT8","shape":[2]"#,
                "JSON at byte 22: tensor `x`, field `data`: 256 does not fit UINT8, which holds 0 \
                 to 255",
            ),
            (
                r#""name":"x","datatype":"FP32","shape":[4],"data":[[1,2],[3,4]]"#,
                "tensor `x`: `data` is nested as [2,2], but the shape is [4]",
            ),
            (
                r#""name":"x","datatype":"FP32","shape":[2],"data":[1]"#,
                "tensor `x`: `data` has 1 element, but shape [2] holds 2 elements",
            ),
            (
                r#""name":"x","datatype":"FP32","shape":[1],"data":[1],"datatype":"FP16""#,
                "tensor `x`: field `datatype` is given twice, and differs",
            ),
            (
                r#""name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}"#,
                "tensor `x`: has both `data` and `binary_data_size`",
            ),
        ] {
            assert_eq!(json_error(&tensor(members)), message, "{members}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_and_not_passed_over() {
        let shared = "shared memory is not supported: send tensors in the message, as JSON or raw";
        for (body, message) in [
            (r#"{"inputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#, shared),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"shared_memory_offset":0}}]}"#,
                shared,
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#,
                "parameter `classification` is not supported: ask for the output itself and sort it",
            ),
            (r#"{"inputs":[],"outputs":[{"parameters":{}}]}"#, "an output has no field `name`"),
        ] {
            let error = json_error(body);
            let (place, problem) = error.split_once(": ").unwrap();
            assert!(place.starts_with("JSON at byte "), "{error}");
            assert_eq!(problem, message, "{body}");
        }
    }

    #[test]
    fn parameters_without_effect_are_accepted() {
        let body = br#"{"inputs":[],"parameters":{"priority":0,"sequence_id":0,
            "sequence_start":false,"sequence_end":true,"anything":[1,{}]},"outputs":[]}"#;
        let request = decode_request(Bytes::from_static(body).into(), None).unwrap();
        assert!(request.inputs.is_empty() && request.outputs.is_empty());
        assert_eq!((request.priority, request.sequence), (None, None));
    }

    fn with_parameters(parameters: &str) -> Result<DecodedRequest, ServiceError> {
        let body = format!(r#"{{"parameters":{{{parameters}}},"inputs":[]}}"#);
        decode_request(body.into_bytes().into(), None)
    }

    #[test]
    fn a_sequence_is_named_by_a_number_or_a_text() {
        let step =
            |id: &str, start, end| Some(SequenceStep { id: id.parse().unwrap(), start, end });
        for (parameters, expected) in [
            (r#""sequence_id":7"#, step("7", false, false)),
            (r#""sequence_id":"7","sequence_end":true"#, step("7", false, true)),
            (
                r#""sequence_start":true,"sequence_id":18446744073709551615"#,
                step("18446744073709551615", true, false),
            ),
            (r#""sequence_id":"a \"b\" c""#, step("a \"b\" c", false, false)),
            (r#""sequence_id":"","sequence_start":true"#, None),
            (r#""sequence_start":true"#, None),
        ] {
            assert_eq!(with_parameters(parameters).unwrap().sequence, expected, "{parameters}");
        }
    }

    #[test]
    fn what_can_be_no_sequence_or_priority_is_refused() {
        let long = format!(r#""sequence_id":"{}""#, "x".repeat(129));
        for (parameters, message) in [
            (
                r#""sequence_id":-1"#,
                "malformed JSON at byte 29: expected the id of a sequence, as a number or a text, \
                 got a negative number",
            ),
            (
                r#""sequence_id":18446744073709551616"#,
                "JSON at byte 29: expected the id of a sequence, as a number or a text, got \
                 18446744073709551616",
            ),
            (&*long, "JSON at byte 29: the id of a sequence takes 1 to 128 bytes, got 129"),
            (
                r#""sequence_start":1"#,
                "malformed JSON at byte 32: expected true or false, got a number",
            ),
            (
                r#""priority":"high""#,
                "malformed JSON at byte 26: expected a priority, got a string",
            ),
        ] {
            assert_eq!(with_parameters(parameters).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn priority_and_sequence_read_back_and_take_no_bytes_where_there_are_none() {
        let tensor = Tensor::from_f32([1].into(), &[1.0]).unwrap();
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(1));
        let inputs = vec![NamedTensor::new("x".into(), tensor)];
        let mut request = InferRequest::new("m".parse().unwrap(), inputs, deadline);
        let (plain, _) = bytes_of(encode_request(&request));
        let parameters = br#""parameters":{"binary_data_output":true},"inputs""#;
        assert!(plain.windows(parameters.len()).any(|part| part == parameters));
        for (id, start, end) in [("7", true, false), ("a \"b\"", false, true)] {
            request.priority = NonZeroU32::new(3);
            request.sequence = Some(SequenceStep { id: id.parse().unwrap(), start, end });
            let (body, json_length) = bytes_of(encode_request(&request));
            let read = decode_request(body.into(), json_length).unwrap();
            assert_eq!(read.priority, request.priority);
            assert_eq!(read.sequence, request.sequence);
        }
    }

    #[test]
    fn several_raw_tensors_need_no_sizes() {
        let head = r#"{"inputs":[{"name":"a","datatype":"BYTES","shape":[2]},
            {"name":"none","datatype":"FP32","shape":[0,4]},
            {"name":"b","datatype":"INT16","shape":[1]}]}"#;
        let raw = b"\x01\0\0\0a\0\0\0\0\x07\0";
        let body = Bytes::from([head.as_bytes(), raw].concat());
        let request = decode_request(body.into(), Some(head.len())).unwrap();
        let data = |index: usize| &request.inputs[index].tensor.data()[..];
        assert_eq!((data(0), data(1), data(2)), (&raw[..9], &[][..], &[7, 0][..]));
    }

    fn model(inputs: &[(DataType, &[Option<u64>])], axis: Option<usize>) -> ModelMetadata {
        let specs = inputs.iter().enumerate().map(|(index, (datatype, shape))| TensorSpec {
            name: format!("x{index}").as_str().into(),
            datatype: *datatype,
            shape: ShapeSpec::new(
                shape.iter().map(|d| d.map_or(Dimension::Dynamic(None), Dimension::Fixed)),
            ),
        });
        let inputs: Vec<_> = specs.collect();
        let axes = RowAxes { inputs: vec![axis; inputs.len()], outputs: vec![] };
        ModelMetadata {
            batching: match axis {
                Some(_) => Batching::Rows { reason: String::new(), axes },
                None => Batching::Alone { reason: String::new() },
            },
            inputs,
            ..crate::rest::metadata::tests::iris()
        }
    }

    #[test]
    fn a_body_without_head_is_the_one_input_of_a_batch_of_one() {
        let fp32 = DataType::Fp32;
        for (model, bytes, shape) in [
            (model(&[(fp32, &[None, Some(4)])], Some(0)), 16, Some(Shape::from([1, 4]))),
            (model(&[(fp32, &[None, Some(4)])], Some(0)), 32, None),
            (model(&[(fp32, &[None, Some(4)])], None), 32, Some(Shape::from([2, 4]))),
            (model(&[(fp32, &[Some(2), None, None])], Some(1)), 24, Some(Shape::from([2, 1, 3]))),
            (model(&[(fp32, &[None, None, None])], Some(0)), 24, None),
            (model(&[(fp32, &[None, Some(3)])], None), 0, Some(Shape::from([0, 3]))),
            (model(&[(fp32, &[Some(0), None])], None), 4, None),
            (model(&[(fp32, &[])], None), 4, Some(Shape::default())),
            (model(&[(fp32, &[Some(3)])], None), 13, None),
            (model(&[(DataType::Bytes, &[None, Some(1)])], Some(0)), 5, Some(Shape::from([1, 1]))),
            (model(&[(DataType::Bytes, &[Some(2)])], None), 5, None),
            (model(&[(fp32, &[None]), (fp32, &[None])], None), 4, None),
        ] {
            let body = Bytes::from(vec![7; bytes]);
            let decoded = decode_raw_request(&body.into(), &model);
            let got = decoded.as_ref().map(|request| request.inputs[0].tensor.shape());
            assert_eq!(got.ok(), shape.as_ref(), "{bytes} bytes for {:?}", model.inputs);
            assert!(decoded.is_err() || decoded.unwrap().form.is_binary(&"y".into()));
        }
    }

    #[test]
    fn a_string_without_head_gets_its_length() {
        let model = model(&[(DataType::Bytes, &[Some(1)])], None);
        let request = decode_raw_request(&Bytes::from_static(b"hi").into(), &model).unwrap();
        assert_eq!(request.inputs[0].tensor.data()[..], *b"\x02\0\0\0hi");
    }
}
