//! Clients over gRPC: generated ones, on a connection of hyper's.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inferring_integration_tests::scaled;
use inferring_integration_tests::waiting::LONG;
use inferring_protocol::grpc::health::health_client::HealthClient;
use inferring_protocol::grpc::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use inferring_protocol::grpc::inference::model_infer_request::InferInputTensor;
use inferring_protocol::grpc::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use inferring_types::BoxFuture;
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::Service;

/// Asks for inferences, and all that belongs to them.
pub(crate) type InferenceClient = GrpcInferenceServiceClient<Connection>;

/// A client on a connection of its own.
pub(crate) async fn inference(address: SocketAddr) -> InferenceClient {
    GrpcInferenceServiceClient::with_origin(Connection::open(address).await, origin(address))
}

/// A client of the health service, on a connection of its own.
pub(crate) async fn health(address: SocketAddr) -> HealthClient<Connection> {
    HealthClient::with_origin(Connection::open(address).await, origin(address))
}

/// What a future gives, under a deadline that only a defect reaches.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it ends in time")
}

fn origin(address: SocketAddr) -> Uri {
    format!("http://{address}").parse().unwrap()
}

/// A connection over HTTP/2.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Body>);

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A request for `scale` with three numbers, raw.
pub(crate) fn raw_scale(input: [i64; 3]) -> ModelInferRequest {
    let raw = input.map(i64::to_le_bytes).concat();
    ModelInferRequest {
        raw_input_contents: vec![Bytes::from(raw)],
        ..request("scale", "INT64", &[1, 3])
    }
}

/// The same, typed.
pub(crate) fn typed_scale(input: [i64; 3]) -> ModelInferRequest {
    let mut request = request("scale", "INT64", &[1, 3]);
    let contents = InferTensorContents { int64_contents: input.into(), ..Default::default() };
    request.inputs[0].contents = Some(contents);
    request
}

/// A request for `slow`, unlike any other number's.
pub(crate) fn slow(n: u16) -> ModelInferRequest {
    let mut request = request("slow", "FP32", &[1, 4]);
    let fp32_contents = vec![f32::from(n), 1.0, 2.0, 3.0];
    request.inputs[0].contents = Some(InferTensorContents { fp32_contents, ..Default::default() });
    request
}

/// Whether this is the answer to [`slow`].
pub(crate) fn is_doubled(n: u16, response: &ModelInferResponse) -> bool {
    let contents = response.outputs[0].contents.as_ref().expect("typed, as it was asked");
    contents.fp32_contents == [2.0 * f32::from(n), 2.0, 4.0, 6.0]
}

/// The version that an answer to a request for `scale` with these numbers is of.
///
/// # Errors
/// Where its numbers are not those of the version that it claims.
pub(crate) fn scaled_by(input: [i64; 3], response: &ModelInferResponse) -> Result<u64, String> {
    let version = response.model_version.parse().map_err(|_| format!("{response:?}"))?;
    let output = &response.outputs[0];
    let numbers: Vec<i64> = match (&output.contents, &response.raw_output_contents[..]) {
        (Some(contents), []) => contents.int64_contents.clone(),
        (None, [raw]) => raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
        _ => return Err(format!("neither raw nor typed: {response:?}")),
    };
    let expected = input.map(|number| number * scaled::factor(version));
    if numbers == expected { Ok(version) } else { Err(format!("{numbers:?}, not {expected:?}")) }
}

fn request(model: &str, datatype: &str, shape: &[i64]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![InferInputTensor {
            name: "input".into(),
            datatype: datatype.into(),
            shape: shape.into(),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}
