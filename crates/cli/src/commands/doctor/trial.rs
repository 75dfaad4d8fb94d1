//! One real inference, with an input made up to fit the default model: sent through the gateway
//! and to each worker, so that the answers can be held against each other.
//!
//! The input is new each time, so that the first to be asked (the gateway) has to run the model
//! and cannot answer from a cache. It goes out once to each and is well-formed: an ailing worker
//! gets no failures from it that it would not have had from a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use inferring_protocol::rest::documents::ErrorDocument;
use inferring_protocol::rest::{headers, v2};
use inferring_types::{
    DataType, Deadline, Dimension, InferRequest, InferResponse, ModelMetadata, NamedTensor,
    ServiceError, Shape, Tensor, TensorSpec,
};

use crate::http::{Address, HttpError, send};

/// The inference, and what became of it.
#[derive(Debug)]
pub(super) enum Trial {
    /// Nobody who serves a model answered.
    NoModel,
    /// No input could be made up for the default model.
    NoInput { reason: String },
    /// One was made.
    Made {
        model: Arc<ModelMetadata>,
        /// `None` where the gateway did not answer earlier questions either.
        gateway: Option<Reply>,
        /// In the order of the workers examined; `None` where a worker was not asked.
        workers: Vec<Option<Reply>>,
    },
}

/// An answer, or why there is none.
pub(super) type Reply = Result<InferResponse, Refusal>;

/// Why an inference was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No answer at all.
    Http(HttpError),
    /// An answer with an error.
    Status { status: StatusCode, message: String },
    /// An answer that cannot be read.
    Malformed(String),
}

/// How two answers to one question compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    /// Bit for bit the same.
    Equal,
    /// The same but for rounding, as between processors of different kinds.
    Rounded { difference: f32 },
    /// Different.
    Different,
}

/// An input for `model` that no earlier request had, or why none can be made up.
pub(super) fn make_input(model: &ModelMetadata) -> Result<NamedTensor, String> {
    let [spec] = &model.inputs[..] else {
        return Err(format!("model `{}` takes {} inputs", model.name, model.inputs.len()));
    };
    let described = || format!("`{}` of model `{}`", spec.name, model.name);
    if !spec.datatype.is_numeric() {
        return Err(format!("input {} is {}, not numbers", described(), spec.datatype));
    }
    let shape = shape_of_one(spec)
        .ok_or_else(|| format!("input {} has the open shape {}", described(), spec.shape))?;
    let tensor = Some(shape)
        .filter(|shape| shape.elements().is_some_and(|elements| elements <= ELEMENTS_MAX))
        .and_then(|shape| {
            let elements = 0..shape.elements()?;
            let data: Vec<u8> = elements.flat_map(|_| random_element(spec.datatype)).collect();
            Tensor::new(spec.datatype, shape, data.into()).ok()
        });
    let tensor = tensor.ok_or_else(|| format!("input {} is too large", described()))?;
    Ok(NamedTensor::new(spec.name.clone(), tensor))
}

/// A trial stays well below what servers accept.
const ELEMENTS_MAX: u64 = 4 << 20;

/// The shape of one row. Only the first dimension may be open: what else a model takes besides
/// the sizes that it declares, it does not tell.
fn shape_of_one(spec: &TensorSpec) -> Option<Shape> {
    let (first, rest) = match spec.shape.dimensions() {
        [] => return Some(Shape::default()),
        [first, rest @ ..] => (first, rest),
    };
    let rest: Vec<u64> = rest.iter().map(Dimension::fixed).collect::<Option<_>>()?;
    Some(Shape::new([first.fixed().unwrap_or(1)].into_iter().chain(rest)))
}

/// A number that suits most models: from 0 to 1, and of integers, which may be indices into
/// tables of unknown length, only 0 and 1.
fn random_element(datatype: DataType) -> Vec<u8> {
    let one = fastrand::bool();
    let (width, bits): (usize, u64) = match datatype {
        DataType::Fp32 => return fastrand::f32().to_le_bytes().to_vec(),
        DataType::Fp64 => return fastrand::f64().to_le_bytes().to_vec(),
        DataType::Fp16 => (2, 0x3c00),
        DataType::Bf16 => (2, 0x3f80),
        integer => (integer.element_size().unwrap_or(0), 1),
    };
    let bits = if one { bits } else { 0 };
    bits.to_le_bytes()[..width].to_vec()
}

/// Asks `address` for an inference.
pub(super) async fn ask(
    address: &Address,
    model: &Arc<ModelMetadata>,
    input: &NamedTensor,
    timeout: Duration,
) -> Reply {
    // The server gets a little less, so that it is still heard when it gives up.
    let allowed = timeout - timeout / 10;
    let request = InferRequest::new(
        model.name.clone(),
        vec![input.clone()],
        Deadline::after(Instant::now(), allowed),
    );
    let message = v2::encode_request(&request);
    let mut http = Request::post(format!("/v2/models/{}/infer", model.name))
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(headers::TIMEOUT, u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX));
    if let Some(length) = message.json_length {
        http = http.header(headers::JSON_LENGTH, length);
    }
    let answer = send(address, http.body(message.body), timeout).await.map_err(Refusal::Http)?;
    let body = answer.body();
    if answer.status() != StatusCode::OK {
        let document: Option<ErrorDocument> = serde_json::from_slice(body).ok();
        let message = document.map(|document| document.error).unwrap_or_default();
        return Err(Refusal::Status { status: answer.status(), message });
    }
    let malformed = |error: ServiceError| Refusal::Malformed(error.chain().to_string());
    let json_length = headers::json_length(answer.headers(), body.len()).map_err(malformed)?;
    v2::decode_response(body.clone().into(), json_length, request.id, request.model)
        .map_err(malformed)
}

