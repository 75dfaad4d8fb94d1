//! Requests.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use inferring_types::{
    Blame, DataType, ErrorKind, NamedTensor, RequestId, SequenceId, SequenceStep, ServiceError,
    Shape, Tensor, TensorName,
};

use super::contents;
use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{InferTensorContents, ModelInferRequest};
use super::parameters::{self, Parameters};
use crate::standing::{self, SequenceParameters};

/// A decoded request, its tensors not yet held against a model.
#[derive(Debug)]
pub struct DecodedRequest {
    /// Its id, if it has one.
    pub id: Option<RequestId>,
    /// The `timeout` parameter, if any.
    pub timeout: Option<Duration>,
    /// The inputs in the order given.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; empty for all.
    pub outputs: Vec<TensorName>,
    /// The form in which outputs are wanted.
    pub form: TensorForm,
    /// Whether the answer is to say that it is the last one to this request.
    pub marks_final: bool,
    /// How urgent it is, if it says so.
    pub priority: Option<NonZeroU32>,
    /// Its place in a sequence, if it is in one.
    pub sequence: Option<SequenceStep>,
}

/// How the elements of tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorForm {
    /// As bytes, in `raw_input_contents` and `raw_output_contents`.
    Raw,
    /// One by one, in a tensor's `contents`.
    Typed,
}

/// Reads what a request asks for; the model that it names is the caller's to find. The answer's
/// form is that of the inputs, unless the parameter `binary_data_output` sets it.
///
/// # Errors
/// `InvalidArgument`: a negative dimension, elements that do not fit datatype and shape, raw and
/// typed elements in one request, a parameter of the wrong type. `Unimplemented`: shared memory and
/// classification.
pub fn decode_request(request: ModelInferRequest) -> Result<DecodedRequest, ServiceError> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } =
        request;
    let id = match id.as_str() {
        "" => None,
        id => Some(
            id.parse().map_err(|error| ServiceError::invalid(format!("field `id`: {error}")))?,
        ),
    };
    let priority = parameters::unsigned(&parameters, "priority", "a level, as `uint64_param`")?;
    let is_typed = inputs.iter().any(|input| input.contents.is_some()) && raw.is_empty();
    let form = match parameters::boolean(&parameters, "binary_data_output")? {
        Some(false) => TensorForm::Typed,
        None if is_typed => TensorForm::Typed,
        Some(true) | None => TensorForm::Raw,
    };
    Ok(DecodedRequest {
        id,
        timeout: parameters::microseconds(&parameters, "timeout")?,
        inputs: decode_inputs(inputs, raw)?,
        outputs: outputs.into_iter().map(decode_output).collect::<Result<_, _>>()?,
        form,
        marks_final: parameters::boolean(&parameters, "triton_enable_empty_final_response")?
            .unwrap_or(false),
        priority: standing::priority(priority),
        sequence: decode_sequence(&parameters)?,
    })
}

/// The sequence that a request belongs to, before anything else of it is read; `None` also where
/// reading it will say what is wrong.
pub fn sequence_of(request: &ModelInferRequest) -> Option<SequenceId> {
    parameters::sequence_id(&request.parameters, "sequence_id").ok().flatten()
}

/// The place in a sequence that a request's parameters name.
fn decode_sequence(parameters: &Parameters) -> Result<Option<SequenceStep>, ServiceError> {
    let is_set = |name| parameters::boolean(parameters, name).map(Option::unwrap_or_default);
    let sequence = SequenceParameters {
        id: parameters::sequence_id(parameters, "sequence_id")?,
        start: is_set("sequence_start")?,
        end: is_set("sequence_end")?,
    };
    Ok(sequence.step())
}

fn decode_inputs(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
) -> Result<Vec<NamedTensor>, ServiceError> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(ServiceError::invalid(format!(
            "`raw_input_contents` has {} entries for {} inputs",
            raw.len(),
            inputs.len(),
        )));
    }
    let mut raw = raw.into_iter();
    inputs.into_iter().map(|input| decode_input(input, raw.next())).collect()
}

