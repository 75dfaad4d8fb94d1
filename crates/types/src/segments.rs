//! Bytes as they came over a network: in one piece, or in several that are put together only for
//! whoever needs them so.
//!
//! A body of 600 KB is received in a few parts. Most of what is done with a tensor in it, to take
//! its key, to lay its rows beside those of others, to pass it on, goes through the bytes once and
//! does not mind where they are cut. So nobody pays for one piece of memory before it is needed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

/// Shared bytes in one or several segments, none of which is empty but for the only one. Two are
/// equal where the bytes are, wherever they are cut.
#[derive(Debug, Clone)]
pub struct SegmentedBytes(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Whole(Bytes),
    Segments(Arc<Segments>),
}

/// Two segments or more.
#[derive(Debug)]
struct Segments {
    segments: Vec<Bytes>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// All of them in one piece, once somebody has asked for that.
    whole: OnceLock<Bytes>,
}

impl SegmentedBytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(Repr::Whole(Bytes::new()))
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Whole(bytes) => bytes.len(),
            Repr::Segments(segments) => segments.length(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes where they lie, in order.
    pub fn segments(&self) -> &[Bytes] {
        match &self.0 {
            Repr::Whole(bytes) => std::slice::from_ref(bytes),
            Repr::Segments(segments) => &segments.segments,
        }
    }

    /// The bytes in one piece. Where they are in several they are copied, the first time that this
    /// is asked of them or of a clone.
    pub fn contiguous(&self) -> &Bytes {
        match &self.0 {
            Repr::Whole(bytes) => bytes,
            Repr::Segments(segments) => segments.whole.get_or_init(|| {
                let mut whole = BytesMut::with_capacity(segments.length());
                segments.segments.iter().for_each(|segment| whole.extend_from_slice(segment));
                whole.freeze()
            }),
        }
    }

    /// The bytes in that range where they lie, in order.
    ///
    /// # Panics
    /// Where the range goes beyond them.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let places = self.places(range);
        places.map(|(segment, range)| &segment[range])
    }

    /// The bytes in that range, shared.
    ///
    /// # Panics
    /// Where the range goes beyond them.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.places(range).map(|(segment, range)| segment.slice(range)).collect()
    }

    /// Takes the first `at` bytes away, and leaves the others.
    ///
    /// # Panics
    /// Where there are fewer.
    #[must_use = "the bytes are taken away"]
    pub fn split_to(&mut self, at: usize) -> Self {
        let front = self.slice(0..at);
        *self = self.slice(at..self.len());
        front
    }

    /// The segments in which a range lies, and where in each.
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = (&Bytes, Range<usize>)> {
        let length = self.len();
        assert!(range.start <= range.end && range.end <= length, "{range:?} of {length} bytes");
        let ends: &[usize] = match &self.0 {
            Repr::Whole(_) => &[],
            Repr::Segments(segments) => &segments.ends,
        };
        let first = ends.partition_point(|&end| end <= range.start);
        let mut begin = first.checked_sub(1).map_or(0, |before| ends[before]);
        self.segments()[first..].iter().map_while(move |segment| {
            let start = range.start.max(begin) - begin;
            let end = range.end.checked_sub(begin)?.min(segment.len());
            begin += segment.len();
            (start < end).then_some((segment, start..end))
        })
    }
}

impl Segments {
    fn length(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }
}

impl Default for SegmentedBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Bytes> for SegmentedBytes {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Whole(bytes))
    }
}

impl From<Vec<u8>> for SegmentedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl FromIterator<Bytes> for SegmentedBytes {
    fn from_iter<I: IntoIterator<Item = Bytes>>(segments: I) -> Self {
        let mut segments = segments.into_iter().filter(|segment| !segment.is_empty());
        let first = segments.next().unwrap_or_default();
        let Some(second) = segments.next() else {
            return first.into();
        };
        let segments: Vec<_> = [first, second].into_iter().chain(segments).collect();
        let length = |sum: &mut usize, segment: &Bytes| {
            *sum += segment.len();
            Some(*sum)
        };
        let ends = segments.iter().scan(0, length).collect();
        Self(Repr::Segments(Arc::new(Segments { segments, ends, whole: OnceLock::new() })))
    }
}

impl PartialEq for SegmentedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.contiguous() == other.contiguous()
    }
}

impl Eq for SegmentedBytes {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes cut at these places.
    fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> SegmentedBytes {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        pieces.map(Bytes::copy_from_slice).collect()
    }

    proptest! {
        #[test]
        fn bytes_are_the_same_wherever_they_are_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            at in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let whole = SegmentedBytes::from(bytes.clone());
            let mut segmented = cut(&bytes, &cuts);
            prop_assert_eq!(segmented.len(), bytes.len());
            prop_assert_eq!(segmented.segments().concat(), &bytes[..]);
            prop_assert_eq!(segmented.contiguous(), &bytes);
            prop_assert_eq!(&segmented, &whole);
            let at = at.index(bytes.len() + 1);
            let range = at..at + to.index(bytes.len() - at + 1);
            let slice = segmented.slice(range.clone());
            prop_assert_eq!(slice.segments().concat(), &bytes[range.clone()]);
            let slices: Vec<_> = segmented.slices(range.clone()).collect();
            prop_assert_eq!(slices.concat(), &bytes[range]);
            let front = segmented.split_to(at);
            prop_assert_eq!(front.segments().concat(), &bytes[..at]);
            prop_assert_eq!(segmented.segments().concat(), &bytes[at..]);
            for part in [&front, &segmented] {
                prop_assert!(part.segments().len() == 1 || !part.segments().contains(&Bytes::new()));
            }
        }
    }

    #[test]
    fn what_lies_in_one_piece_is_never_copied() {
        let bytes = Bytes::from_static(b"abcdef");
        let mut whole: SegmentedBytes = [bytes.clone(), Bytes::new()].into_iter().collect();
        assert_eq!(whole.contiguous().as_ptr(), bytes.as_ptr());
        assert_eq!(whole.split_to(2).contiguous().as_ptr(), bytes.as_ptr());
        let mut halves: SegmentedBytes = [bytes.slice(..3), bytes.slice(3..)].into_iter().collect();
        assert_eq!(halves.split_to(3).contiguous().as_ptr(), bytes.as_ptr());
        assert_eq!(halves.contiguous().as_ptr(), bytes[3..].as_ptr());
    }

    #[test]
    fn what_is_put_together_is_so_for_all_who_share_it() {
        let halves: SegmentedBytes =
            [&b"abc"[..], b"def"].map(Bytes::from_static).into_iter().collect();
        let other = halves.clone();
        assert_eq!(halves.contiguous().as_ptr(), other.contiguous().as_ptr());
    }

    #[test]
    #[should_panic(expected = "0..7 of 6 bytes")]
    fn more_than_there_is_cannot_be_taken() {
        let mut halves: SegmentedBytes =
            [&b"abc"[..], b"def"].map(Bytes::from_static).into_iter().collect();
        drop(halves.split_to(7));
    }
}
