//! HTTP/1.1: one request at a time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inferring_protocol::rest::READ_MAX;
use tracing::debug;

use super::age::Age;
use super::{HEAD_SIZE_MAX, Serving, told_to_close};
use crate::client_stream::{ClientStream, State};
use crate::{grpc, rest, upgrade};

/// Fields of a request's head.
const FIELDS_MAX: usize = 100;

/// Serves a connection until either side ends it.
pub(super) async fn serve(stream: ClientStream, serving: &Serving) {
    let state = stream.state();
    let age = Age::from_now(serving.config.connection_age_max);
    let is_answering = AtomicBool::new(false);
    let left = Left::default();
    // To look whether it has changed costs a request next to nothing.
    let mut leaving = serving.stages.leaving.clone();
    let was_leaving = *leaving.borrow_and_update();
    let answer = service_fn(|request: Request<Incoming>| {
        is_answering.store(true, Ordering::Relaxed);
        let (is_answering, left, state, leaving) = (&is_answering, &left, &state, &leaving);
        async move {
            let mut answer = if !names_one_host(request.version(), request.headers()) {
                rest::refuse("expected one Host field")
            } else if upgrade::is_spurious(request.version(), request.headers()) {
                rest::refuse("no other protocol is spoken here: expected no such Upgrade field")
            } else if grpc::is_path(request.uri().path()) {
                grpc::refuse_http1()
            } else {
                let (node, admin) = (&*serving.node, serving.admin.as_deref());
                let answer = rest::answer(node, admin, &serving.config, request).await;
                left.put(answer.unread, state);
                answer.response
            };
            is_answering.store(false, Ordering::Relaxed);
            if answer.headers().contains_key(CONNECTION) {
                state.expect_more();
            } else if was_leaving || leaving.has_changed().unwrap_or(true) || age.is_over() {
                // What a client sends after an answer may meet the end of the connection. So it
                // is told as long as there is time to go elsewhere.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.config.header_timeout)
        .max_header_size(HEAD_SIZE_MAX as usize)
        .max_headers(FIELDS_MAX)
        .max_buf_size(READ_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = left.beside(connection.as_mut(), &state) => ended,
        () = told_to_close(serving.stages.closing.clone()) => {
            connection.as_mut().graceful_shutdown();
            if !is_answering.load(Ordering::Relaxed) && left.is_nothing() && !state.is_blocked() {
                // Nothing was asked that is not answered. Without this, a client in the middle
                // of a request's head would be waited for.
                return;
            }
            left.beside(connection, &state).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended early");
    }
}

/// What is left of the request that was answered last, while it is thrown away.
#[derive(Default)]
struct Left(Mutex<Option<rest::Unread>>);

impl Left {
    fn put(&self, unread: Option<rest::Unread>, state: &State) {
        state.discard(unread.is_some());
        *self.lock() = unread;
    }

    fn is_nothing(&self) -> bool {
        self.lock().is_none()
    }

    /// Runs the connection, and throws away beside it what is left.
    async fn beside<C: Future>(&self, mut connection: Pin<&mut C>, state: &State) -> C::Output {
        poll_fn(|cx| {
            // First, since it may answer and leave something.
            let ended = connection.as_mut().poll(cx);
            let mut left = self.lock();
            if let Some(unread) = &mut *left
                && let Poll::Ready(is_all) = Pin::new(unread).poll(cx)
            {
                if !is_all {
                    // Without its reader the connection ends.
                    state.expect_more();
                }
                state.discard(false);
                *left = None;
            }
            ended
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Option<rest::Unread>> {
        // One task alone comes here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 9112, 3.2: a request that names no host, or two, is refused. Who forwards by the host
/// might have read another one than we would.
fn names_one_host(version: Version, fields: &HeaderMap) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    (hosts.next().is_some() || version == Version::HTTP_10) && hosts.next().is_none()
}
