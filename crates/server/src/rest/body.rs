//! Bodies as they come and go: held to their limits, and compressed where that is wanted.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use inferring_protocol::rest::headers::JSON_LENGTH;
use inferring_protocol::rest::{BodyError, Chunks, Coding, CodingError, collect, collect_segments};
use inferring_types::{Blame, Deadline, ErrorKind, SegmentedBytes, ServiceError};

use super::offload;
use crate::config::ServerConfig;
use crate::pace::Pace;

/// Reads a whole body and decompresses it; the limit holds before and after that.
pub(super) async fn receive(
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Result<Bytes, ServiceError> {
    let limit = config.body_timeout;
    let body = receive_within(limit, config, head, body).await?;
    let body = decompress_all(Deadline::after(Instant::now(), limit), config, head, body).await?;
    Ok(body.contiguous().clone())
}

/// The same of a request that is of no use after its deadline.
pub(super) async fn receive_by(
    deadline: Deadline,
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Result<SegmentedBytes, ServiceError> {
    let left = deadline.remaining(Instant::now());
    let body = receive_within(left.min(config.body_timeout), config, head, body).await?;
    decompress_all(deadline, config, head, body).await
}

async fn receive_within(
    limit: Duration,
    config: &ServerConfig,
    head: &Parts,
    body: &mut Incoming,
) -> Result<SegmentedBytes, ServiceError> {
    let size_max = size_max(config);
    let body = Paced::new(body, config.body_pace());
    // Most of it is raw tensors, which need not lie in one piece.
    let is_raw = head.headers.contains_key(JSON_LENGTH);
    let is_raw = is_raw && !head.headers.contains_key(CONTENT_ENCODING);
    let collecting = async {
        if is_raw {
            return collect_segments(body, size_max).await;
        }
        collect(body, size_max).await.map(SegmentedBytes::from)
    };
    tokio::time::timeout(limit, collecting)
        .await
        .map_err(|_| too_slow(limit, config))?
        .map_err(not_collected)
}

async fn decompress_all(
    deadline: Deadline,
    config: &ServerConfig,
    head: &Parts,
    mut body: SegmentedBytes,
) -> Result<SegmentedBytes, ServiceError> {
    let codings =
        Coding::of(&head.headers).map_err(|error| ServiceError::invalid(error.to_string()))?;
    if !body.is_empty() {
        for coding in codings.into_iter().rev() {
            let compressed = body.contiguous().clone();
            body = decompress(deadline, coding, compressed, size_max(config)).await?.into();
        }
    }
    Ok(body)
}

fn size_max(config: &ServerConfig) -> usize {
    usize::try_from(config.body_size_max.as_u64()).unwrap_or(usize::MAX)
}

/// Decompresses a body. How much comes out is not known before: what turns out to be much is
/// begun anew elsewhere.
async fn decompress(
    deadline: Deadline,
    coding: Coding,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, ServiceError> {
    const QUICK_MAX: usize = 64 * 1024;
    if body.len() <= QUICK_MAX {
        match coding.decode(&body, limit.min(QUICK_MAX)) {
            Err(CodingError::TooLarge { .. }) if limit > QUICK_MAX => {}
            decoded => return decoded.map(Bytes::from).map_err(not_decoded),
        }
    }
    let decoded = offload::run_by(deadline, true, move || coding.decode(&body, limit)).await?;
    decoded.map(Bytes::from).map_err(not_decoded)
}

/// Compresses an answer where its client wants that and it is worth the work.
///
/// Not for errors, nor for what tells of models: the HTTP library of Triton's asyncio client says
/// with every call that it takes compressed answers, and the client reads only inferences so.
pub(super) async fn compress(asked: &HeaderMap, response: Response<Chunks>) -> Response<Chunks> {
    let Some(coding) = worthwhile_coding(asked, &response) else { return response };
    let (head, body) = response.into_parts();
    let body = offload::run(is_long(&body), move || coding.encode(body)).await;
    compressed(head, coding, body)
}

/// The same of an answer that is of no use after its deadline.
///
/// # Errors
/// `DeadlineExceeded`: it was not done by then.
pub(super) async fn compress_by(
    deadline: Deadline,
    asked: &HeaderMap,
    response: Response<Chunks>,
) -> Result<Response<Chunks>, ServiceError> {
    let Some(coding) = worthwhile_coding(asked, &response) else { return Ok(response) };
    let (head, body) = response.into_parts();
    let body = offload::run_by(deadline, is_long(&body), move || coding.encode(body)).await?;
    Ok(compressed(head, coding, body))
}

fn worthwhile_coding(asked: &HeaderMap, response: &Response<Chunks>) -> Option<Coding> {
    /// What fits one packet anyway.
    const SMALL: u64 = 1024;
    let is_worth_it = response.body().length() > SMALL && response.status().is_success();
    is_worth_it.then(|| Coding::preferred(asked)).flatten()
}

fn is_long(body: &Chunks) -> bool {
    /// What is compressed in less than a millisecond.
    const QUICK_MAX: u64 = 16 * 1024;
    body.length() > QUICK_MAX
}

fn compressed(mut head: response::Parts, coding: Coding, body: Chunks) -> Response<Chunks> {
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(head, body)
}

fn too_slow(limit: Duration, config: &ServerConfig) -> ServiceError {
    if limit < config.body_timeout {
        let message = "the deadline passed before the body had arrived";
        return ServiceError::deadline_exceeded(message);
    }
    let message = format!("the body did not arrive within {limit:?}");
    ServiceError::new(ErrorKind::DeadlineExceeded, Blame::Client, message)
}

fn not_collected(error: BodyError<PacedError>) -> ServiceError {
    match error {
        BodyError::TooLarge { .. } => too_large(error.to_string()),
        BodyError::Broken(PacedError::TooSlow) => {
            let message = "the body arrives too slowly";
            ServiceError::new(ErrorKind::DeadlineExceeded, Blame::Client, message)
        }
        BodyError::Broken(PacedError::Broken(source)) => {
            ServiceError::invalid("the body is malformed or broke off").caused_by(source)
        }
    }
}

fn not_decoded(error: CodingError) -> ServiceError {
    match error {
        CodingError::TooLarge { .. } => too_large(error.to_string()),
        CodingError::Malformed { .. } => ServiceError::invalid(error.to_string()).caused_by(error),
    }
}

fn too_large(message: String) -> ServiceError {
    ServiceError::new(ErrorKind::TooLarge, Blame::Client, message)
}

/// A body whose client must keep up the pace.
pub(super) struct Paced<B> {
    body: B,
    pace: Pace,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, pace: Pace) -> Self {
        Self { body, pace }
    }
}

#[derive(Debug)]
pub(super) enum PacedError {
    TooSlow,
    Broken(hyper::Error),
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = PacedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PacedError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return self.pace.poll_too_slow(cx).map(|()| Some(Err(PacedError::TooSlow)));
        };
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref()) {
            self.pace.moved(data.len());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(PacedError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
