//! Listening, accepting, and stopping without cutting anything off.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use inferring_types::NodeAdmin;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};

use crate::clients::Clients;
use crate::config::{RepositoryControl, ServerConfig};
use crate::connection::{Serving, Stages};
use crate::public::Public;
use crate::threads::{Accepted, Threads};
use crate::{AdminNode, Node};

/// Bound addresses that are not served yet: binding fails early, before models are loaded.
pub struct Server {
    /// Never empty; the first is the one that is told.
    listeners: Vec<Bound>,
}

/// A socket that listens.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    /// Whether it listens on when this process has ended: whoever waits to be accepted then is the
    /// next one's.
    outlives: bool,
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
    /// What was handed over is something else.
    #[error("expected a socket that listens for TCP connections, got {0}")]
    NoListener(&'static str),
    /// What was handed over cannot be used.
    #[error("cannot listen on a socket that was handed over")]
    Inherited(#[source] io::Error),
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
        Ok(Self { listeners: vec![Bound { listener, address, outlives: false }] })
    }

    /// Takes a socket on which another process listens as well, and goes on listening when this one
    /// ends: a service manager. Who connects meanwhile is not refused, and waits for the next one.
    ///
    /// # Errors
    /// [`BindError::NoListener`] where it is no such socket.
    pub fn inherit(socket: OwnedFd) -> Result<Self, BindError> {
        let socket = Socket::from(socket);
        let is_internet = |domain| [Domain::IPV4, Domain::IPV6].contains(&domain);
        if !is_internet(socket.domain().map_err(not_a_socket)?) {
            return Err(BindError::NoListener("a socket of another kind"));
        }
        if socket.r#type().map_err(BindError::Inherited)? != Type::STREAM {
            return Err(BindError::NoListener("a socket for datagrams"));
        }
        if !socket.is_listener().map_err(BindError::Inherited)? {
            return Err(BindError::NoListener("a socket that does not listen"));
        }
        socket.set_nonblocking(true).map_err(BindError::Inherited)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().map_err(BindError::Inherited)?;
        info!(%address, "listening on a socket of the service manager");
        Ok(Self { listeners: vec![Bound { listener, address, outlives: true }] })
    }

    /// The addresses of both, which serve the same by the same threads.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.listeners.extend(other.listeners);
        self
    }

    /// Binds one more address, which serves the same by the same threads: for clients that
    /// expect gRPC on a port of its own.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn and_bind(self, address: &str) -> Result<Self, BindError> {
        Ok(self.and(Self::bind(address)?))
    }

    /// The address that was bound first, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners[0].address
    }

    /// The addresses that are bound besides.
    pub fn further_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners[1..].iter().map(|bound| bound.address)
    }

    /// Serves `node` until `stop` completes; then lets what is in flight finish, and returns.
    ///
    /// New connections are accepted for `drain_delay` more, and clients are told to ask elsewhere
    /// next: by `Connection: close` with each answer over HTTP/1.1, and GOAWAY over HTTP/2. After
    /// that every connection ends
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
        let node = match config.repository_control {
            RepositoryControl::Everywhere => node,
            RepositoryControl::Admin => Arc::new(Public(node)),
        };
        self.serve_with(node, None, config, stop).await
    }

    /// The same for operators, who may change the node and its models besides: with a thread and
    /// connections of its own, so that they get through when nobody else does.
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub async fn serve_admin(
        self,
        node: Arc<dyn AdminNode>,
        config: ServerConfig,
        stop: impl Future<Output = ()>,
    ) -> io::Result<usize> {
        const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
        let config = ServerConfig {
            threads: Some(NonZeroUsize::MIN),
            connections_max: CONNECTIONS_MAX,
            drain_delay: Duration::ZERO,
            ..config
        };
        let admin: Arc<dyn NodeAdmin> = node.clone();
        self.serve_with(node, Some(admin), config, stop).await
    }

    async fn serve_with(
        self,
        node: Arc<dyn Node>,
        admin: Option<Arc<dyn NodeAdmin>>,
        config: ServerConfig,
        stop: impl Future<Output = ()>,
    ) -> io::Result<usize> {
        let (leave, leaving) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        let (delay, timeout) = (config.drain_delay, config.drain_timeout);
        // All places are taken at the end, and no more than this can be taken at a time.
        let places = config.connections_max.get().min(Semaphore::MAX_PERMITS);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let limit = Arc::new(Semaphore::new(places as usize));
        let clients = Clients::new(config.client_limit());
        let count = config.thread_count();
        let stages = Stages { leaving, closing };
        let serving = Arc::new(Serving::new(node, admin, config, stages));
        let threads = Threads::start(count, &serving)?;
        let listening = |bound: Bound| {
            let listener = tokio::net::TcpListener::from_std(bound.listener)?;
            Ok(Listening { listener, outlives: bound.outlives })
        };
        let mut listeners =
            self.listeners.into_iter().map(listening).collect::<io::Result<Vec<_>>>()?;
        let drained = async {
            stop.await;
            let _ = leave.send(true);
            // No time at all is not a tick of the timer, in which more would be accepted.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        };
        accept(&mut listeners, &threads, &limit, &clients, drained).await;
        for Listening { listener, outlives } in listeners {
            if !outlives {
                accept_waiting(listener, &threads, &limit, &clients).await;
            }
        }
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

/// A [`Bound`] on the runtime.
struct Listening {
    listener: tokio::net::TcpListener,
    outlives: bool,
}

/// Accepts connections until `ended`. One that was accepted is handed over: it is nobody else's.
async fn accept(
    listeners: &mut [Listening],
    threads: &Threads,
    limit: &Arc<Semaphore>,
    clients: &Arc<Clients>,
    ended: impl Future<Output = ()>,
) {
    /// How long to wait when the system has no descriptors or memory left.
    const BACK_OFF: Duration = Duration::from_millis(50);
    let mut ended = pin!(ended);
    loop {
        let next = async {
            let permit = limit.clone().acquire_owned().await.expect("the limit is never closed");
            (permit, accept_one(listeners).await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = ended.as_mut() => return,
            next = next => next,
        };
        // No listener keeps the others from their turn.
        listeners.rotate_left(1);
        match accepted.and_then(|(stream, client)| Ok((stream.into_std()?, client))) {
            Ok((stream, client)) => match clients.admit(client.ip()) {
                Some(place) => threads.hand_over(Accepted { stream, permit, place }).await,
                None => debug!(%client, "connection closed: its client has as many as it may"),
            },
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Accepts a connection from the first listener that has one.
async fn accept_one(listeners: &[Listening]) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listening| listening.listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Accepts the connections that were made before the order to stop, and listens no more.
async fn accept_waiting(
    listener: tokio::net::TcpListener,
    threads: &Threads,
    limit: &Arc<Semaphore>,
    clients: &Arc<Clients>,
) {
    // Asked directly: the runtime may not have been told of them yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = limit.clone().try_acquire_owned()
        && let Ok((stream, client)) = listener.accept()
    {
        if let Some(place) = clients.admit(client.ip())
            && stream.set_nonblocking(true).is_ok()
        {
            threads.hand_over(Accepted { stream, permit, place }).await;
        }
    }
}

/// Errors that concern one connection which its client gave up before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Why the system does not tell what kind of socket it is.
fn not_a_socket(error: io::Error) -> BindError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOTSOCK) => BindError::NoListener("something that is no socket"),
        _ => BindError::Inherited(error),
    }
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
