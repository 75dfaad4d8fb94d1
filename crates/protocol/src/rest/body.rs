//! Message bodies: collected under a limit, and sent without joining large parts.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use inferring_types::SegmentedBytes;

/// Why a body could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum BodyError<E> {
    /// It is, or declares to be, longer than the limit.
    #[error("the body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The connection failed before its end.
    #[error("the body broke off")]
    Broken(#[source] E),
}

/// What is worth reading of a body at once. A part that [`collect_segments`] leaves as it came holds
/// the memory for a whole read, so that should not be more than comes.
pub const READ_MAX: usize = 256 * 1024;

/// Collects a body of at most `limit` bytes. A body that arrived in one piece is not copied;
/// one that declares too great a length is refused before anything is read.
///
/// # Errors
/// [`BodyError`] where it is too large or breaks off.
pub async fn collect<B>(body: B, limit: usize) -> Result<Bytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut parts = Parts::of(body, limit)?;
    let Some(first) = parts.next().await? else {
        return Ok(Bytes::new());
    };
    if parts.body.is_end_stream() {
        return Ok(first);
    }
    let mut whole: Option<BytesMut> = None;
    while let Some(part) = parts.next().await? {
        let whole = whole.get_or_insert_with(|| {
            let mut joined = BytesMut::with_capacity(first.len() + part.len() + parts.announced());
            joined.extend_from_slice(&first);
            joined
        });
        whole.extend_from_slice(&part);
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

/// The same for whoever does not need the body in one piece: large parts are left as they came.
/// Small ones are copied together, for each holds all the memory that it was received in.
///
/// # Errors
/// As of [`collect`].
pub async fn collect_segments<B>(
    body: B,
    limit: usize,
) -> Result<SegmentedBytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// What is copied in a few microseconds.
    const SMALL: usize = 64 * 1024;
    let mut parts = Parts::of(body, limit)?;
    let (mut segments, mut small) = (Vec::new(), BytesMut::new());
    while let Some(part) = parts.next().await? {
        if segments.is_empty() && small.is_empty() && parts.body.is_end_stream() {
            return Ok(part.into());
        }
        if part.len() >= SMALL {
            segments.extend([std::mem::take(&mut small).freeze(), part]);
            continue;
        }
        if small.capacity() - small.len() < part.len() {
            let room = (part.len() + parts.possible()).min(SMALL);
            segments.push(std::mem::replace(&mut small, BytesMut::with_capacity(room)).freeze());
        }
        small.extend_from_slice(&part);
    }
    segments.push(small.freeze());
    Ok(segments.into_iter().collect())
}

/// What a body is made of as it comes, up to a limit.
struct Parts<B> {
    body: B,
    limit: usize,
    /// What more may come.
    left: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Parts<B> {
    fn of(body: B, limit: usize) -> Result<Self, BodyError<B::Error>> {
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        Ok(Self { body, limit, left: limit })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError<B::Error>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                let left = self.left.checked_sub(data.len());
                self.left = left.ok_or(BodyError::TooLarge { limit: self.limit })?;
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// How much more is known to come.
    fn announced(&self) -> usize {
        usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX).min(self.left)
    }

    /// How much more may come.
    fn possible(&self) -> usize {
        let most = self.body.size_hint().upper().and_then(|most| usize::try_from(most).ok());
        most.map_or(self.left, |most| most.min(self.left))
    }
}

/// A body of a few parts whose total length is known: a head in JSON, then raw tensors.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// The next part. Most bodies have no other, and so allocate nothing.
    next: Option<Bytes>,
    /// The parts after it, last first.
    rest: Vec<Bytes>,
    length: u64,
}

impl Chunks {
    /// Small tensors are copied behind the head, so that one write sends all; larger ones are
    /// sent from where they are.
    const COPY_MAX: usize = 16 * 1024;

    /// A body of one part.
    pub fn one(part: impl Into<Bytes>) -> Self {
        let part = part.into();
        let length = part.len() as u64;
        Self { next: (!part.is_empty()).then_some(part), rest: Vec::new(), length }
    }

