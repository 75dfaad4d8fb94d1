//! Responses, in both directions.

use std::sync::Arc;
use std::time::Duration;

use inferring_types::{
    CacheOutcome, InferResponse, ModelName, NamedTensor, RequestId, SegmentedBytes, Served,
    ServiceError, WorkerId, WorkerLoad,
};

use super::{
    Message, OutputForm, TensorEntry, check_no_rest, split, write_binary_size, write_list,
    write_tensor_head,
};
use crate::json::reader::{Cursor, JsonError};
use crate::json::writer::{self, Unwritable};
use crate::rest::Chunks;

/// Writes a response in the form that its request asked for.
///
/// # Errors
/// `InvalidArgument` where an output is to be written as JSON that JSON cannot carry: NaN or an
/// infinity, unless the form allows them, or bytes that are no UTF-8.
pub fn encode_response(
    response: &InferResponse,
    form: &OutputForm,
) -> Result<Message, ServiceError> {
    let mut head = Vec::with_capacity(384 + 96 * response.outputs.len());
    head.extend_from_slice(b"{\"id\":");
    writer::string(&mut head, response.id.as_str());
    head.extend_from_slice(b",\"model_name\":");
    writer::string(&mut head, response.model.as_str());
    head.extend_from_slice(b",\"model_version\":");
    writer::string(&mut head, response.version.as_str());
    head.extend_from_slice(b",\"parameters\":{");
    write_served(&mut head, &response.served);
    head.extend_from_slice(b"},\"outputs\":");
    let mut is_any_binary = false;
    write_list(&mut head, &response.outputs[..], |out, output| {
        write_tensor_head(out, output);
        if form.is_binary(&output.name) {
            is_any_binary = true;
            write_binary_size(out, output);
            return Ok(());
        }
        out.extend_from_slice(b",\"data\":");
        writer::elements(out, &output.tensor, form.allow_nan)
            .map_err(|reason| unwritable(output, reason))?;
        out.push(b'}');
        Ok(())
    })?;
    head.push(b'}');
    let raw = response.outputs.iter().filter(|output| form.is_binary(&output.name));
    let json_length = is_any_binary.then_some(head.len());
    Ok(Message {
        body: Chunks::new(head, raw.flat_map(|output| output.tensor.segments())),
        json_length,
    })
}

/// Reads a worker's response for `model`; `json_length` is the length of the head where raw
/// tensors follow it.
///
/// # Errors
/// `Internal`, blamed on the worker, where the response is malformed.
pub fn decode_response(
    body: SegmentedBytes,
    json_length: Option<usize>,
    id: RequestId,
    model: ModelName,
) -> Result<InferResponse, ServiceError> {
    read_response(body, json_length, id, model)
        .map_err(|error| ServiceError::failed("the worker's answer is malformed").caused_by(error))
}

