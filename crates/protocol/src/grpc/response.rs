//! Responses.

use inferring_types::{CacheOutcome, InferResponse, NamedTensor, Served};

use super::inference::ModelInferResponse;
use super::inference::model_infer_response::InferOutputTensor;
use super::parameters::{Parameters, integer, text, truth};
use super::{TensorForm, contents};

/// The parameter by which the widely used clients tell the last answer to a request.
pub const FINAL_RESPONSE: &str = "triton_final_response";

/// The answer to `request`, its tensors in `form`. A model with an FP16 or BF16 output among
/// those asked for answers raw in any case: these cannot be written otherwise, and raw and typed
/// tensors cannot be in one message.
pub fn encode_response(
    response: &InferResponse,
    form: TensorForm,
    marks_final: bool,
) -> ModelInferResponse {
    let typed: Option<Vec<_>> = match form {
        TensorForm::Raw => None,
        TensorForm::Typed => response
            .outputs
            .iter()
            .map(|output| contents::from_tensor(&output.tensor).map(Some))
            .collect(),
    };
    let raw_output_contents = match &typed {
        Some(_) => Vec::new(),
        None => response.outputs.iter().map(|output| output.tensor.data().clone()).collect(),
    };
    let mut contents = typed.into_iter().flatten();
    let outputs = response
        .outputs
        .iter()
        .map(|output| InferOutputTensor { contents: contents.next().flatten(), ..describe(output) })
        .collect();
    let mut parameters = encode_served(&response.served);
    if marks_final {
        parameters.insert(FINAL_RESPONSE.to_owned(), truth(true));
    }
    ModelInferResponse {
        model_name: response.model.to_string(),
        model_version: response.version.to_string(),
        id: response.id.to_string(),
        parameters,
        outputs,
        raw_output_contents,
    }
}

fn describe(output: &NamedTensor) -> InferOutputTensor {
    let sizes = output.tensor.shape().dimensions().iter();
    InferOutputTensor {
        name: output.name.to_string(),
        datatype: output.tensor.datatype().name().to_owned(),
        shape: sizes.map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
        ..InferOutputTensor::default()
    }
}

/// Who served a request and what it took, by the names that the answer has over REST too.
fn encode_served(served: &Served) -> Parameters {
    [
        ("node_id", text(served.worker.as_str())),
        ("cached", truth(served.cache == CacheOutcome::Hit)),
        ("cache", text(served.cache.name())),
        ("inference_time_us", integer(served.inference_time.as_micros())),
        ("queue_time_us", integer(served.queue_time.as_micros())),
        ("execution_time_us", integer(served.execution_time.as_micros())),
        ("batch_size", integer(served.batch_size)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferring_types::{DataType, ModelVersion, Tensor, WorkerLoad};

    use super::*;
    use crate::grpc::inference::infer_parameter::ParameterChoice;

    fn response(datatypes: &[DataType]) -> InferResponse {
        let tensor = |datatype: &DataType| {
            let data = vec![1; 2 * datatype.element_size().unwrap()];
            let tensor = Tensor::new(*datatype, [1, 2].into(), data.into()).unwrap();
            NamedTensor::new(datatype.name().into(), tensor)
        };
        InferResponse {
            id: "r1".parse().unwrap(),
            model: "m".parse().unwrap(),
            version: ModelVersion::first(),
            outputs: datatypes.iter().map(tensor).collect(),
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

    #[test]
    fn raw_outputs_are_not_copied() {
        let sent = response(&[DataType::Fp32, DataType::Int8]);
        let message = encode_response(&sent, TensorForm::Raw, false);
        assert_eq!(message.raw_output_contents.len(), 2);
        for (output, raw) in sent.outputs.iter().zip(&message.raw_output_contents) {
            assert_eq!(output.tensor.data().as_ptr(), raw.as_ptr());
        }
        assert!(message.outputs.iter().all(|output| output.contents.is_none()));
        assert_eq!(message.outputs[0].shape, [1, 2]);
    }

    #[test]
    fn typed_outputs_are_in_their_lists() {
        let sent = response(&[DataType::Fp32, DataType::Int8]);
        let message = encode_response(&sent, TensorForm::Typed, false);
        assert_eq!(message.raw_output_contents.len(), 0);
        let ints = &message.outputs[1].contents.as_ref().unwrap().int_contents;
        assert_eq!(ints[..], [1, 1]);
    }

    #[test]
    fn one_half_precision_output_makes_all_raw() {
        let sent = response(&[DataType::Fp32, DataType::Bf16]);
        let message = encode_response(&sent, TensorForm::Typed, false);
        assert_eq!(message.raw_output_contents.len(), 2);
        assert!(message.outputs.iter().all(|output| output.contents.is_none()));
    }

    #[test]
    fn the_answer_says_who_served_it_and_that_it_is_the_last() {
        let message = encode_response(&response(&[DataType::Bool]), TensorForm::Raw, true);
        let get = |name: &str| message.parameters[name].parameter_choice.clone().unwrap();
        assert_eq!(get("node_id"), ParameterChoice::StringParam("worker_1".into()));
        assert_eq!(get("cached"), ParameterChoice::BoolParam(false));
        assert_eq!(get("cache"), ParameterChoice::StringParam("joined".into()));
        assert_eq!(get("inference_time_us"), ParameterChoice::Int64Param(31));
        assert_eq!(get("batch_size"), ParameterChoice::Int64Param(7));
        assert_eq!(get(FINAL_RESPONSE), ParameterChoice::BoolParam(true));
        assert_eq!((&*message.id, &*message.model_version), ("r1", "1"));
    }
}
