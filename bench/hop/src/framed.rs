//! Length-prefixed frames on TCP with request ids and batched writes: a lower bound, to know what HTTP's manners cost.
//!
//! A frame is `length u32 | id u32 | header length u32 | JSON header | tensor`, little-endian; `length` counts what
//! follows it. There is no flow control and no cancellation, which a product would need.

use crate::message::{Encoded, InferAnswer, InferRequest};
use crate::threads::Connections;
use crate::worker;
use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 256;
/// Up to here a copy into the common buffer is cheaper than a write of its own.
const COPY_MAX: usize = 16 << 10;

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Frame>>>>;

/// One connection to one worker, used by one thread.
pub struct Framed {
    outbox: mpsc::Sender<(u32, Encoded)>,
    waiting: Waiting,
    next_id: AtomicU32,
}

struct Frame {
    id: u32,
    header_length: usize,
    body: Bytes,
}

impl Framed {
    pub async fn connect(worker: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(worker).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (outbox, queue) = mpsc::channel(QUEUE);
        let waiting = Waiting::default();
        tokio::spawn(write_frames(writer, queue));
        tokio::spawn(read_answers(reader, Arc::clone(&waiting)));
        Ok(Self { outbox, waiting, next_id: AtomicU32::new(0) })
    }

    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect("no holder panics").insert(id, sender);
        self.outbox.send((id, request.encode()?)).await?;
        let frame = receiver.await.context("the connection is gone")?;
        InferAnswer::decode(frame.body, frame.header_length)
    }
}

pub async fn serve(mut connections: Connections) -> Result<()> {
    while let Some(stream) = connections.recv().await {
        let (mut reader, writer) = TcpStream::from_std(stream)?.into_split();
        let (outbox, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_frames(writer, queue));
        tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            while let Some(frame) = read_frame(&mut reader, &mut buffer).await? {
                // A task each, as a worker needs whose answers come back in another order.
                tokio::spawn(answer(frame, outbox.clone()));
            }
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn answer(frame: Frame, outbox: mpsc::Sender<(u32, Encoded)>) -> Result<()> {
    let request = InferRequest::decode(frame.body, frame.header_length)?;
    Ok(outbox.send((frame.id, worker::answer(request).encode()?)).await?)
}

async fn read_answers(mut reader: OwnedReadHalf, waiting: Waiting) -> Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = read_frame(&mut reader, &mut buffer).await? {
        let waiter = waiting.lock().expect("no holder panics").remove(&frame.id);
        // A caller whose deadline has passed is gone, and its answer with it.
        let _ = waiter.map(|waiter| waiter.send(frame));
    }
    waiting.lock().expect("no holder panics").clear();
    Ok(())
}

async fn write_frames(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<(u32, Encoded)>,
) -> Result<()> {
    let mut frames = Vec::with_capacity(QUEUE);
    let mut buffer = BytesMut::new();
    while queue.recv_many(&mut frames, QUEUE).await > 0 {
        for (id, Encoded { header_length, body }) in frames.drain(..) {
            buffer.put_u32_le((8 + body.remaining()) as u32);
            buffer.put_u32_le(id);
            buffer.put_u32_le(header_length as u32);
            if body.remaining() <= COPY_MAX {
                buffer.put(body);
            } else {
                writer.write_all_buf(&mut buffer.split().chain(body)).await?;
            }
        }
        writer.write_all(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}

/// `None` at the end of the connection.
async fn read_frame(reader: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Result<Option<Frame>> {
    loop {
        let wanted =
            buffer.first_chunk().map_or(4, |length| 4 + u32::from_le_bytes(*length) as usize);
        if buffer.len() >= wanted.max(12) {
            let mut frame = buffer.split_to(wanted).freeze();
            frame.advance(4);
            let (id, header_length) = (frame.get_u32_le(), frame.get_u32_le() as usize);
            return Ok(Some(Frame { id, header_length, body: frame }));
        }
        buffer.reserve((wanted - buffer.len().min(wanted)).max(8 << 10));
        if reader.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
