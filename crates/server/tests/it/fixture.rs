//! A running server, and connections to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inferring_protocol::grpc::health::health_client::HealthClient;
use inferring_protocol::grpc::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use inferring_protocol::grpc::inference::model_infer_request::InferInputTensor;
use inferring_protocol::grpc::inference::{ModelInferRequest, ModelInferResponse};
use inferring_server::{Server, ServerConfig};
use inferring_types::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::node::EchoNode;

/// A server that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) node: Arc<EchoNode>,
    pub(crate) address: SocketAddr,
    pub(crate) further: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<io::Result<usize>>,
}

impl Running {
    pub(crate) fn start(config: ServerConfig) -> Self {
        Self::on(Server::bind("127.0.0.1:0").unwrap().and_bind("127.0.0.1:0").unwrap(), config)
    }

    pub(crate) fn on(server: Server, config: ServerConfig) -> Self {
        let (address, further) = (server.local_addr(), server.further_addrs().collect());
        let node = EchoNode::new();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(node.clone(), config, async {
            let _ = stopped.await;
        }));
        Self { node, address, further, stop: Some(stop), serving }
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// How many connections were cut, once the server has stopped.
    pub(crate) async fn stopped(self) -> usize {
        within_a_minute(self.serving).await.unwrap().unwrap()
    }

    pub(crate) async fn client(&self) -> GrpcInferenceServiceClient<Connection> {
        let connection = Connection::open(self.address).await;
        GrpcInferenceServiceClient::with_origin(connection, self.origin())
    }

    pub(crate) async fn health(&self) -> HealthClient<Connection> {
        HealthClient::with_origin(Connection::open(self.address).await, self.origin())
    }

    pub(crate) fn origin(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }
}

/// A connection over HTTP/2, as the generated clients take it.
#[derive(Clone)]
pub(crate) struct Connection(pub(crate) SendRequest<Body>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
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

/// A request for `echo` with these values, raw.
pub(crate) fn echo(values: &[f32]) -> ModelInferRequest {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    ModelInferRequest {
        model_name: "echo".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, values.len() as i64],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from(raw)],
        ..ModelInferRequest::default()
    }
}

/// The values in an answer to [`echo`].
pub(crate) fn echoed(response: &ModelInferResponse) -> Vec<f32> {
    let (values, _) = response.raw_output_contents[0].as_chunks::<4>();
    values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// What a future gives; a minute is more than anything here takes.
pub(crate) async fn within_a_minute<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends within a minute")
}