/// Compares two answers.
pub(super) fn compare(one: &InferResponse, other: &InferResponse) -> Comparison {
    if one.outputs == other.outputs {
        return Comparison::Equal;
    }
    if one.outputs.len() != other.outputs.len() {
        return Comparison::Different;
    }
    let mut difference = 0.0f32;
    for (one, other) in one.outputs.iter().zip(&*other.outputs) {
        if one == other {
            continue;
        }
        let same_form = one.name == other.name && one.tensor.shape() == other.tensor.shape();
        let (Some(a), Some(b), true) = (one.tensor.to_f32(), other.tensor.to_f32(), same_form)
        else {
            return Comparison::Different;
        };
        for (a, b) in a.into_iter().zip(b) {
            if a.to_bits() == b.to_bits() {
                continue;
            }
            // Not finite where either side is infinite or NaN.
            let apart = (a - b).abs();
            if !apart.is_finite() || apart > ROUNDING * a.abs().max(b.abs()).max(1.0) {
                return Comparison::Different;
            }
            difference = difference.max(apart);
        }
    }
    Comparison::Rounded { difference }
}

/// Sums of many single-precision products in another order differ by about as much.
const ROUNDING: f32 = 1e-4;

#[cfg(test)]
mod tests {
    use inferring_types::{
        Batching, CacheOutcome, ContentDigest, ModelVersion, RowAxes, Served, ShapeSpec, WorkerId,
        WorkerLoad,
    };

    use super::*;

    fn spec(datatype: DataType, shape: &[Option<u64>]) -> TensorSpec {
        let dimensions = shape.iter().map(|size| match size {
            Some(size) => Dimension::Fixed(*size),
            None => Dimension::Dynamic(None),
        });
        TensorSpec { name: "x".into(), datatype, shape: ShapeSpec::new(dimensions) }
    }

    fn model(inputs: Vec<TensorSpec>) -> ModelMetadata {
        ModelMetadata {
            name: "m".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: ContentDigest::of(b"m"),
            size_bytes: 1,
            outputs: inputs.clone(),
            inputs,
            batching: Batching::Rows { reason: "proved".into(), axes: RowAxes::first(1, 1) },
            batch_size_max: 32,
        }
    }

    #[test]
    fn an_input_fits_its_model_whatever_the_datatype() {
        for datatype in DataType::ALL.into_iter().filter(|datatype| datatype.is_numeric()) {
            for (declared, shape) in [
                (&[None, Some(4)][..], &[1, 4][..]),
                (&[Some(2), Some(3), Some(5)], &[2, 3, 5]),
                (&[None], &[1]),
                (&[], &[]),
            ] {
                let model = model(vec![spec(datatype, declared)]);
                let input = make_input(&model).unwrap();
                assert_eq!(input.tensor.shape().dimensions(), shape, "{datatype} {declared:?}");
                model.arrange(vec![input]).unwrap();
            }
        }
    }

    #[test]
    fn two_inputs_are_not_the_same() {
        let model = model(vec![spec(DataType::Fp32, &[None, Some(64)])]);
        assert_ne!(make_input(&model).unwrap(), make_input(&model).unwrap());
    }

    #[test]
    fn where_no_input_can_be_made_up_the_reason_is_told() {
        let two = vec![spec(DataType::Fp32, &[None]), spec(DataType::Fp32, &[None])];
        for (inputs, reason) in [
            (two, "model `m` takes 2 inputs"),
            (vec![spec(DataType::Bytes, &[None])], "input `x` of model `m` is BYTES, not numbers"),
            (
                vec![spec(DataType::Fp32, &[None, Some(3), None])],
                "input `x` of model `m` has the open shape [?,3,?]",
            ),
            (
                vec![spec(DataType::Fp32, &[Some(1 << 40), Some(1 << 40)])],
                "input `x` of model `m` is too large",
            ),
        ] {
            assert_eq!(make_input(&model(inputs)).unwrap_err(), reason);
        }
    }

    fn response(name: &str, values: &[f32]) -> InferResponse {
        let shape = Shape::from([values.len() as u64]);
        let tensor = Tensor::from_f32(shape, values).unwrap();
        InferResponse {
            id: inferring_types::RequestId::generate(),
            model: "m".parse().unwrap(),
            version: ModelVersion::first(),
            outputs: [NamedTensor::new(name.into(), tensor)].into(),
            served: Served {
                worker: WorkerId::from("w"),
                cache: CacheOutcome::Computed,
                inference_time: Duration::ZERO,
                queue_time: Duration::ZERO,
                execution_time: Duration::ZERO,
                batch_size: 1,
                load: WorkerLoad::default(),
            },
            routed: None,
        }
    }

    #[test]
    fn answers_are_equal_or_equal_but_for_rounding_or_different() {
        let nan = f32::NAN;
        let base = response("y", &[1.0, 0.5, nan]);
        assert_eq!(compare(&base, &response("y", &[1.0, 0.5, nan])), Comparison::Equal);
        let close = compare(&base, &response("y", &[1.000_01, 0.5, nan]));
        let Comparison::Rounded { difference } = close else { panic!("{close:?}") };
        assert!((0.9e-5..1.1e-5).contains(&difference), "{difference}");
        for other in [
            response("y", &[1.01, 0.5, nan]),
            response("y", &[nan, 0.5, nan]),
            response("y", &[f32::INFINITY, 0.5, nan]),
            response("y", &[1.0, 0.5, 0.5]),
            response("y", &[1.0, 0.5]),
            response("z", &[1.0, 0.500_001, nan]),
        ] {
            assert_eq!(compare(&base, &other), Comparison::Different, "{other:?}");
            assert_eq!(compare(&other, &base), Comparison::Different, "{other:?}");
        }
    }
}
