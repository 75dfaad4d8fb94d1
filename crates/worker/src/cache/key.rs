//! What makes two requests equal: a digest of all that an answer depends on.
//!
//! It is taken under a secret that this process drew for itself (HighwayHash, 256 bits), and
//! leaves the process nowhere. So nobody can look for two contents with one key, and it need not
//! withstand who knows the secret, which is what makes a cryptographic digest slow (ADR 0023).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::LazyLock;

use highway::{HighwayHash, HighwayHasher};
use inferring_types::{ContentDigest, DataType, NamedTensor, Shape, TensorName};
use smallvec::SmallVec;

use crate::system;

/// Equal keys mean equal content, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u64; 4]);

impl Key {
    /// Eight of its bytes: enough to look it up by, and not to tell it apart by.
    pub(super) fn short(self) -> u64 {
        self.0[0]
    }

    /// The key of something that is no request.
    #[cfg(test)]
    pub(crate) fn of(content: &[u8]) -> Self {
        let mut hasher = KeyHasher::new(&ContentDigest::of(b"test"));
        hasher.piece(content);
        hasher.finish()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.short());
    }
}

/// A map by keys, or by eight bytes of them: these are uniformly random already.
pub(super) type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<Uniform>>;

#[derive(Default)]
pub(super) struct Uniform(u64);

impl Hasher for Uniform {
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are hashed as one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Takes the key of a request, tensor by tensor.
///
/// Each step of the hash waits for the one before. So the blocks of large tensors go to two hashes by
/// turns, and the processor does a step of the one while it waits for the other.
#[derive(Clone)]
pub(crate) struct KeyHasher {
    hasher: HighwayHasher,
    /// As it was before the first tensor. It is between two steps then, which keeps them quick.
    begun: HighwayHasher,
    /// The two for large tensors, once there is one.
    lanes: Option<Box<[HighwayHasher; 2]>>,
    /// How much has been added of the tensor that is being added, where it is large.
    large: Option<usize>,
}

impl KeyHasher {
    /// From this many bytes on a tensor is worth two more hashes.
    const LARGE: usize = 16 * 1024;
    /// The bytes that go to the one, and then to the other: several steps, but no more than the
    /// processor looks ahead.
    const BLOCK: usize = 256;

    /// For requests whose answers depend on this as well. To clone it costs less than to make it.
    pub(crate) fn new(context: &ContentDigest) -> Self {
        static SECRET: LazyLock<[u64; 4]> = LazyLock::new(system::secret);
        Self::under(*SECRET, context)
    }

    fn under(secret: [u64; 4], context: &ContentDigest) -> Self {
        let mut hasher = HighwayHasher::new(highway::Key(secret));
        hasher.append(context.as_bytes());
        Self { begun: hasher.clone(), hasher, lanes: None, large: None }
    }

    /// Adds a tensor: name, datatype, shape and bytes. The same bytes in another shape are
    /// another content; so are `-0.0` and `0.0`, and every bit pattern of NaN.
    pub(crate) fn tensor(&mut self, input: &NamedTensor) {
        let tensor = &input.tensor;
        let length = tensor.size_bytes();
        self.tensor_in_pieces(&input.name, tensor.datatype(), tensor.shape(), length);
        tensor.segments().iter().for_each(|segment| self.piece(segment));
    }

    /// Adds a tensor whose bytes follow, `length` in all, by [`KeyHasher::piece`]. Wherever they
    /// are cut, it is the same content as the tensor in one piece.
    pub(crate) fn tensor_in_pieces(
        &mut self,
        name: &TensorName,
        datatype: DataType,
        shape: &Shape,
        length: usize,
    ) {
        let name = name.as_str().as_bytes();
        // Each part says how long it is, so that no two lists of tensors run together into the
        // same bytes.
        let numbers = [name.len() as u64, datatype as u64, shape.rank() as u64, length as u64];
        let mut head: SmallVec<[u8; 128]> = SmallVec::new();
        for number in numbers.iter().chain(shape.dimensions()) {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(name);
        self.hasher.append(&head);
        self.large = (length >= Self::LARGE).then_some(0);
        if self.large.is_some() && self.lanes.is_none() {
            self.lanes = Some(Box::new([self.begun.clone(), self.begun.clone()]));
        }
    }

    /// Adds some of the bytes of a tensor.
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        let (Some(added), Some(lanes)) = (&mut self.large, &mut self.lanes) else {
            return self.hasher.append(bytes);
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = Self::BLOCK - *added % Self::BLOCK;
            let (piece, behind) = rest.split_at(left.min(rest.len()));
            lanes[(*added / Self::BLOCK) % 2].append(piece);
            *added += piece.len();
            rest = behind;
        }
    }

