//! The gateway's side: an HTTP/1.1 front that decodes a request once and sends it on as typed bytes.
//!
//! The front is the same for every wire; the wire `none` answers in the gateway itself and so shows what the front costs.

use crate::message::{EncodedBody, InferAnswer, InferRequest};
use crate::{WireKind, framed, grpc, http, threads, worker};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

/// One thread's way to one worker.
enum Wire {
    None,
    Http1(http::Http1),
    Http2(http::Http2),
    Grpc(grpc::Tonic),
    GrpcLean(grpc::Lean),
    Framed(framed::Framed),
}

impl Wire {
    async fn connect(kind: WireKind, worker: SocketAddr) -> Result<Self> {
        Ok(match kind {
            WireKind::None => bail!("the wire `none` reaches no worker"),
            WireKind::Http1 => Self::Http1(http::Http1::new(worker)),
            WireKind::Http2 => Self::Http2(http::Http2::connect(worker).await?),
            WireKind::Grpc => Self::Grpc(grpc::connect_tonic(worker).await?),
            WireKind::GrpcLean => Self::GrpcLean(grpc::connect_lean(worker).await?),
            WireKind::Framed => Self::Framed(framed::Framed::connect(worker).await?),
        })
    }

    async fn infer(&self, request: InferRequest) -> Result<InferAnswer> {
        match self {
            Self::None => Ok(worker::answer(request.checked()?)),
            Self::Http1(wire) => wire.infer(request).await,
            Self::Http2(wire) => wire.infer(request).await,
            Self::Grpc(wire) => grpc::infer(wire.clone(), request).await,
            Self::GrpcLean(wire) => grpc::infer(wire.clone(), request).await,
            Self::Framed(wire) => wire.infer(request).await,
        }
    }
}

pub fn run(kind: WireKind, gateway_threads: usize, workers: Vec<SocketAddr>) -> Result<()> {
    threads::listen(gateway_threads, move |connections| {
        let workers = workers.clone();
        async move {
            let mut wires = Vec::new();
            if workers.is_empty() {
                wires.push(Wire::None);
            }
            for worker in workers {
                wires.push(
                    Wire::connect(kind, worker)
                        .await
                        .with_context(|| format!("worker {worker}"))?,
                );
            }
            let wires = Arc::new(wires);
            let turn = Arc::new(AtomicUsize::new(0));
            http::serve_http1_with(connections, move |request| {
                let (wires, turn) = (Arc::clone(&wires), Arc::clone(&turn));
                async move {
                    let wire = &wires[turn.fetch_add(1, Ordering::Relaxed) % wires.len()];
                    forward(wire, request).await
                }
            })
            .await
        }
    })
}

/// `POST /infer?1,3,224,224` with the raw tensor as the body.
async fn forward(wire: &Wire, request: Request<Incoming>) -> Result<Response<Full<EncodedBody>>> {
    let query = request.uri().query().context("the shape is missing")?;
    let shape =
        query.split(',').map(|size| size.parse().context("shape")).collect::<Result<_>>()?;
    // Routing hashes the whole content, so the body is complete before a worker is chosen.
    let tensor: Bytes = request.into_body().collect().await?.to_bytes();
    let request =
        InferRequest { model: "iris".to_owned(), id: "request-1".to_owned(), shape, tensor }
            .checked()?;
    let answer =
        tokio::time::timeout(DEADLINE, wire.infer(request)).await.context("deadline passed")??;
    http::encode_answer(answer)
}
