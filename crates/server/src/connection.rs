//! One connection: HTTP/1.1 with limits on what a slow or silent client may hold.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

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
    let answer = service_fn(|request| async move {
        Ok::<_, Infallible>(rest::answer(&*serving.node, &serving.config, request).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.config.header_timeout)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let mut closing = serving.closing.clone();
    let told_to_close = async move { drop(closing.wait_for(|&closing| closing).await) };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told_to_close => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended early");
    }
}