fn decode_input(input: InferInputTensor, raw: Option<Bytes>) -> Result<NamedTensor, ServiceError> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    let wrong = |what: String| ServiceError::invalid(format!("tensor `{name}`: {what}"));
    refuse_shared_memory(&parameters)
        .map_err(|what| unimplemented(format!("tensor `{name}`: {what}")))?;
    let datatype: DataType = datatype.parse().map_err(|error| wrong(format!("{error}")))?;
    let shape = decode_shape(&shape).map_err(wrong)?;
    let data = match (raw, contents) {
        (Some(raw), None) => raw,
        (Some(raw), Some(contents)) if contents == InferTensorContents::default() => raw,
        (Some(_), Some(_)) => {
            return Err(wrong("has both `contents` and an entry in `raw_input_contents`".into()));
        }
        (None, contents) => {
            contents::to_bytes(&contents.unwrap_or_default(), datatype, shape.elements())
                .map_err(wrong)?
        }
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|error| wrong(format!("{error}")))?;
    Ok(NamedTensor::new(name.as_str().into(), tensor))
}

fn decode_shape(sizes: &[i64]) -> Result<Shape, String> {
    if sizes.iter().any(|&size| size < 0) {
        let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
        return Err(format!("shape [{}] has a negative dimension", sizes.join(",")));
    }
    Ok(Shape::new(sizes.iter().map(|size| size.unsigned_abs())))
}

fn decode_output(output: InferRequestedOutputTensor) -> Result<TensorName, ServiceError> {
    let InferRequestedOutputTensor { name, parameters } = output;
    refuse_shared_memory(&parameters)
        .and_then(|()| refuse_classification(&parameters))
        .map_err(|what| unimplemented(format!("output `{name}`: {what}")))?;
    Ok(name.as_str().into())
}

/// Refuses the parameters that say that a tensor is not in the message.
fn refuse_shared_memory(parameters: &Parameters) -> Result<(), &'static str> {
    if parameters.keys().any(|name| name.starts_with("shared_memory_")) {
        return Err("shared memory is not supported: send tensors in the message");
    }
    Ok(())
}

/// Refuses to turn an output into the labels of its largest elements.
fn refuse_classification(parameters: &Parameters) -> Result<(), &'static str> {
    if parameters::is_given(parameters, "classification") {
        return Err(
            "parameter `classification` is not supported: ask for the output itself and sort it",
        );
    }
    Ok(())
}

