//! Requests, in both directions.

use std::time::Duration;

use bytes::Bytes;
use inferring_types::{InferRequest, NamedTensor, RequestId, ServiceError, TensorName};

use super::{
    Message, TensorEntry, check_no_rest, split, write_binary_size, write_list, write_tensor_head,
};
use crate::json::reader::{Cursor, JsonError};
use crate::json::writer;
use crate::rest::Chunks;

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
    /// For each output asked for, whether it is wanted raw, where the request says so.
    binary_by_output: Vec<Option<bool>>,
    /// Whether outputs are wanted raw that do not say so themselves.
    binary_output: bool,
}

impl DecodedRequest {
    /// Whether the output of that name is to be answered raw.
    pub fn wants_binary(&self, output: &TensorName) -> bool {
        let asked = self.outputs.iter().position(|name| name == output);
        asked.and_then(|index| self.binary_by_output[index]).unwrap_or(self.binary_output)
    }
}

/// Reads a request; `json_length` is the length of the head where raw tensors follow it.
///
/// # Errors
/// `InvalidArgument`: malformed JSON (with the position), a missing or mistyped field, a tensor
/// whose bytes do not fit its datatype and shape, or lengths that do not add up.
pub fn decode_request(
    body: &Bytes,
    json_length: Option<usize>,
) -> Result<DecodedRequest, ServiceError> {
    let (head, mut raw) = split(body, json_length);
    let mut request = DecodedRequest::default();
    let mut entries = Vec::new();
    let mut cursor = Cursor::new(&head);
    cursor.object("an object with `inputs`", |key, cursor| {
        match key {
            b"id" => {
                let text = cursor.string("a string")?;
                if !text.is_empty() {
                    let id = text.parse().map_err(|error| cursor.error(format!("{error}")))?;
                    request.id = Some(id);
                }
            }
            b"parameters" => request.read_parameters(cursor)?,
            b"inputs" => cursor.array("an array of tensors", |cursor| {
                entries.push(TensorEntry::read(cursor)?);
                Ok(())
            })?,
            b"outputs" => cursor.array("an array of output objects", |cursor| {
                request.read_output(cursor)?;
                Ok(())
            })?,
            _ => drop(cursor.skip_value()?),
        }
        Ok(())
    })?;
    cursor.finish()?;
    if entries.is_empty() {
        return Err(ServiceError::invalid("field `inputs` is missing or empty"));
    }
    for entry in entries {
        request.inputs.push(entry.resolve(&head, &mut raw)?);
    }
    check_no_rest(&raw)?;
    Ok(request)
}

/// Writes a request, all tensors raw, asking for raw outputs.
pub fn encode_request(request: &InferRequest) -> Message {
    let mut head = Vec::with_capacity(192 + 96 * request.inputs.len());
    head.extend_from_slice(b"{\"id\":");
    writer::string(&mut head, request.id.as_str());
    head.extend_from_slice(b",\"parameters\":{\"binary_data_output\":true},\"inputs\":");
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
    let body = Chunks::new(head, request.inputs.iter().map(|input| input.tensor.data()));
    Message { body, json_length }
}

impl DecodedRequest {
    fn read_parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        cursor.object("an object", |key, cursor| {
            match key {
                b"binary_data_output" => self.binary_output = cursor.boolean("true or false")?,
                b"timeout" => {
                    let microseconds = cursor.unsigned("microseconds")?;
                    self.timeout = (microseconds > 0).then(|| Duration::from_micros(microseconds));
                }
                _ => drop(cursor.skip_value()?),
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
                b"parameters" => cursor.member_of_object(b"binary_data", |cursor| {
                    binary = Some(cursor.boolean("true or false")?);
                    Ok(())
                })?,
                _ => drop(cursor.skip_value()?),
            }
            Ok(())
        })?;
        self.outputs.push(name.ok_or_else(|| cursor.error("an output without `name`"))?);
        self.binary_by_output.push(binary);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http_body::Body as _;
    use inferring_types::{DataType, Deadline, Tensor};

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
        decode_request(&body, Some(head.len())).unwrap_err().to_string()
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
            };
            let (body, json_length) = bytes_of(encode_request(&request));
            let read = decode_request(&body, json_length).unwrap();
            assert_eq!(read.id, Some(request.id));
            assert_eq!(read.inputs, request.inputs);
            assert_eq!(read.outputs, request.outputs);
            assert!(read.wants_binary(&"y".into()));
        }
    }

    #[test]
    fn json_data_may_come_before_its_datatype() {
        let body = Bytes::from_static(
            br#"{"inputs":[{"data":[[1,2],[3,4]],"shape":[2,2],"name":"x","datatype":"INT8"}],
                "outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"z"}],
                "parameters":{"timeout":1500}}"#,
        );
        let request = decode_request(&body, None).unwrap();
        assert_eq!(request.inputs[0].tensor.datatype(), DataType::Int8);
        assert_eq!(request.inputs[0].tensor.data()[..], [1, 2, 3, 4]);
        assert!(request.wants_binary(&"y".into()) && !request.wants_binary(&"z".into()));
        assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
    }

    #[test]
    fn a_missing_size_follows_from_shape_and_datatype() {
        let head = r#"{"inputs":[{"name":"x","datatype":"INT16","shape":[2]}]}"#;
        let body = Bytes::from([head.as_bytes(), &[1, 0, 2, 0]].concat());
        let request = decode_request(&body, Some(head.len())).unwrap();
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
                "tensor `x`: 8 bytes are announced, but 4 follow the JSON part",
            ),
            (
                sized(8),
                &[0; 8],
                "tensor `x`: FP32 tensor of shape [1] takes 4 bytes, got 8",
            ),
            (sized(4), &[0; 5], "1 bytes remain behind the last announced tensor"),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1152921504606846976]}]}"#.into(),
                &[0; 4],
                "tensor `x`: 4611686018427387904 bytes are announced, but 4 follow the JSON part",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[4294967296,4294967296,4294967296]}]}"#.into(),
                &[],
                "tensor `x`: has neither `data` nor a `binary_data_size` parameter",
            ),
            (r#"{"inputs":[]}"#.into(), &[], "field `inputs` is missing or empty"),
            (
                r#"{"inputs":[{"name":"x","datatype":"FLOAT","shape":[1],"data":[1]}]}"#.into(),
                &[],
                "tensor `x`: unknown datatype `FLOAT`: expected one of BOOL, UINT8, UINT16, \
                 UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"data":[1]}]}"#.into(),
                &[],
                "malformed JSON at byte 50: expected a size, got a negative number",
            ),
        ] {
            assert_eq!(error(&head, raw), message);
        }
    }
}
