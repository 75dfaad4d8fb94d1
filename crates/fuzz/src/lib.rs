//! What fuzzers call: one function for each decoder of bytes that come from outside.
//!
//! A decoder may refuse anything, but it must not panic, run on, or take memory out of proportion;
//! and what it accepts, it must read to the same again after it was written. The seeds of each
//! target run as a test, so that what a fuzzer once found stays found.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use inferring_protocol::frames::{self, Event, Inbox, Limits, Outbox};
use inferring_protocol::grpc::inference::ModelInferRequest;
use inferring_protocol::rest::{Chunks, Coding, collect, plain, repository, v2};
use inferring_protocol::{grpc, npy};
use inferring_repository::{ModelSettings, text_format};
use inferring_types::{
    Batching, ContentDigest, DataType, Deadline, Dimension, InferRequest, ModelMetadata, ModelName,
    ModelVersion, NamedTensor, RequestId, ServiceError, ShapeSpec, TensorName, TensorSpec,
};
use prost::Message as _;

/// A decoder under test.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Decodes once, and panics where the decoder breaks its word.
    pub run: fn(&[u8]),
    /// Where its seeds are, from the root of the repository.
    seeds: &'static str,
}

/// All decoders of bytes from outside.
pub const TARGETS: &[Target] = &[
    Target { name: "plain", run: plain_request, seeds: "crates/fuzz/corpus/plain" },
    Target { name: "json", run: json_request, seeds: "crates/fuzz/corpus/json" },
    Target { name: "binary", run: binary_request, seeds: "crates/fuzz/corpus/binary" },
    Target { name: "response", run: response, seeds: "crates/fuzz/corpus/response" },
    Target { name: "frames", run: received_frames, seeds: "crates/fuzz/corpus/frames" },
    Target { name: "coding", run: compressed_body, seeds: "crates/fuzz/corpus/coding" },
    Target { name: "load", run: load_request, seeds: "crates/fuzz/corpus/load" },
    Target { name: "grpc", run: grpc_request, seeds: "crates/fuzz/corpus/grpc" },
    Target { name: "pbtxt", run: pbtxt, seeds: "crates/repository/corpus/pbtxt" },
    Target { name: "config-json", run: config_json, seeds: "crates/fuzz/corpus/config-json" },
    Target { name: "npy", run: npy_file, seeds: "crates/protocol/corpus/npy" },
];

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The folder of its seeds.
    pub fn seeds(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(self.seeds)
    }
}

fn plain_request(data: &[u8]) {
    if let Ok(request) = plain::decode_request(data, &MODEL) {
        assert!(MODEL.arrange(vec![request.input]).is_ok(), "what is decoded fits the model");
    }
}

fn json_request(data: &[u8]) {
    v2_request(data, None);
}

/// The first two bytes say where the head ends, which may be a lie.
fn binary_request(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let json_length = Some(usize::from(u16::from_le_bytes(*length)));
    v2_request(body, json_length);
    let segments = body.chunks(7).map(Bytes::copy_from_slice).collect();
    let inputs = |decoded: Result<v2::DecodedRequest, ServiceError>| {
        decoded.map(|request| request.inputs).map_err(|error| error.to_string())
    };
    let whole = v2::decode_request(Bytes::copy_from_slice(body).into(), json_length);
    assert_eq!(inputs(v2::decode_request(segments, json_length)), inputs(whole));
}

fn v2_request(body: &[u8], json_length: Option<usize>) {
    let Ok(decoded) = v2::decode_request(Bytes::copy_from_slice(body).into(), json_length) else {
        return;
    };
    let request = InferRequest {
        priority: decoded.priority,
        sequence: decoded.sequence,
        ..request(decoded.inputs, decoded.outputs)
    };
    let message = v2::encode_request(&request);
    let again = v2::decode_request(joined(message.body).into(), message.json_length);
    let again = again.expect("what was written is read");
    assert_eq!(again.inputs, request.inputs);
    assert_eq!(again.outputs, request.outputs);
    assert_eq!((again.priority, again.sequence), (request.priority, request.sequence));
}

fn response(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let json_length = Some(usize::from(u16::from_le_bytes(*length)));
    let (id, model) = (RequestId::generate(), MODEL.name.clone());
    let _ = v2::decode_response(Bytes::copy_from_slice(body).into(), json_length, id, model);
}