/// Appends who served a request and what it took, as members of an object.
pub(in crate::rest) fn write_served(out: &mut Vec<u8>, served: &Served) {
    out.extend_from_slice(b"\"node_id\":");
    writer::string(out, served.worker.as_str());
    out.extend_from_slice(b",\"cached\":");
    let cached = served.cache == CacheOutcome::Hit;
    out.extend_from_slice(if cached { b"true" } else { b"false" });
    out.extend_from_slice(b",\"cache\":\"");
    out.extend_from_slice(served.cache.name().as_bytes());
    out.push(b'"');
    for (name, duration) in [
        (&b",\"inference_time_us\":"[..], served.inference_time),
        (b",\"queue_time_us\":", served.queue_time),
        (b",\"execution_time_us\":", served.execution_time),
    ] {
        out.extend_from_slice(name);
        writer::integer(out, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
    out.extend_from_slice(b",\"batch_size\":");
    writer::integer(out, served.batch_size);
}

/// The error for an output that JSON cannot carry. The request asked for JSON: it is the
/// client's to ask otherwise.
pub(in crate::rest) fn unwritable(output: &NamedTensor, reason: Unwritable) -> ServiceError {
    ServiceError::invalid(match reason {
        Unwritable::NotFinite => format!(
            "output `{}` holds NaN or an infinity, which JSON does not have: ask for binary output \
             at /v2/models/.., or for bare NaN with the parameter \"allow_nan\": true (a field of \
             its own in /infer)",
            output.name,
        ),
        Unwritable::NotUtf8 => format!(
            "output `{}` holds bytes that are not UTF-8, which JSON cannot carry: ask for binary \
             output at /v2/models/..",
            output.name,
        ),
    })
}

fn read_response(
    body: SegmentedBytes,
    json_length: Option<usize>,
    id: RequestId,
    model: ModelName,
) -> Result<InferResponse, ServiceError> {
    let (head, mut raw) = split(body, json_length);
    let mut entries = Vec::new();
    let mut version = None;
    let mut served = Served {
        worker: WorkerId::from(""),
        cache: CacheOutcome::Computed,
        inference_time: Duration::ZERO,
        queue_time: Duration::ZERO,
        execution_time: Duration::ZERO,
        batch_size: 0,
        load: WorkerLoad::default(),
    };
    let mut cursor = Cursor::new(&head);
    cursor.object("an object with `outputs`", |key, cursor| {
        match key {
            b"model_version" => {
                let text = cursor.string("a string")?;
                version = Some(text.parse().map_err(|error| cursor.error(format!("{error}")))?);
            }
            b"parameters" => read_served(cursor, &mut served)?,
            b"outputs" => cursor.array("an array of tensors", |cursor| {
                entries.push(TensorEntry::read(cursor)?);
                Ok(())
            })?,
            _ => cursor.skip_value()?,
        }
        Ok(())
    })?;
    cursor.finish()?;
    let outputs = entries
        .into_iter()
        .map(|entry| entry.resolve(&head, &mut raw))
        .collect::<Result<Arc<[_]>, _>>()?;
    check_no_rest(&raw)?;
    if outputs.is_empty() {
        return Err(ServiceError::invalid("field `outputs` is missing or empty"));
    }
    let version = version.ok_or_else(|| ServiceError::invalid("`model_version` is missing"))?;
    Ok(InferResponse { id, model, version, outputs, served, routed: None })
}

fn read_served(cursor: &mut Cursor<'_>, served: &mut Served) -> Result<(), JsonError> {
    cursor.object("an object", |key, cursor| {
        let microseconds =
            |cursor: &mut Cursor<'_>| cursor.unsigned("microseconds").map(Duration::from_micros);
        match key {
            b"node_id" => served.worker = WorkerId::from(&*cursor.string("a string")?),
            b"cache" => {
                let name = cursor.string("a string")?;
                served.cache = CacheOutcome::from_name(&name)
                    .ok_or_else(|| cursor.error("an unknown cache outcome"))?;
            }
            b"inference_time_us" => served.inference_time = microseconds(cursor)?,
            b"queue_time_us" => served.queue_time = microseconds(cursor)?,
            b"execution_time_us" => served.execution_time = microseconds(cursor)?,
            b"batch_size" => {
                let size = cursor.unsigned("a number of rows")?;
                served.batch_size = u32::try_from(size).unwrap_or(u32::MAX);
            }
            _ => cursor.skip_value()?,
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use inferring_types::{Blame, Tensor};

    use super::*;
    use crate::rest::metadata::tests::iris;

    fn response(values: &[f32]) -> InferResponse {
        let shape = [1, values.len() as u64].into();
        let tensor = Tensor::from_f32(shape, values).unwrap();
        InferResponse {
            id: "r1".parse().unwrap(),
            model: iris().name,
            version: iris().version,
            outputs: [NamedTensor::new("probabilities".into(), tensor)].into(),
            served: Served {
                worker: "worker_1".into(),
                cache: CacheOutcome::Joined,
                inference_time: Duration::from_micros(31),
                queue_time: Duration::from_micros(5),
                execution_time: Duration::from_micros(12),
                batch_size: 7,
                load: WorkerLoad::default(),
            },
            routed: None,
        }
    }

    fn read_back(sent: &InferResponse, binary: bool) -> InferResponse {
        let form = if binary { OutputForm::raw() } else { OutputForm::default() };
        let message = encode_response(sent, &form).unwrap();
        assert_eq!(message.json_length.is_some(), binary);
        let mut body = message.body;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx);
        let std::task::Poll::Ready(Some(Ok(frame))) = polled else { panic!("one part") };
        let body = frame.into_data().unwrap();
        decode_response(body.into(), message.json_length, sent.id.clone(), sent.model.clone())
            .unwrap()
    }

    #[test]
    fn a_response_reads_back_in_both_forms() {
        let sent = response(&[0.1, 0.2, 0.7]);
        for binary in [true, false] {
            let read = read_back(&sent, binary);
            assert_eq!(read.outputs, sent.outputs);
            assert_eq!(read.served.worker, sent.served.worker);
            assert_eq!(read.served.cache, sent.served.cache);
            assert_eq!(read.served.inference_time, sent.served.inference_time);
            assert_eq!(read.served.batch_size, sent.served.batch_size);
        }
    }

    #[test]
    fn nan_goes_raw_but_not_as_json() {
        let sent = response(&[f32::NAN]);
        let read = read_back(&sent, true);
        assert_eq!(read.outputs[0].tensor.data(), sent.outputs[0].tensor.data());
        let error = encode_response(&sent, &OutputForm::default()).unwrap_err();
        assert!(error.to_string().contains("binary output"), "{error}");
    }

    #[test]
    fn a_malformed_answer_is_the_workers_fault() {
        let body = b"{\"outputs\":[]}".to_vec();
        let error = decode_response(body.into(), None, "r".parse().unwrap(), iris().name);
        assert_eq!(error.unwrap_err().blame(), Blame::WorkerFailed);
    }
}
