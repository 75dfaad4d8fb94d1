//! One connection: HTTP/1.1, HTTP/2 or frames on the same port, with limits on what a slow or silent
//! client may hold.

mod age;
mod frames;
mod http1;
mod http2;

use std::sync::Arc;
use std::time::Duration;

use inferring_types::NodeAdmin;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::client_stream::{ClientStream, Protocol};
use crate::config::ServerConfig;
use crate::{Node, grpc};

/// Bytes of a request's head, over HTTP/2 as it is decoded.
const HEAD_SIZE_MAX: u32 = 16 * 1024;

/// How long after its beginning a connection is waited for that has not asked yet, though the server
/// closes.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What all connections of a server have in common.
pub(crate) struct Serving {
    pub(crate) node: Arc<dyn Node>,
    /// Where operators are listened to.
    pub(crate) admin: Option<Arc<dyn NodeAdmin>>,
    pub(crate) config: ServerConfig,
    pub(crate) grpc: grpc::Services,
    pub(crate) stages: Stages,
}

/// How far the server is on its way to its end. Both begin as false.
#[derive(Clone)]
pub(crate) struct Stages {
    /// Becomes true with the order to stop: clients are told to ask elsewhere.
    pub(crate) leaving: watch::Receiver<bool>,
    /// Becomes true when connections are to end after the request they are at.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Serving {
    pub(crate) fn new(
        node: Arc<dyn Node>,
        admin: Option<Arc<dyn NodeAdmin>>,
        config: ServerConfig,
        stages: Stages,
    ) -> Self {
        let grpc = grpc::Services::new(&node, &config, &stages.closing);
        Self { node, admin, config, grpc, stages }
    }
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, serving: &Arc<Serving>) {
    // Without it, an answer would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let mut stream = ClientStream::new(stream, &serving.config);
    // Whoever has just connected is about to ask, and has been told by nobody to ask elsewhere.
    let patience = tokio::time::Instant::now() + FIRST_REQUEST;
    let closing = async {
        let mut closing = serving.stages.closing.clone();
        let _ = closing.wait_for(|&closing| closing).await;
        tokio::time::sleep_until(patience).await;
        told_to_close(closing).await;
    };
    // Before its first byte a client is as silent as one that never ends a request's head.
    let opening = tokio::time::timeout(serving.config.header_timeout, stream.protocol());
    let protocol = tokio::select! {
        biased;
        opened = opening => match opened {
            Ok(Ok(protocol)) => protocol,
            Ok(Err(_)) | Err(_) => return,
        },
        () = closing => return,
    };
    match protocol {
        Protocol::Http1 => http1::serve(stream, serving).await,
        Protocol::Http2 => http2::serve(stream, serving).await,
        Protocol::Frames => frames::serve(stream, serving).await,
    }
}

/// Completes when the server is ordered to stop. A client that connects after that may have
/// nowhere else to go: it is served until the server closes.
async fn told_to_leave(mut leaving: watch::Receiver<bool>) {
    if *leaving.borrow_and_update() {
        return std::future::pending().await;
    }
    // It never fails: the other end outlives all connections.
    let _ = leaving.changed().await;
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
