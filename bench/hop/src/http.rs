//! HTTP/1.1 with a pool of its own, and HTTP/2 with one multiplexed connection; both carry the v2 binary form.

use crate::message::{Encoded, EncodedBody, InferAnswer, InferRequest};
use crate::threads::Connections;
use crate::worker;
use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::net::TcpStream;

pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// Windows that an image fits into several times over: with the 64 KiB of the specification every image would wait for
/// window updates. The same values hold for gRPC.
pub const STREAM_WINDOW: u32 = 4 << 20;
pub const CONNECTION_WINDOW: u32 = 64 << 20;
/// The specification's 16 KiB would cut an image into 37 frames.
pub const FRAME_SIZE_MAX: u32 = 1 << 20;
/// A client that leaves resets its stream. More than 20 streams (the default, against the "rapid reset" attack) reset
/// before the server accepted them end the connection for everybody, and wrk leaves with all its connections at once.
pub const RESETS_MAX: usize = 4096;

/// Keep-alive connections to one worker, used by one thread. Its lock is therefore never contended.
pub struct Http1 {
    worker: SocketAddr,
    /// A stack: the connection used last is the one least likely to have been closed meanwhile.
    idle: Mutex<Vec<http1::SendRequest<Full<EncodedBody>>>>,
}

impl Http1 {
    pub fn new(worker: SocketAddr) -> Self {
        Self { worker, idle: Mutex::default() }
    }

    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer> {
        let mut connection = self.checkout().await?;
        let Encoded { header_length, body } = request.encode()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v2/models/iris/infer")
            .header(HOST, "worker")
            .header(HEADER_LENGTH, header_length)
            .body(Full::new(body))?;
        let answer = decode_answer(connection.send_request(request).await?).await?;
        self.idle.lock().expect("no holder panics").push(connection);
        Ok(answer)
    }

    async fn checkout(&self) -> Result<http1::SendRequest<Full<EncodedBody>>> {
        while let Some(mut connection) = self.take_idle() {
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let (sender, connection) = http1::handshake(connect(self.worker).await?).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<http1::SendRequest<Full<EncodedBody>>> {
        self.idle.lock().expect("no holder panics").pop()
    }
}

/// One multiplexed connection to one worker, used by one thread.
pub struct Http2 {
    sender: http2::SendRequest<Full<EncodedBody>>,
}

impl Http2 {
    pub async fn connect(worker: SocketAddr) -> Result<Self> {
        Ok(Self { sender: connect_http2(worker).await? })
    }

    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer> {
        let Encoded { header_length, body } = request.encode()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("http://worker/v2/models/iris/infer")
            .header(HEADER_LENGTH, header_length)
            .body(Full::new(body))?;
        decode_answer(self.sender.clone().send_request(request).await?).await
    }
}

pub async fn connect_http2<B>(worker: SocketAddr) -> Result<http2::SendRequest<B>>
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Unpin
        + Send
        + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE_MAX)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .handshake(connect(worker).await?)
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub fn http2_server() -> server::conn::http2::Builder<TokioExecutor> {
    let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX);
    builder
}

pub async fn serve_http1(connections: Connections) -> Result<()> {
    serve_http1_with(connections, handle).await
}

pub async fn serve_http1_with<H, F>(mut connections: Connections, handle: H) -> Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<EncodedBody>>>> + Send,
{
    while let Some(stream) = connections.recv().await {
        let io = TokioIo::new(TcpStream::from_std(stream)?);
        let handle = handle.clone();
        let service = service_fn(move |request| or_error_status(handle(request)));
        tokio::spawn(server::conn::http1::Builder::new().serve_connection(io, service));
    }
    Ok(())
}

pub async fn serve_http2(mut connections: Connections) -> Result<()> {
    while let Some(stream) = connections.recv().await {
        let io = TokioIo::new(TcpStream::from_std(stream)?);
        let service = service_fn(|request| or_error_status(handle(request)));
        tokio::spawn(http2_server().serve_connection(io, service));
    }
    Ok(())
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<EncodedBody>>> {
    let header_length = header_length(request.headers())?;
    let body = request.into_body().collect().await?.to_bytes();
    encode_answer(worker::answer(InferRequest::decode(body, header_length)?))
}

pub fn encode_answer(answer: InferAnswer) -> Result<Response<Full<EncodedBody>>> {
    let Encoded { header_length, body } = answer.encode()?;
    Ok(Response::builder().header(HEADER_LENGTH, header_length).body(Full::new(body))?)
}

async fn or_error_status(
    response: impl Future<Output = Result<Response<Full<EncodedBody>>>>,
) -> Result<Response<Full<EncodedBody>>> {
    response.await.or_else(|error| {
        let body = Full::new(Bytes::from(format!("{error:#}")).chain(Bytes::new()));
        Ok(Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(body)?)
    })
}

async fn decode_answer(response: Response<Incoming>) -> Result<InferAnswer> {
    ensure!(response.status() == StatusCode::OK, "the worker answered {}", response.status());
    let header_length = header_length(response.headers())?;
    InferAnswer::decode(response.into_body().collect().await?.to_bytes(), header_length)
}

fn header_length(headers: &HeaderMap) -> Result<usize> {
    Ok(headers.get(HEADER_LENGTH).context("no header length")?.to_str()?.parse()?)
}

async fn connect(worker: SocketAddr) -> Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(worker).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}
