//! Listening, accepting, and stopping without cutting anything off.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use crate::Node;
use crate::config::ServerConfig;
use crate::connection::Serving;
use crate::threads::{Accepted, Threads};

/// A bound address that is not served yet: binding fails early, before models are loaded.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text is no address.
    #[error("`{0}` is no address to listen on: expected host:port, such as 127.0.0.1:8000")]
    NoAddress(String, #[source] io::Error),
    /// Another process has it.
    #[error(
        "{0} is in use by another process: stop that one, or listen elsewhere (--listen, port 0 \
         takes any free port)"
    )]
    InUse(SocketAddr, #[source] io::Error),
    /// The system refuses for another reason.
    #[error("cannot listen on {0}")]
    Refused(SocketAddr, #[source] io::Error),
}

impl Server {
    /// Connections that may wait to be accepted.
    const BACKLOG: i32 = 1024;

    /// Binds `address` (`host:port`; port 0 takes any free one).
    ///
    /// # Errors
    /// [`BindError`], which says what to do about it.
    pub fn bind(address: &str) -> Result<Self, BindError> {
        let no_address = |error| BindError::NoAddress(address.to_owned(), error);
        let resolved = address.to_socket_addrs().map_err(no_address)?.next();
        let resolved = resolved.ok_or_else(|| no_address(io::ErrorKind::NotFound.into()))?;
        let listener = listen(resolved).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(resolved, error),
            _ => BindError::Refused(resolved, error),
        })?;
        let address = listener.local_addr().map_err(|e| BindError::Refused(resolved, e))?;
        Ok(Self { listener, address })
    }

    /// The address that is bound, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `node` until `stop` completes; then lets what is in flight finish, and returns.
    ///
    /// New connections are accepted for `drain_delay` more; after that every connection ends
    /// with the request it is at, and those that take longer than `drain_timeout` are cut.
    /// Returns how many were cut.
    ///
    /// # Errors
    /// Where threads or runtimes cannot be started.
    pub async fn serve(
        self,
        node: Arc<dyn Node>,
        config: ServerConfig,
        stop: impl Future<Output = ()>,
    ) -> io::Result<usize> {
        let (close, closing) = watch::channel(false);
        let (delay, timeout) = (config.drain_delay, config.drain_timeout);
        // All places are taken at the end, and no more than this can be taken at a time.
        let places = config.connections_max.get().min(Semaphore::MAX_PERMITS);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let limit = Arc::new(Semaphore::new(places as usize));
        let count = config.thread_count();
        let threads = Threads::start(count, &Arc::new(Serving { node, config, closing }))?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let drained = async {
            stop.await;
            tokio::time::sleep(delay).await;
        };
        tokio::select! {
            () = accept(&listener, &threads, &limit) => {}
            () = drained => {}
        }
        accept_waiting(listener, &threads, &limit).await;
        let _ = close.send(true);
        let ended = tokio::time::timeout(timeout, limit.acquire_many(places)).await;
        if ended.is_ok() {
            threads.join();
            return Ok(0);
        }
        let cut = places as usize - limit.available_permits();
        warn!(connections = cut, "connections cut: they took longer than the drain time-out");
        Ok(cut)
    }
}

async fn accept(listener: &tokio::net::TcpListener, threads: &Threads, limit: &Arc<Semaphore>) {
    /// How long to wait when the system has no descriptors or memory left.
    const BACK_OFF: Duration = Duration::from_millis(50);
    loop {
        let permit = limit.clone().acquire_owned().await.expect("the limit is never closed");
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => threads.hand_over(Accepted { stream, permit }).await,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Accepts the connections that were made before the order to stop, and listens no more.
async fn accept_waiting(
    listener: tokio::net::TcpListener,
    threads: &Threads,
    limit: &Arc<Semaphore>,
) {
    // Asked directly: the runtime may not have been told of them yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = limit.clone().try_acquire_owned()
        && let Ok((stream, _)) = listener.accept()
    {
        if stream.set_nonblocking(true).is_ok() {
            threads.hand_over(Accepted { stream, permit }).await;
        }
    }
}

/// Errors that concern one connection which its client gave up before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes its address back while old connections still linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(Server::BACKLOG)?;
    let listener = TcpListener::from(socket);
    info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}
