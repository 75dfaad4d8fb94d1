//! One connection: HTTP/1.1 with limits on what a slow or silent client may hold.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use crate::client_stream::ClientStream;
use crate::config::ServerConfig;
use crate::{Node, rest};

/// What all connections of a server have in common.
pub(crate) struct Serving {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) config: ServerConfig,
    /// Becomes true when connections are to end after the request they are at.
    pub(crate) closing: watch::Receiver<bool>,
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, serving: &Serving) {
    // Without it, an answer would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let stream = ClientStream::new(stream, &serving.config);
    let state = stream.state();
    let is_answering = AtomicBool::new(false);
    let answer = service_fn(|request| {
        is_answering.store(true, Ordering::Relaxed);
        let (is_answering, state) = (&is_answering, &state);
        async move {
            let answer = rest::answer(&*serving.node, &serving.config, request).await;
            is_answering.store(false, Ordering::Relaxed);
            if answer.headers().contains_key(CONNECTION) {
                state.expect_more();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.config.header_timeout)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told_to_close(serving.closing.clone()) => {
            connection.as_mut().graceful_shutdown();
            if !is_answering.load(Ordering::Relaxed) && !state.is_blocked() {
                // Nothing was asked that is not answered. Without this, a client in the middle
                // of a request's head would be waited for.
                return;
            }
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended early");
    }
}

/// Completes when the connection is to end after the request it is at.
async fn told_to_close(mut closing: watch::Receiver<bool>) {
    // It never fails: the other end outlives all connections.
    let _ = closing.wait_for(|&closing| closing).await;
    // A request may have come that nobody has read yet. One turn of the runtime shows it, and the
    // connection, which is asked first, takes it. It is a task that yields, since this one may be
    // woken for other reasons before that turn.
    let _ = tokio::spawn(tokio::task::yield_now()).await;
}
