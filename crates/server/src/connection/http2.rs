//! HTTP/2 with prior knowledge: many requests at a time, gRPC or REST.
//!
//! Each request is a task on the connection's own thread. A client can be silent in more ways
//! than over HTTP/1.1: it can open a connection and no stream, read from the connection but
//! allow a stream nothing, or be gone behind a network that does not say so. Each has a limit.

mod body;
mod streams;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::debug;

use super::age::Age;
use super::{HEAD_SIZE_MAX, Serving, told_to_close, told_to_leave};
use crate::client_stream::{ClientStream, State};
use crate::{grpc, rest};
use body::AnswerBody;
use streams::Streams;

/// Requests that a client may have open at a time. More than most clients ever use; what each
/// can hold is bounded besides.
const STREAMS_MAX: u32 = 256;

/// Requests that a client may have cancelled before this server has looked at them; one more
/// ends the connection. They add up while this thread is busy: a client whose deadlines pass
/// cancels all that it has open, and opens as many anew. One that does so every 10 ms is no
/// attacker, and is heard out by a thread that was away for 160 ms. This bounds memory alone:
/// each holds its head until it is looked at, and cancelling costs this server no more than
/// asking does.
const CANCELLED_UNSEEN_MAX: usize = 16 * STREAMS_MAX as usize;

/// What a client may send of one request's body before it is read: enough for 8 Gbit/s at a
/// round trip of 1 ms.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// The same over all requests of a connection, so that one that is not read leaves room for
/// others. It also bounds what small frames may cost beside their content: h2 charges a frame
/// the bytes that it has less than 256, and ends the connection over more than half of this. So
/// a stream that waits for its answers may be full of messages of 32 bytes.
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

/// The largest frame that a client may send. Measured with tensors of 640 KB: a request takes
/// 0.66 ms of a core in frames of this size, and 1.0 ms in the usual ones of 16 KiB.
const FRAME_SIZE_MAX: u32 = 256 * 1024;

/// Of an answer, what is held ready for a client that takes it slowly.
const SEND_BUFFER_MAX: usize = 256 * 1024;

/// How often a client is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client that was told to end the connection may take to do so, while nothing it
/// asked for is being answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until either side ends it.
pub(super) async fn serve(stream: ClientStream, serving: &Arc<Serving>) {
    let state = stream.state();
    let age = Age::from_now(serving.config.connection_age_max);
    let streams = Streams::new(serving.config.write_timeout);
    let for_requests = (serving.clone(), streams.clone());
    let answer = service_fn(move |request| {
        let (serving, streams) = for_requests.clone();
        async move { Ok::<_, Infallible>(answer(&serving, &streams, request).await) }
    });
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(CANCELLED_UNSEEN_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE_MAX)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEAD_SIZE_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = told_to_leave(serving.stages.leaving.clone()) => None,
            () = told_to_close(serving.stages.closing.clone()) => None,
            () = quiet_for(serving.config.header_timeout, &streams, &state) => None,
            () = state.flooding() => None,
            () = age.over() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                // What was asked is answered. The client learns that it may ask no more, and
                // which of its requests were too late.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = connection => ended,
                    () = quiet_for(FAREWELL, &streams, &state) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection ended early");
        }
    }
    // Without their connection they end at once.
    streams.ended().await;
}

async fn answer(
    serving: &Arc<Serving>,
    streams: &Streams,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    if grpc::is_grpc(request.headers()) {
        return serving.grpc.answer(request).await.map(AnswerBody::grpc);
    }
    let rest::Answer { mut response, unread } =
        rest::answer(&*serving.node, serving.admin.as_deref(), &serving.config, request).await;
    // Says how HTTP/1.1 is to go on; here a request that is not read to its end is reset.
    response.headers_mut().remove(CONNECTION);
    if let Some(unread) = unread {
        streams.execute(async {
            unread.await;
        });
    }
    response.map(AnswerBody::rest)
}

/// Completes when the connection has carried nothing for `time`, or little longer: no request
/// was open, and an answer that was left for the client to take was not taken.
async fn quiet_for(time: Duration, streams: &Streams, state: &State) {
    /// In so many bytes there is no part of an answer worth waiting for: pings and the like.
    const NOTHING: u64 = 1024;
    /// How exactly the time is kept.
    const PARTS: u32 = 4;
    let mut quiet = 0;
    let mut before = (streams.opened(), state.written());
    while quiet < PARTS {
        tokio::time::sleep(time / PARTS).await;
        let now = (streams.opened(), state.written());
        let is_quiet = streams.open() == 0 && now.0 == before.0 && now.1 - before.1 < NOTHING;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        before = now;
    }
}