    /// The key of everything added.
    pub(crate) fn finish(mut self) -> Key {
        for lane in self.lanes.into_iter().flat_map(|lanes| *lanes) {
            let digest = lane.finalize256();
            digest.iter().for_each(|word| self.hasher.append(&word.to_le_bytes()));
        }
        Key(self.hasher.finalize256())
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::Tensor;
    use proptest::prelude::*;

    use super::*;

    fn key(inputs: &[NamedTensor]) -> Key {
        let mut hasher = KeyHasher::new(&ContentDigest::of(b"model"));
        for input in inputs {
            hasher.tensor(input);
        }
        hasher.finish()
    }

    fn named(name: &str, datatype: DataType, shape: &[u64], data: &[u8]) -> NamedTensor {
        let data = bytes::Bytes::copy_from_slice(data);
        NamedTensor::new(name.into(), Tensor::new(datatype, shape.into(), data).unwrap())
    }

    #[test]
    fn all_that_makes_another_request_makes_another_key() {
        let zeros = [0; 24];
        let x = |datatype, shape: &[u64]| named("x", datatype, shape, &zeros);
        let bytes = |name, data: &[u8]| named(name, DataType::Uint8, &[data.len() as u64], data);
        let requests = [
            vec![],
            vec![x(DataType::Fp32, &[2, 3])],
            vec![x(DataType::Fp32, &[3, 2])],
            vec![x(DataType::Fp32, &[6])],
            vec![x(DataType::Fp32, &[1, 6])],
            vec![x(DataType::Int32, &[2, 3])],
            vec![named("y", DataType::Fp32, &[2, 3], &zeros)],
            vec![x(DataType::Fp32, &[2, 3]), x(DataType::Fp32, &[2, 3])],
            vec![bytes("ab", b"cd"), bytes("e", b"f")],
            vec![bytes("a", b"bcd"), bytes("e", b"f")],
            vec![bytes("ab", b"c"), bytes("de", b"f")],
            vec![bytes("e", b"f"), bytes("ab", b"cd")],
        ];
        for (at, one) in requests.iter().enumerate() {
            for other in &requests[..at] {
                assert_ne!(key(one), key(other), "{one:?} {other:?}");
            }
            assert_eq!(key(one), key(&one.clone()));
        }
    }

    #[test]
    fn another_context_or_another_secret_is_another_key() {
        let of =
            |secret, context: &[u8]| KeyHasher::under(secret, &ContentDigest::of(context)).finish();
        let key = of([1, 2, 3, 4], b"one model");
        assert_eq!(of([1, 2, 3, 4], b"one model"), key);
        assert_ne!(of([1, 2, 3, 4], b"another"), key);
        assert_ne!(of([1, 2, 3, 5], b"one model"), key);
        assert_ne!(KeyHasher::new(&ContentDigest::of(b"one model")).finish(), key);
    }

    #[test]
    fn no_secret_is_drawn_twice() {
        assert_ne!(system::secret(), system::secret());
    }

    #[test]
    fn negative_zero_and_zero_are_other_content() {
        let of = |value: f32| key(&[named("x", DataType::Fp32, &[1], &value.to_le_bytes())]);
        assert_ne!(of(0.0), of(-0.0));
        assert_eq!(of(f32::NAN), of(f32::NAN));
    }

    #[test]
    fn blocks_of_a_large_tensor_have_their_places() {
        const BLOCK: usize = KeyHasher::BLOCK;
        let random = std::iter::repeat_with(|| fastrand::u8(..));
        let blocks: Vec<u8> = random.take(KeyHasher::LARGE).collect();
        let of = |data: &[u8]| key(&[named("x", DataType::Uint8, &[data.len() as u64], data)]);
        for (first, second) in [(0, 1), (0, 2), (1, 3), (7, 12)] {
            let mut swapped = blocks.clone();
            for at in 0..BLOCK {
                swapped.swap(first * BLOCK + at, second * BLOCK + at);
            }
            assert_ne!(of(&swapped), of(&blocks), "{first} and {second}");
        }
    }

    proptest! {
        #[test]
        fn a_tensor_in_pieces_is_the_same_content(
            data in prop::collection::vec(any::<u8>(), 1..300),
            is_large in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let data = if is_large { data.repeat(KeyHasher::LARGE / data.len() + 1) } else { data };
            let whole = named("x", DataType::Uint8, &[data.len() as u64], &data);
            let mut hasher = KeyHasher::new(&ContentDigest::of(b"model"));
            let tensor = &whole.tensor;
            hasher.tensor_in_pieces(&whole.name, tensor.datatype(), tensor.shape(), data.len());
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(data.len())).collect();
            cuts.sort_unstable();
            let mut rest = &data[..];
            for length in cuts.iter().scan(0, |at, cut| Some(cut - std::mem::replace(at, *cut))) {
                let (piece, behind) = rest.split_at(length);
                hasher.piece(piece);
                rest = behind;
            }
            hasher.piece(rest);
            prop_assert_eq!(hasher.finish(), key(&[whole]));
        }

        #[test]
        fn one_changed_bit_anywhere_changes_the_key(
            data in prop::collection::vec(any::<u8>(), 1..300),
            is_large in any::<bool>(),
            position in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let data = if is_large { data.repeat(KeyHasher::LARGE / data.len() + 1) } else { data };
            let of = |data: &[u8]| key(&[named("x", DataType::Uint8, &[data.len() as u64], data)]);
            let mut changed = data.clone();
            changed[position.index(data.len())] ^= 1 << bit;
            prop_assert_ne!(of(&data), of(&changed));
        }
    }
}
