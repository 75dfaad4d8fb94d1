//! A few requests to a gateway or a worker, each on a connection of its own.
//!
//! Commands that look at a running system must see it as it is: no pool, no retry, no redirect,
//! and never longer than the time they were given.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use inferring_loadgen::{InvalidTarget, Target};
use inferring_protocol::rest::{self, Chunks};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A server's address, written as the target of a load is: `http://localhost:8000` or
/// `localhost:8000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Authority);

impl Address {
    /// Where a client on this machine reaches a server that listens on `listen`: one that
    /// listens on all interfaces is reached on the loopback.
    pub(crate) fn of_listener(listen: &str) -> anyhow::Result<Self> {
        match listen.parse::<SocketAddr>() {
            Ok(SocketAddr::V4(v4)) if v4.ip().is_unspecified() => {
                Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, v4.port())).into())
            }
            Ok(SocketAddr::V6(v6)) if v6.ip().is_unspecified() => {
                Ok(SocketAddr::from((Ipv6Addr::LOCALHOST, v6.port())).into())
            }
            _ => {
                let address: Self = listen.parse()?;
                ensure!(address.0.port().is_some(), "`{listen}`: the port is missing");
                Ok(address)
            }
        }
    }

    /// The port: HTTP's own where none is written.
    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(80)
    }

    /// The name or number of the host, an IPv6 address without its brackets.
    fn host(&self) -> &str {
        self.0.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The addresses behind the name.
    pub(crate) async fn resolve(&self, timeout: Duration) -> Result<Vec<SocketAddr>, HttpError> {
        if let Ok(ip) = self.host().parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port())]);
        }
        let unresolved = |reason: String| HttpError::Unresolved { address: self.clone(), reason };
        let lookup = tokio::net::lookup_host((self.host(), self.port()));
        let found: Vec<_> = tokio::time::timeout(timeout, lookup)
            .await
            .map_err(|_| unresolved(format!("no answer within {timeout:?}")))?
            .map_err(|error| unresolved(error.to_string()))?
            .collect();
        if found.is_empty() { Err(unresolved("it has no address".to_owned())) } else { Ok(found) }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        // Without the zone of an IPv6 address, which a URL does not take.
        let address = SocketAddr::new(address.ip(), address.port()).to_string();
        Address(address.parse().expect("a number and a port are host and port"))
    }
}

impl FromStr for Address {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let target: Target = text.parse()?;
        Ok(Self(target.authority().parse().expect("a target's authority is one")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// The name leads nowhere.
    #[error("the name of {address} cannot be looked up: {reason}")]
    Unresolved { address: Address, reason: String },
    /// The machine is there, and nothing listens.
    #[error("connection refused")]
    Refused,
    /// No connection for another reason.
    #[error("cannot connect: {0}")]
    Unconnected(String),
    /// Nothing came, or not all of it.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// What came is no whole HTTP answer.
    #[error("the answer broke off or is not HTTP: {0}")]
    Broken(String),
}

/// Asks for `path`, which starts with a slash.
pub(crate) async fn get(
    address: &Address,
    path: &str,
    timeout: Duration,
) -> Result<Response<Bytes>, HttpError> {
    send(address, Request::get(path).body(Chunks::default()), timeout).await
}

/// Sends a request, whose target is a path, and reads the whole answer, whatever its status.
///
/// `timeout` covers everything, from looking the name up to the last byte.
pub(crate) async fn send(
    address: &Address,
    request: http::Result<Request<Chunks>>,
    timeout: Duration,
) -> Result<Response<Bytes>, HttpError> {
    let mut request = request.map_err(|error| HttpError::Broken(error.to_string()))?;
    let host = address.0.as_str().parse().map_err(|_| HttpError::Broken("the host".to_owned()))?;
    request.headers_mut().insert(HOST, host);
    tokio::time::timeout(timeout, exchange(address, request, timeout))
        .await
        .unwrap_or(Err(HttpError::Timeout(timeout)))
}

/// An answer of more bytes is taken for a defect.
const ANSWER_SIZE_MAX: usize = 256 << 20;

async fn exchange(
    address: &Address,
    request: Request<Chunks>,
    timeout: Duration,
) -> Result<Response<Bytes>, HttpError> {
    let addresses = address.resolve(timeout).await?;
    let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => HttpError::Refused,
        _ => HttpError::Unconnected(error.to_string()),
    })?;
    // With its causes.
    let broken =
        |error: hyper::Error| HttpError::Broken(format!("{:#}", anyhow::Error::new(error)));
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Dropped with this call, and the driver with it: no connection outlives its answer.
    let mut driving = JoinSet::new();
    driving.spawn(driver);
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let body = rest::collect(body, ANSWER_SIZE_MAX).await.map_err(|error| match error {
        rest::BodyError::Broken(error) => broken(error),
        error @ rest::BodyError::TooLarge { .. } => HttpError::Broken(error.to_string()),
    })?;
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn an_address_is_host_and_port() {
        for (text, shown, host, port) in [
            ("http://localhost:8000/", "localhost:8000", "localhost", 8000),
            ("[::1]:8000", "[::1]:8000", "::1", 8000),
            ("http://example.org", "example.org", "example.org", 80),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!((address.host(), address.port()), (host, port));
        }
        assert!("http://localhost:8000/infer".parse::<Address>().is_err());
    }

    #[test]
    fn who_listens_everywhere_is_reached_on_the_loopback() {
        for (listen, shown) in [
            ("0.0.0.0:8000", "127.0.0.1:8000"),
            ("[::]:8000", "[::1]:8000"),
            ("10.0.0.1:8000", "10.0.0.1:8000"),
            ("localhost:8000", "localhost:8000"),
        ] {
            assert_eq!(Address::of_listener(listen).unwrap().to_string(), shown);
        }
        assert!(Address::of_listener("localhost").is_err());
    }

    async fn listen() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().into();
        (listener, address)
    }

    #[tokio::test]
    async fn an_error_status_is_an_answer_too() {
        let (listener, address) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            assert!(request.starts_with("get /health http/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
            let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
            stream.write_all(answer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(get(&address, "/health", PATIENCE), server);
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (503, &b"busy"[..]));
    }

    #[tokio::test]
    async fn who_never_answers_costs_the_timeout_and_no_more() {
        // The kernel accepts on behalf of a listener that never does.
        let (_listener, address) = listen().await;
        let timeout = Duration::from_millis(20);
        assert_eq!(get(&address, "/", timeout).await.unwrap_err(), HttpError::Timeout(timeout));
    }

    #[tokio::test]
    async fn refusal_silence_and_gibberish_are_told_apart() {
        let (listener, address) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(get(&address, "/", PATIENCE), server);
        assert!(matches!(answer, Err(HttpError::Broken(_))), "{answer:?}");
        drop(listener);
        assert_eq!(get(&address, "/", PATIENCE).await.unwrap_err(), HttpError::Refused);
    }
}
