//! One connection at a time to the server under load, opened again when it breaks.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use inferring_protocol::rest;

use crate::failure::Failure;
use crate::target::Connect;

/// A request, ready to send.
pub(crate) type Outgoing = Request<Full<Bytes>>;

/// An answer of this many bytes is taken for a defect, in the server or in the request.
const ANSWER_SIZE_MAX: usize = 1 << 28;

/// A client that keeps one connection open, as one of the load's concurrent users.
pub(crate) struct Session<C: Connect> {
    connector: C,
    connection: Option<Connection<C::Io>>,
    reconnects: u64,
}

impl<C: Connect> Session<C> {
    /// A session without a connection: the first request opens it.
    pub(crate) fn new(connector: C) -> Self {
        Self { connector, connection: None, reconnects: 0 }
    }

    /// Host and port of the server.
    pub(crate) fn authority(&self) -> &str {
        self.connector.authority()
    }

    /// Opens the connection ahead of the first request.
    pub(crate) async fn connect(&mut self, timeout: Duration) -> Result<(), Failure> {
        let connection = tokio::time::timeout(timeout, Connection::open(&self.connector)).await;
        self.connection = Some(connection.map_err(|_| Failure::timeout(timeout))??);
        Ok(())
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// After a time-out or an error the connection is given up: HTTP/1.1 cannot take a request
    /// back, and its late answer would be read as the next one's. A connection that the server
    /// closed while it was idle costs no error: the request was not sent yet, and goes out on a
    /// new one.
    pub(crate) async fn send(
        &mut self,
        request: Outgoing,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Failure> {
        tokio::time::timeout(timeout, self.exchange(request))
            .await
            .map_err(|_| Failure::timeout(timeout))?
    }

    /// How often a connection was opened again since this was asked last.
    pub(crate) fn take_reconnects(&mut self) -> u64 {
        std::mem::take(&mut self.reconnects)
    }

    async fn exchange(&mut self, mut request: Outgoing) -> Result<Response<Bytes>, Failure> {
        if let Some(connection) = self.connection.take() {
            match self.exchange_on(connection, request).await {
                Err(Unanswered { unsent: Some(unsent), .. }) => request = *unsent,
                answered => return answered.map_err(|unanswered| unanswered.failure),
            }
        }
        let connection = Connection::open(&self.connector).await?;
        self.reconnects += 1;
        self.exchange_on(connection, request).await.map_err(|unanswered| unanswered.failure)
    }

    async fn exchange_on(
        &mut self,
        mut connection: Connection<C::Io>,
        request: Outgoing,
    ) -> Result<Response<Bytes>, Unanswered> {
        let answer = connection.exchange(request).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// A request without an answer.
struct Unanswered {
    failure: Failure,
    /// The request, where no byte of it left.
    unsent: Option<Box<Outgoing>>,
}

/// An open HTTP/1.1 connection, driven by whoever waits for an answer on it: a task of its own
/// would cost each request two more wake-ups, and the generator's time is the server's loss.
struct Connection<I>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    sender: SendRequest<Full<Bytes>>,
    /// Gone when the connection is over: what still waits for it then learns so.
    driver: Option<http1::Connection<I, Full<Bytes>>>,
}

impl<I> Connection<I>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    async fn open<C: Connect<Io = I>>(connector: &C) -> Result<Self, Failure> {
        let io = connector.connect().await.map_err(|error| Failure::connect(&error))?;
        let (sender, driver) =
            http1::handshake(io).await.map_err(|error| Failure::exchange(&error))?;
        Ok(Self { sender, driver: Some(driver) })
    }

    async fn exchange(&mut self, request: Outgoing) -> Result<Response<Bytes>, Unanswered> {
        let Self { sender, driver } = self;
        let mut answer = pin!(talk(sender, request));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            // How it ends reaches `answer` too: as the answer, or as its error.
            if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
                *driver = None;
            }
            answer.as_mut().poll(cx)
        })
        .await
    }
}

async fn talk(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Outgoing,
) -> Result<Response<Bytes>, Unanswered> {
    if let Err(error) = sender.ready().await {
        let failure = Failure::exchange(&error);
        return Err(Unanswered { failure, unsent: Some(Box::new(request)) });
    }
    let response = sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message().map(Box::new);
        Unanswered { failure: Failure::exchange(error.error()), unsent }
    })?;
    let (head, body) = response.into_parts();
    let body = rest::collect(body, ANSWER_SIZE_MAX)
        .await
        .map_err(|error| Unanswered { failure: Failure::body(&error), unsent: None })?;
    Ok(Response::from_parts(head, body))
}
