//! gRPC through tonic, twice: with tonic's own transport (`Channel`, `Server`), as most programs use it, and with the
//! same generated stubs directly over hyper's HTTP/2 connections, which shows what the transport's layers cost.

use crate::http::{
    CONNECTION_WINDOW, FRAME_SIZE_MAX, RESETS_MAX, STREAM_WINDOW, connect_http2, http2_server,
};
use crate::message::{InferAnswer, InferRequest};
use crate::threads::Connections;
use crate::worker;
use anyhow::{Context as _, Result, anyhow};
use generated::grpc_inference_service_client::GrpcInferenceServiceClient;
use generated::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use generated::infer_parameter::ParameterChoice;
use generated::model_infer_request::InferInputTensor;
use generated::model_infer_response::InferOutputTensor;
use generated::{InferParameter, ModelInferRequest, ModelInferResponse};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::{Channel, Endpoint, Server};

mod generated {
    #![allow(clippy::all, unreachable_pub)]
    tonic::include_proto!("inference");
}

pub type Tonic = GrpcInferenceServiceClient<Channel>;
pub type Lean = GrpcInferenceServiceClient<Connection>;

/// One HTTP/2 connection as tonic's stubs want it.
#[derive(Clone)]
pub struct Connection(SendRequest<Body>);

impl GrpcService<Body> for Connection {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = hyper::Result<hyper::Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub async fn connect_tonic(worker: SocketAddr) -> Result<Tonic> {
    let channel = Endpoint::from_shared(format!("http://{worker}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await?;
    Ok(GrpcInferenceServiceClient::new(channel))
}

pub async fn connect_lean(worker: SocketAddr) -> Result<Lean> {
    let connection = Connection(connect_http2(worker).await?);
    Ok(GrpcInferenceServiceClient::with_origin(connection, "http://worker".parse()?))
}

pub async fn infer<T>(
    mut client: GrpcInferenceServiceClient<T>,
    request: InferRequest,
) -> Result<InferAnswer>
where
    T: GrpcService<Body, ResponseBody: Send + 'static>,
    T::ResponseBody: hyper::body::Body<
            Data = bytes::Bytes,
            Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        >,
{
    let response = client.model_infer(encode_request(request)).await?.into_inner();
    decode_answer(response)
}

pub async fn serve_tonic(connections: Connections) -> Result<()> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .add_service(GrpcInferenceServiceServer::new(Worker))
        .serve_with_incoming(ReceiverStream::new(connections).map(TcpStream::from_std))
        .await?;
    Ok(())
}

pub async fn serve_lean(mut connections: Connections) -> Result<()> {
    while let Some(stream) = connections.recv().await {
        let io = TokioIo::new(TcpStream::from_std(stream)?);
        let service = TowerToHyperService::new(GrpcInferenceServiceServer::new(Worker));
        tokio::spawn(http2_server().serve_connection(io, service));
    }
    Ok(())
}

struct Worker;

#[tonic::async_trait]
impl GrpcInferenceService for Worker {
    async fn model_infer(
        &self,
        request: tonic::Request<ModelInferRequest>,
    ) -> Result<tonic::Response<ModelInferResponse>, tonic::Status> {
        let request = decode_request(request.into_inner())
            .map_err(|error| tonic::Status::invalid_argument(format!("{error:#}")))?;
        Ok(tonic::Response::new(encode_answer(worker::answer(request))))
    }
}

fn encode_request(request: InferRequest) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "input".to_owned(),
        datatype: "FP32".to_owned(),
        shape: request.shape,
    };
    ModelInferRequest {
        model_name: request.model,
        id: request.id,
        inputs: vec![input],
        raw_input_contents: vec![request.tensor],
    }
}

fn decode_request(request: ModelInferRequest) -> Result<InferRequest> {
    let [input] = <[_; 1]>::try_from(request.inputs).map_err(|_| anyhow!("one input expected"))?;
    let [tensor] = <[_; 1]>::try_from(request.raw_input_contents)
        .map_err(|_| anyhow!("one tensor expected"))?;
    InferRequest { model: request.model_name, id: request.id, shape: input.shape, tensor }.checked()
}

fn encode_answer(answer: InferAnswer) -> ModelInferResponse {
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let output = InferOutputTensor {
        name: "output".to_owned(),
        datatype: "FP32".to_owned(),
        shape: answer.shape,
    };
    ModelInferResponse {
        model_name: answer.model,
        id: answer.id,
        parameters: [
            ("worker_id".to_owned(), parameter(ParameterChoice::StringParam(answer.worker_id))),
            ("cached".to_owned(), parameter(ParameterChoice::BoolParam(answer.cached))),
            ("time_us".to_owned(), parameter(ParameterChoice::Int64Param(answer.time_us as i64))),
        ]
        .into(),
        outputs: vec![output],
        raw_output_contents: vec![answer.tensor],
    }
}

fn decode_answer(mut response: ModelInferResponse) -> Result<InferAnswer> {
    let mut parameter = |name| {
        response
            .parameters
            .remove(name)
            .and_then(|value| value.parameter_choice)
            .with_context(|| format!("no {name}"))
    };
    let (
        ParameterChoice::StringParam(worker_id),
        ParameterChoice::BoolParam(cached),
        ParameterChoice::Int64Param(time_us),
    ) = (parameter("worker_id")?, parameter("cached")?, parameter("time_us")?)
    else {
        return Err(anyhow!("a parameter has the wrong type"));
    };
    let [output] =
        <[_; 1]>::try_from(response.outputs).map_err(|_| anyhow!("one output expected"))?;
    let [tensor] = <[_; 1]>::try_from(response.raw_output_contents)
        .map_err(|_| anyhow!("one tensor expected"))?;
    Ok(InferAnswer {
        model: response.model_name,
        id: response.id,
        shape: output.shape,
        tensor,
        worker_id,
        cached,
        time_us: time_us as u64,
    })
}