fn unimplemented(message: String) -> ServiceError {
    ServiceError::new(ErrorKind::Unimplemented, Blame::Client, message)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::grpc::inference::InferParameter;
    use crate::grpc::inference::infer_parameter::ParameterChoice;

    fn input(datatype: &str, shape: &[i64]) -> InferInputTensor {
        InferInputTensor {
            name: "x".into(),
            datatype: datatype.into(),
            shape: shape.into(),
            ..InferInputTensor::default()
        }
    }

    fn typed(values: &[f32]) -> Option<InferTensorContents> {
        Some(InferTensorContents { fp32_contents: values.into(), ..InferTensorContents::default() })
    }

    fn of(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
        ModelInferRequest {
            inputs,
            raw_input_contents: raw.iter().map(|raw| Bytes::from_static(raw)).collect(),
            ..ModelInferRequest::default()
        }
    }

    fn with(name: &str, choice: ParameterChoice) -> ModelInferRequest {
        let mut request = of(vec![], &[]);
        let parameter = InferParameter { parameter_choice: Some(choice) };
        request.parameters.insert(name.into(), parameter);
        request
    }

    #[test]
    fn raw_tensors_are_slices_of_the_message() {
        let mut request =
            of(vec![input("FP32", &[1, 2]), input("UINT8", &[0, 3])], &[&[7; 8], &[]]);
        request.id = "r1".into();
        let wire = Bytes::from(request.encode_to_vec());
        let message = ModelInferRequest::decode(wire.clone()).unwrap();
        let decoded = decode_request(message).unwrap();
        assert_eq!(decoded.id.unwrap().as_str(), "r1");
        assert_eq!(decoded.form, TensorForm::Raw);
        let data = decoded.inputs[0].tensor.data();
        assert_eq!(data[..], [7; 8]);
        assert!(wire.as_ptr_range().contains(&data.as_ptr()), "copied");
        assert_eq!(decoded.inputs[1].tensor.elements(), 0);
    }

    #[test]
    fn the_answer_takes_the_form_of_the_inputs_unless_told_otherwise() {
        use ParameterChoice::BoolParam;
        let typed_input =
            || of(vec![InferInputTensor { contents: typed(&[1.0]), ..input("FP32", &[1]) }], &[]);
        let raw_input = || of(vec![input("FP32", &[1])], &[&[0; 4]]);
        assert_eq!(decode_request(typed_input()).unwrap().form, TensorForm::Typed);
        assert_eq!(decode_request(raw_input()).unwrap().form, TensorForm::Raw);
        for (mut request, wants_raw) in [(typed_input(), true), (raw_input(), false)] {
            let parameter = with("binary_data_output", BoolParam(wants_raw)).parameters;
            request.parameters = parameter;
            let expected = if wants_raw { TensorForm::Raw } else { TensorForm::Typed };
            assert_eq!(decode_request(request).unwrap().form, expected);
        }
    }

    #[test]
    fn parameters_are_read_in_their_own_types() {
        use ParameterChoice::{BoolParam, Int64Param, StringParam, Uint64Param};
        let timeout = |choice| decode_request(with("timeout", choice)).map(|r| r.timeout);
        assert_eq!(timeout(Int64Param(1500)).unwrap(), Some(Duration::from_micros(1500)));
        assert_eq!(timeout(Uint64Param(1500)).unwrap(), Some(Duration::from_micros(1500)));
        assert_eq!(timeout(Int64Param(0)).unwrap(), None);
        for wrong in [Int64Param(-1), StringParam("1".into()), BoolParam(true)] {
            let error = timeout(wrong).unwrap_err().to_string();
            assert_eq!(error, "parameter `timeout`: expected microseconds, as `int64_param`");
        }
        let name = "triton_enable_empty_final_response";
        assert!(decode_request(with(name, BoolParam(true))).unwrap().marks_final);
        let priority = |choice| decode_request(with("priority", choice)).map(|r| r.priority);
        for (choice, level) in [(Uint64Param(0), 0), (Uint64Param(1), 1), (Int64Param(3), 3)] {
            assert_eq!(priority(choice).unwrap(), NonZeroU32::new(level));
        }
        let error = priority(Int64Param(-1)).unwrap_err().to_string();
        assert_eq!(error, "parameter `priority`: expected a level, as `uint64_param`");
    }

    #[test]
    fn shapes_and_lengths_that_lie_are_refused_before_anything_is_allocated() {
        let long = 1i64 << 60;
        for (request, message) in [
            (
                of(vec![input("FP32", &[-1, 4])], &[&[0; 16]]),
                "tensor `x`: shape [-1,4] has a negative dimension",
            ),
            (
                of(vec![input("FP32", &[i64::MIN])], &[&[0; 16]]),
                "tensor `x`: shape [-9223372036854775808] has a negative dimension",
            ),
            (
                of(vec![input("FP32", &[long])], &[&[0; 4]]),
                "tensor `x`: FP32 tensor of shape [1152921504606846976] takes \
                 4611686018427387904 bytes, got 4",
            ),
            (
                of(vec![input("FP32", &[long, long])], &[&[0; 4]]),
                "tensor `x`: shape [1152921504606846976,1152921504606846976] has more elements \
                 than can be addressed",
            ),
            (
                of(vec![input("BYTES", &[long])], &[&[0; 4]]),
                "tensor `x`: BYTES tensor of shape [1152921504606846976] needs \
                 1152921504606846976 length-prefixed elements: the bytes end before the last \
                 element",
            ),
            (
                of(
                    vec![InferInputTensor { contents: typed(&[1.0]), ..input("FP32", &[long]) }],
                    &[],
                ),
                "tensor `x`: its shape does not hold 1 elements",
            ),
            (
                of(vec![input("FP32", &[1, 2])], &[&[0; 7]]),
                "tensor `x`: FP32 tensor of shape [1,2] takes 8 bytes, got 7",
            ),
            (
                of(vec![input("FP32", &[1]), input("FP32", &[1])], &[&[0; 4]]),
                "`raw_input_contents` has 1 entries for 2 inputs",
            ),
            (of(vec![], &[&[0; 4]]), "`raw_input_contents` has 1 entries for 0 inputs"),
            (
                of(
                    vec![InferInputTensor { contents: typed(&[1.0]), ..input("FP32", &[1]) }],
                    &[&[0; 4]],
                ),
                "tensor `x`: has both `contents` and an entry in `raw_input_contents`",
            ),
            (of(vec![input("FP32", &[1])], &[]), "tensor `x`: its shape does not hold 0 elements"),
            (
                of(vec![input("FLOAT", &[1])], &[]),
                "tensor `x`: unknown datatype `FLOAT`: expected one of BOOL, UINT8, UINT16, \
                 UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
            ),
        ] {
            let error = decode_request(request).unwrap_err();
            assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::InvalidArgument, message));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_and_named() {
        let shared = with("shared_memory_region", ParameterChoice::StringParam("r".into()));
        let mut request = of(vec![input("FP32", &[1])], &[]);
        request.inputs[0].parameters = shared.parameters.clone();
        let error = decode_request(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert_eq!(
            error.to_string(),
            "tensor `x`: shared memory is not supported: send tensors in the message"
        );
        let mut request = of(vec![], &[]);
        let classes = with("classification", ParameterChoice::Int64Param(3)).parameters;
        let output = InferRequestedOutputTensor { name: "y".into(), parameters: classes };
        request.outputs.push(output);
        let error = decode_request(request).unwrap_err();
        assert_eq!(
            error.to_string(),
            "output `y`: parameter `classification` is not supported: ask for the output itself \
             and sort it"
        );
    }

    #[test]
    fn a_sequence_is_named_by_a_number_of_either_type_or_a_text() {
        use ParameterChoice::{BoolParam, Int64Param, StringParam, Uint64Param};
        let sequence = |id, start| {
            let mut request = with("sequence_id", id);
            request.parameters.extend(with("sequence_start", BoolParam(start)).parameters);
            decode_request(request).map(|request| request.sequence)
        };
        let step = |id: &str, start| {
            let id = id.parse().unwrap();
            Some(SequenceStep { id, start, end: false })
        };
        for (id, expected) in [
            (Int64Param(7), step("7", true)),
            (Uint64Param(7), step("7", true)),
            (StringParam("7".into()), step("7", true)),
            (Uint64Param(u64::MAX), step("18446744073709551615", true)),
            // What a client sends for the same number that knows no other type.
            (Int64Param(-1), step("18446744073709551615", true)),
            // What clients send that know no sequences.
            (Int64Param(0), None),
            (StringParam(String::new()), None),
        ] {
            assert_eq!(sequence(id, true).unwrap(), expected);
        }
        assert_eq!(sequence(StringParam("s".into()), false).unwrap(), step("s", false));
        for (id, problem) in [
            (BoolParam(true), "expected a number or a text"),
            (StringParam("x".repeat(129)), "the id of a sequence takes 1 to 128 bytes, got 129"),
        ] {
            let error = sequence(id, true).unwrap_err();
            assert_eq!(error.to_string(), format!("parameter `sequence_id`: {problem}"));
        }
    }
}
