//! One connection to a worker.

use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use inferring_protocol::rest::{self, BodyError, Chunks};
use inferring_types::SegmentedBytes;
use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::config::ClientConfig;
use crate::places::Place;

/// Why a worker did not answer on a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("cannot connect to {address}")]
    Connect { address: String, source: std::io::Error },
    /// Its source tells who reads the chain that this is silence and no refusal.
    #[error("{address} did not accept a connection within {timeout:?}")]
    ConnectTimeout { address: String, timeout: Duration, source: std::io::Error },
    #[error("this process cannot open another connection")]
    Exhausted(#[source] std::io::Error),
    #[error("all {count} connections of this thread are in use")]
    AllInUse { count: usize },
    #[error("the connection broke off")]
    Broken(#[source] hyper::Error),
    #[error("the connection broke off, and all requests on it")]
    ChannelBroken,
    #[error("the answer is larger than the limit of {limit} bytes")]
    TooLarge { limit: usize },
}

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: ConnectionError,
    pub(crate) progress: Progress,
}

/// How far a request came that was not answered, the farthest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// Nothing of it was sent, or the worker has said that it did not look at it.
    Unsent,
    /// It was sent first on a channel on which nothing was under way, and nothing came back: the
    /// worker may have closed that while it was idle, and never have seen the request.
    Raced,
    /// The worker may have it, and may have executed it.
    Sent,
    /// The worker has begun to answer.
    Answering,
}

/// An open HTTP/1.1 connection, driven by a task on the runtime that opened it.
pub(crate) struct Connection {
    sender: SendRequest<Chunks>,
    expires: Instant,
    _place: Place,
}

impl Connection {
    /// Opens a connection to `address` (`host:port`).
    pub(crate) async fn open(
        address: &str,
        config: &ClientConfig,
        place: Place,
    ) -> Result<Self, ConnectionError> {
        let stream = connect(address, config.connect_timeout).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(rest::READ_MAX);
        let handshake = http.handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(ConnectionError::Broken)?;
        // Ends when the sender is dropped or the worker closes; the sender sees any error.
        tokio::spawn(driver);
        Ok(Self { sender, expires: Instant::now() + config.lifetime(), _place: place })
    }

    /// Whether it has been used for as long as it may.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expires <= now
    }

    /// Whether the worker has closed it, as far as that has been noticed.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether a request may be sent: the worker has not closed it, and the last answer was
    /// read to its end.
    pub(crate) async fn is_usable(&mut self) -> bool {
        self.sender.is_ready() || (!self.sender.is_closed() && self.sender.ready().await.is_ok())
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Chunks>,
        response_size_max: usize,
    ) -> Result<Response<SegmentedBytes>, Unanswered> {
        let response = self.sender.try_send_request(request).await;
        let response = response.map_err(|mut error| Unanswered {
            // Hyper gives back what it has not begun to send.
            progress: error.take_message().map_or(Progress::Sent, |_| Progress::Unsent),
            error: ConnectionError::Broken(error.into_error()),
        })?;
        let (head, body) = response.into_parts();
        let body = read(body, response_size_max).await;
        let body = body.map_err(|error| Unanswered { error, progress: Progress::Answering })?;
        Ok(Response::from_parts(head, body))
    }
}

/// Connects to `address` (`host:port`) within `timeout`.
pub(crate) async fn connect(
    address: &str,
    timeout: Duration,
) -> Result<TcpStream, ConnectionError> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    tokio::time::timeout(timeout, connect)
        .await
        .map_err(|_| ConnectionError::ConnectTimeout {
            address: address.into(),
            timeout,
            source: std::io::ErrorKind::TimedOut.into(),
        })?
        .map_err(|source| not_connected(address, source))
}

/// Why no connection came about: what this process or its host lacks is not the worker's failure.
fn not_connected(address: &str, source: std::io::Error) -> ConnectionError {
    const OWN: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    if Errno::from_io_error(&source).is_some_and(|errno| OWN.contains(&errno)) {
        return ConnectionError::Exhausted(source);
    }
    ConnectionError::Connect { address: address.into(), source }
}

async fn read(body: Incoming, limit: usize) -> Result<SegmentedBytes, ConnectionError> {
    rest::collect_segments(body, limit).await.map_err(|error| match error {
        BodyError::TooLarge { limit } => ConnectionError::TooLarge { limit },
        BodyError::Broken(error) => ConnectionError::Broken(error),
    })
}