    /// `head`, then `tensors` in order.
    pub fn new<'a>(mut head: Vec<u8>, tensors: impl Iterator<Item = &'a Bytes> + Clone) -> Self {
        let total: usize = tensors.clone().map(Bytes::len).sum();
        if total <= Self::COPY_MAX {
            head.reserve_exact(total);
            tensors.for_each(|tensor| head.extend_from_slice(tensor));
            return Self::one(head);
        }
        let length = (head.len() + total) as u64;
        let parts = std::iter::once(Bytes::from(head)).chain(tensors.cloned());
        let mut rest: Vec<Bytes> = parts.filter(|part| !part.is_empty()).collect();
        rest.reverse();
        Self { next: rest.pop(), rest, length }
    }

    /// The length in bytes of all that is still to be sent.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The parts in order.
    pub fn into_parts(self) -> impl Iterator<Item = Bytes> {
        self.next.into_iter().chain(self.rest.into_iter().rev())
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let following = self.rest.pop();
        let part = std::mem::replace(&mut self.next, following);
        self.length -= part.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let waker = std::task::Waker::noop();
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return value;
            }
        }
    }

    #[test]
    fn parts_arrive_joined_and_whole() {
        let tensors = [Bytes::from(vec![1; 20_000]), Bytes::new(), Bytes::from(vec![2; 3])];
        let body = Chunks::new(b"head".to_vec(), tensors.iter());
        assert_eq!(body.length(), 20_007);
        let whole = block_on(collect(body, 20_007)).unwrap();
        assert_eq!(whole.len(), 20_007);
        assert!(whole.starts_with(b"head\x01") && whole.ends_with(&[1, 2, 2, 2]));
    }

    #[test]
    fn one_byte_over_the_limit_is_refused() {
        assert!(block_on(collect(Chunks::one(vec![0; 10]), 10)).is_ok());
        let refused = block_on(collect(Chunks::one(vec![0; 11]), 10));
        assert!(matches!(refused, Err(BodyError::TooLarge { limit: 10 })));
    }

    /// A body that does not tell its length in advance.
    struct Unannounced(Chunks);

    impl Body for Unannounced {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
    }

    #[test]
    fn a_body_of_unknown_length_is_held_to_the_limit() {
        let tensors = [Bytes::from(vec![1; 20_000]), Bytes::from(vec![2; 20_000])];
        let body = || Unannounced(Chunks::new(Vec::new(), tensors.iter()));
        assert_eq!(block_on(collect(body(), 40_000)).unwrap().len(), 40_000);
        assert!(block_on(collect(body(), 39_999)).is_err());
        assert!(block_on(collect(body(), 19_999)).is_err());
        assert_eq!(block_on(collect_segments(body(), 40_000)).unwrap().len(), 40_000);
        assert!(block_on(collect_segments(body(), 39_999)).is_err());
    }

    #[test]
    fn large_parts_are_left_where_they_are_and_small_ones_are_put_together() {
        const KIB: usize = 1024;
        let lengths = [1, 70 * KIB, 64 * KIB, 10 * KIB, 20 * KIB, 40 * KIB, 100 * KIB, 3];
        let parts: Vec<_> = (1..).zip(lengths).map(|(n, len)| Bytes::from(vec![n; len])).collect();
        let body = || Chunks::new(Vec::new(), parts.iter());
        let bodies = [
            block_on(collect_segments(body(), usize::MAX)),
            block_on(collect_segments(Unannounced(body()), usize::MAX)),
        ];
        for segmented in bodies.map(Result::unwrap) {
            assert_eq!(segmented.segments().concat(), parts.concat());
            let lengths: Vec<_> = segmented.segments().iter().map(Bytes::len).collect();
            let expected = [1, 70 * KIB, 64 * KIB, 30 * KIB, 40 * KIB, 100 * KIB, 3];
            assert_eq!(lengths, expected);
            for (segment, part) in [(1, 1), (2, 2), (5, 6)] {
                assert_eq!(segmented.segments()[segment].as_ptr(), parts[part].as_ptr());
            }
        }
        let lone = block_on(collect_segments(Chunks::one(parts[0].clone()), 1)).unwrap();
        assert_eq!(lone.contiguous().as_ptr(), parts[0].as_ptr());
    }
}
