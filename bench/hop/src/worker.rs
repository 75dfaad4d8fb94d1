//! The worker's side: takes a typed tensor, answers a small one. No model runs, so that only the way there is measured.

use crate::message::{InferAnswer, InferRequest};
use crate::{WireKind, framed, grpc, http, threads};
use anyhow::Result;
use bytes::{BufMut as _, BytesMut};
use std::time::Instant;

pub fn run(wire: WireKind, worker_threads: usize) -> Result<()> {
    threads::listen(worker_threads, move |connections| async move {
        match wire {
            WireKind::None => anyhow::bail!("the wire `none` has no worker"),
            WireKind::Http1 => http::serve_http1(connections).await,
            WireKind::Http2 => http::serve_http2(connections).await,
            WireKind::Grpc => grpc::serve_tonic(connections).await,
            WireKind::GrpcLean => grpc::serve_lean(connections).await,
            WireKind::Framed => framed::serve(connections).await,
        }
    })
}

/// Answers `[first, last, count]` of the input as FP32 `[1, 3]`: enough for a caller to see that the tensor arrived whole.
pub fn answer(request: InferRequest) -> InferAnswer {
    let started = Instant::now();
    let at = |offset: usize| {
        request.tensor.get(offset..offset + 4).map_or(f32::NAN, |bytes| {
            f32::from_le_bytes(bytes.try_into().expect("the range is four bytes long"))
        })
    };
    let mut tensor = BytesMut::with_capacity(12);
    tensor.put_f32_le(at(0));
    tensor.put_f32_le(at(request.tensor.len().saturating_sub(4)));
    tensor.put_f32_le((request.tensor.len() / 4) as f32);
    InferAnswer {
        model: request.model,
        id: request.id,
        shape: vec![1, 3],
        tensor: tensor.freeze(),
        worker_id: "worker_1".to_owned(),
        cached: false,
        time_us: started.elapsed().as_micros() as u64,
    }
}
