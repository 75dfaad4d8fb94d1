//! Which server is asked, and how a connection to it comes about.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A server's address as a user writes it: `http://localhost:8000` or `localhost:8000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Authority);

/// A text that is no server's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no server's address ({reason}): expected one such as http://localhost:8000")]
pub struct InvalidTarget {
    text: String,
    reason: &'static str,
}

impl Target {
    /// Host and port, as in a `Host` header.
    pub fn authority(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidTarget { text: text.to_owned(), reason };
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| invalid("not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(invalid("TLS is not supported")),
            _ => return Err(invalid("only http:// is supported")),
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(invalid("it has a path"));
        }
        let authority = uri.into_parts().authority.ok_or_else(|| invalid("no host"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(invalid("no plain host"));
        }
        Ok(Self(authority))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// Opens connections to one server.
///
/// A trait, so that tests put a server in memory behind it and run on virtual time.
pub(crate) trait Connect: Clone + Send + Sync + 'static {
    /// The byte stream of a connection.
    type Io: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static;

    /// Host and port, as in a `Host` header.
    fn authority(&self) -> &str;

    /// Opens one connection.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// Opens TCP connections to a [`Target`] whose name has been looked up once: a lookup for each
/// connection would be measured as the server's time.
#[derive(Debug, Clone)]
pub(crate) struct TcpConnector {
    target: Target,
    addresses: Arc<[SocketAddr]>,
}

impl TcpConnector {
    pub(crate) async fn resolve(target: &Target) -> io::Result<Self> {
        let port = target.0.port_u16().unwrap_or(80);
        let host = target.0.host().trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(Self { target: target.clone(), addresses: addresses.into() })
    }
}

impl Connect for TcpConnector {
    type Io = TokioIo<TcpStream>;

    fn authority(&self) -> &str {
        self.target.authority()
    }

    async fn connect(&self) -> io::Result<Self::Io> {
        let stream = TcpStream::connect(&self.addresses[..]).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_users_write_it() {
        for (text, shown) in [
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://localhost:8000/", "http://localhost:8000"),
            ("localhost:8000", "http://localhost:8000"),
            ("10.0.0.1", "http://10.0.0.1"),
            ("[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("https://localhost", "TLS is not supported"),
            ("ftp://localhost", "only http:// is supported"),
            ("http://localhost:8000/infer", "it has a path"),
            ("http://", "not a URL"),
            ("a b", "not a URL"),
            ("http://user@host", "no plain host"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