/// The first byte says where what is received is cut in two.
fn received_frames(data: &[u8]) {
    const LIMITS: Limits = Limits { message: 1000, connection: 3000 };
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (mut inbox, mut outbox) = (Inbox::new(LIMITS), Outbox::default());
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    for part in [first, second] {
        inbox.room().extend_from_slice(part);
        loop {
            match inbox.event() {
                Ok(None) => break,
                Err(_) => return,
                Ok(Some(Event::Request { stream, message })) => {
                    assert!(message.len() <= LIMITS.message);
                    let Ok((request, body)) = frames::Request::read(&message) else { continue };
                    outbox.request(stream, &request, Chunks::one(body));
                    assert_eq!(again(&mut outbox), Event::Request { stream, message });
                }
                Ok(Some(Event::Answer { stream, message })) => {
                    let Ok((answer, body)) = frames::Answer::read(message.clone()) else {
                        continue;
                    };
                    outbox.answer(stream, &answer, Chunks::one(body.clone()));
                    let Event::Answer { message, .. } = again(&mut outbox) else {
                        panic!("an answer was written");
                    };
                    assert_eq!(frames::Answer::read(message), Ok((answer, body)));
                }
                Ok(Some(_)) => {}
            }
        }
    }
}

/// What is in the outbox, received.
fn again(outbox: &mut Outbox) -> Event {
    let mut inbox = Inbox::new(Limits { message: 1 << 20, connection: 1 << 20 });
    while !outbox.is_empty() {
        let next = outbox.unsent();
        let length = next.len();
        inbox.room().extend_from_slice(next);
        outbox.written(length);
    }
    inbox.event().ok().flatten().expect("what was written is read")
}

/// The first byte chooses the coding.
fn compressed_body(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((choice, body)) = data.split_first() else { return };
    let coding = [Coding::Zstd, Coding::Gzip, Coding::Deflate][usize::from(choice % 3)];
    let Ok(decoded) = coding.decode(body, LIMIT) else { return };
    assert!(decoded.len() <= LIMIT);
    let encoded = joined(coding.encode(Chunks::one(decoded.clone())));
    assert_eq!(coding.decode(&encoded, LIMIT).expect("what was encoded is decoded"), decoded);
}

fn load_request(data: &[u8]) {
    let Ok(request) = repository::decode_load(MODEL.name.clone(), data) else { return };
    let again = repository::decode_load(MODEL.name.clone(), &repository::encode_load(&request));
    let mut again = again.expect("what was written is read");
    let mut request = request;
    for request in [&mut request, &mut again] {
        request.files.sort_by(|one, other| one.path.cmp(&other.path));
    }
    assert_eq!(again, request);
}

fn grpc_request(data: &[u8]) {
    let Ok(message) = ModelInferRequest::decode(Bytes::copy_from_slice(data)) else { return };
    if let Ok(decoded) = grpc::decode_request(message) {
        let bytes: usize = decoded.inputs.iter().map(|input| input.tensor.size_bytes()).sum();
        // An element of a few bits on the wire becomes at most 8 bytes.
        assert!(bytes <= 8 * data.len(), "{bytes} bytes out of {}", data.len());
    }
}

fn pbtxt(data: &[u8]) {
    let _ = text_format::parse(data);
    let _ = ModelSettings::from_pbtxt(data, &MODEL.name);
}

fn config_json(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = ModelSettings::from_json(text, &MODEL.name);
    }
}

fn npy_file(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let _ = npy::npz::read(data, LIMIT);
    let Ok(tensor) = npy::read(&Bytes::copy_from_slice(data)) else { return };
    if let Ok(written) = npy::write(&tensor) {
        let again = npy::read(&written.into()).expect("what was written is read");
        assert_eq!((again.shape(), again.data()), (tensor.shape(), tensor.data()));
    }
}

fn request(inputs: Vec<NamedTensor>, outputs: Vec<TensorName>) -> InferRequest {
    InferRequest {
        id: RequestId::generate(),
        model: MODEL.name.clone(),
        version: None,
        inputs,
        outputs,
        deadline: Deadline::after(Instant::now(), Duration::from_secs(1)),
        priority: None,
        sequence: None,
    }
}

/// A whole body. It is in memory: reading it waits for nothing.
fn joined(body: Chunks) -> Bytes {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(bytes)) = pin!(collect(body, usize::MAX)).poll(&mut context) else {
        panic!("a body in memory is read at once");
    };
    bytes
}

/// A model of one input with a dynamic dimension.
static MODEL: LazyLock<ModelMetadata> = LazyLock::new(|| {
    let spec = TensorSpec {
        name: "x".into(),
        datatype: DataType::Fp32,
        shape: ShapeSpec::new([Dimension::Dynamic(None)]),
    };
    ModelMetadata {
        name: "model".parse::<ModelName>().expect("a plain word names a model"),
        version: ModelVersion::first(),
        aliases: Vec::new(),
        digest: ContentDigest::of(b"model"),
        size_bytes: 0,
        inputs: vec![spec.clone()],
        outputs: vec![spec],
        batching: Batching::Alone { reason: String::new() },
        batch_size_max: 0,
    }
});
