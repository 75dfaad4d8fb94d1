//! The body of an answer: REST's or gRPC's, in parts that a client is waited for one by one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use inferring_protocol::rest::Chunks;
use tonic::Status;

use super::streams;

/// The body.
pub(super) struct AnswerBody {
    source: Source,
    /// What remains of a part that was too large.
    rest: Bytes,
}

enum Source {
    Rest(Chunks),
    Grpc(tonic::body::Body),
}

impl AnswerBody {
    /// The largest part. hyper hands a part over whole once the client allows one byte of it,
    /// and then nobody can tell any more whether it is taken.
    const PART_MAX: usize = 64 * 1024;

    pub(super) fn rest(body: Chunks) -> Self {
        Self { source: Source::Rest(body), rest: Bytes::new() }
    }

    pub(super) fn grpc(body: tonic::body::Body) -> Self {
        Self { source: Source::Grpc(body), rest: Bytes::new() }
    }

    fn give(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(Self::PART_MAX));
        streams::gives_part();
        Frame::data(data)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        streams::wants_part();
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.give(rest))));
        }
        let frame = match &mut self.source {
            Source::Rest(body) => ready!(Pin::new(body).poll_frame(cx))
                .map(|frame| frame.map_err(|never| match never {})),
            Source::Grpc(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        Poll::Ready(frame.map(|frame| match frame?.into_data() {
            Ok(data) => Ok(self.give(data)),
            Err(trailers) => Ok(trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.source {
                Source::Rest(body) => body.is_end_stream(),
                Source::Grpc(body) => body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // The length of the whole: hyper asks before it takes the first part.
            Source::Rest(body) if self.rest.is_empty() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_part_is_cut_and_arrives_whole() {
        let whole: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let mut body = AnswerBody::rest(Chunks::one(whole.clone()));
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            let part = frame.unwrap().into_data().unwrap();
            assert!(part.len() <= AnswerBody::PART_MAX);
            read.extend_from_slice(&part);
        }
        assert_eq!(read, whole);
        assert!(body.is_end_stream());
    }
}
